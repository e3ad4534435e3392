"""What can be told of a container without libav: the outer boxes of mp4, Matroska and AVI.

Enough to say that the end of a file is missing, and why a file cannot be opened. Reads a few
headers, never the payload; every loop is bounded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from longtake.core.errors import BadInput

_MAX_BOXES = 100_000
_MAX_SAMPLES = 10_000_000  # of one table, unless the file is large enough to hold them
_PLAYLISTS = {
    b"#EXTM3U": "an HLS playlist",
    b"ffconcat": "an ffconcat playlist",
    b"v=0": "an SDP session description",
    b"<?xml": "an XML file",
    b"<MPD": "a DASH manifest",
    b"[playlist]": "a playlist",
}
_PARENTS = (b"moov", b"trak", b"mdia", b"minf", b"stbl")


def refuse(path: Path) -> None:
    """Raises BadInput for text that points elsewhere and for sample tables that cannot be true."""
    with path.open("rb") as file:
        head = file.read(16).removeprefix(b"\xef\xbb\xbf")
        for magic, what in _PLAYLISTS.items():
            if head.startswith(magic):
                raise BadInput(f"{path}: this is {what}, not a film.")
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            _refuse_tables(file, path)


def reason(path: Path, error: Exception) -> str:
    """Why libav could not open the file, in words."""
    with path.open("rb") as file:
        head = file.read(16)
        if head[4:8] == b"ftyp" and not any(kind == b"moov" for kind, _, _ in boxes(file)):
            return (
                "moov atom not found: the file is incomplete. Its header would stand at the end; "
                "copy or download it again."
            )
    if isinstance(error, av_exit()):
        return "reading its header took too long."
    if isinstance(error, MemoryError):
        return "its header asks for more memory than there is."
    if not any(head.strip(b"\0")):
        return "not a video file (it begins with zeros)."
    return "not a video file of an accepted format, or damaged beyond reading."


def av_exit() -> type[Exception]:
    """libav's error for a read that took too long."""
    from av.error import ExitError

    return ExitError


def overhang(path: Path) -> int:
    """Bytes that the outermost boxes promise beyond the end of the file; 0 if none is missing."""
    size = os.path.getsize(path)
    with path.open("rb") as file:
        head = file.read(12)
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp"):
            return max([0, *(at + length - size for _, at, length in boxes(file))])
        if head[:4] == b"\x1a\x45\xdf\xa3":
            return _ebml_overhang(file, size)
        if head[:4] == b"RIFF":
            return _riff_overhang(file, size)
    return 0


def boxes(file: BinaryIO, at: int = 0, stop: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """(type, offset, length in bytes) of the ISO boxes in [at, stop); ISO/IEC 14496-12, 4.2."""
    end = os.fstat(file.fileno()).st_size if stop is None else stop
    for _ in range(_MAX_BOXES):
        file.seek(at)
        head = file.read(16)
        if at >= end or len(head) < 8:
            return
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1 and len(head) == 16:
            length = int.from_bytes(head[8:16], "big")
        elif length == 0:
            length = end - at
        if length < 8:
            return
        yield kind, at, length
        at += length


def _refuse_tables(file: BinaryIO, path: Path) -> None:
    """A sample table whose samples of equal size do not fit in the file would eat the memory."""
    size = os.fstat(file.fileno()).st_size
    waiting = [(0, size, 0)]
    while waiting:
        at, stop, depth = waiting.pop()
        for kind, start, length in boxes(file, at, stop):
            if kind in _PARENTS and depth < 8:
                waiting.append((start + 8, min(start + length, stop), depth + 1))
            elif kind == b"stsz":
                file.seek(start + 12)
                table = file.read(8)
                each, count = int.from_bytes(table[:4], "big"), int.from_bytes(table[4:], "big")
                if count > _MAX_SAMPLES and count * (each or 4) > 16 * size:
                    raise BadInput(
                        f"{path}: its sample table states {count} samples, which do not fit into "
                        f"{size} bytes. The header is damaged or forged, or most of the file is "
                        "missing."
                    )


def _ebml_overhang(file: BinaryIO, size: int) -> int:
    """RFC 8794: the header element, then the Segment, whose length is known or all ones."""
    at = 0
    for _ in range(16):
        file.seek(at)
        ident, used = _vint(file.read(8), keep_marker=True)
        file.seek(at + used)
        length, more = _vint(file.read(8), keep_marker=False)
        if not used or not more:
            return 0
        if length == (1 << (7 * more)) - 1:
            return 0  # not known: a live recording
        at += used + more + length
        if ident == 0x18538067:
            return max(0, at - size)
        if at >= size:
            return 0
    return 0


def _vint(data: bytes, *, keep_marker: bool) -> tuple[int, int]:
    """(value, bytes used) of an EBML variable-size integer; (0, 0) where there is none."""
    if not data or not data[0]:
        return 0, 0
    used = 9 - data[0].bit_length()
    value = int.from_bytes(data[:used], "big")
    return (value if keep_marker else value & ((1 << (7 * used)) - 1)), used


def _riff_overhang(file: BinaryIO, size: int) -> int:
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(8)
        if head[:4] != b"RIFF":
            break
        at += 8 + int.from_bytes(head[4:8], "little")
    return max(0, at - size)
