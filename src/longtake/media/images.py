"""A folder of PNG files as a film: one file, one frame.

Frames are ordered by the last number in their name (then by name), so 9.png comes before 10.png;
gaps do not matter and are seen in `names`. Only regular files count: a link could point at a file
that is not the user's. A single .png file is a film of one frame.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import overload

import av
import numpy as np
from av.error import FFmpegError
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext

from longtake.core.errors import BadInput
from longtake.core.media import VideoInfo
from longtake.media import _facts, guard

SIGNATURE = b"\x89PNG\r\n\x1a\n"
RATE = Fraction(24)  # frames / s of a folder for which none is given
_MAX_BYTES = 1 << 30  # of one file
_NUMBER = re.compile(rb"\d+")


def is_images(path: Path) -> bool:
    """True for a folder and for a file that begins as a PNG does."""
    if path.is_dir():
        return True
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with path.open("rb") as file:
            return file.read(len(SIGNATURE)) == SIGNATURE
    except (OSError, ValueError):
        return False


class Names(Sequence[str]):
    """File names in the order of the film, as one block of bytes: some 20 bytes per frame."""

    def __init__(self, ordered: Sequence[bytes]) -> None:
        self._text = b"".join(ordered)
        self._ends = np.cumsum([0, *map(len, ordered)], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        return os.fsdecode(self._text[self._ends[at] : self._ends[at + 1]])


def names(info: VideoInfo) -> Names:
    """The file names of the frames, in order."""
    return _listing(info.path)[0]


def identity(info: VideoInfo) -> str:
    """Count, bytes and times of the files: a cheap name of their content."""
    _listing.cache_clear()
    return _listing(info.path)[2]


def folder(info: VideoInfo) -> Path:
    """Where the files lie."""
    return info.path if info.path.is_dir() else info.path.parent


def probe(path: Path, rate: Fraction | None) -> VideoInfo:
    """Describe the folder by its first frame. Raises BadInput where there is none."""
    _listing.cache_clear()
    found, size, _ = _listing(path)
    if not found:
        raise BadInput(f"{path}: there are no PNG files in this folder.")
    if len(found) > guard.MAX_FRAMES:
        raise BadInput(f"{path}: {len(found)} files; at most {guard.MAX_FRAMES} are accepted.")
    first = _decode(_decoder(), (path if path.is_dir() else path.parent) / found[0])
    shown = rate or RATE
    bits, chroma, alpha = _facts.pixels(first.format)
    return VideoInfo(
        path=path,
        container="images",
        codec="png",
        width=first.width,
        height=first.height,
        frames=len(found),
        rate=shown,
        time_base=1 / shown,
        duration=len(found) / shown,
        bits=bits,
        chroma=chroma,
        alpha=alpha,
        color=_facts.color(first, None),
        fields="progressive",
        size=size,
    )


def frames(info: VideoInfo, start: int, stop: int) -> Iterator[av.VideoFrame]:
    """Decoded frames [start, stop); pts is the position. Touches no other file.

    Raises BadInput that names the file which is missing, no PNG, damaged or of another size.
    """
    where, all_names, decoder = folder(info), names(info), _decoder()
    for position in range(start, stop):
        path = where / all_names[position]
        frame = _decode(decoder, path)
        if (frame.width, frame.height) != (info.width, info.height):
            raise BadInput(
                f"{path}: {frame.width}x{frame.height} px, but the frames before it are "
                f"{info.width}x{info.height} px: all must be of one size."
            )
        alpha = any(c.is_alpha for c in frame.format.components)
        if alpha and not info.alpha:
            raise BadInput(f"{path}: it has an alpha channel, but the frames before it have none.")
        frame.pts = position
        yield frame


def digest(info: VideoInfo) -> str:
    """SHA-256 over names, sizes and bytes of all files, in order."""
    total = hashlib.sha256()
    where = folder(info)
    for name in names(info):
        with (where / name).open("rb") as file:
            one = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{name}\0{one}\n".encode("utf-8", "surrogateescape"))
    return total.hexdigest()


@lru_cache(maxsize=2)
def _listing(path: Path) -> tuple[Names, int, str]:
    """(names in order, bytes in all, identity)."""
    if not path.is_dir():
        about = guard.regular(path)
        name = os.fsencode(path.name)
        return Names([name]), about.st_size, f"{about.st_size}-{about.st_mtime_ns}"
    found: list[tuple[int, bytes, int, int]] = []
    try:
        with os.scandir(os.fsencode(path)) as entries:
            for entry in entries:
                if not entry.name.lower().endswith(b".png") or entry.name.startswith(b"."):
                    continue
                if not entry.is_file(follow_symlinks=False):
                    raise BadInput(
                        f"{path / os.fsdecode(entry.name)}: not a regular file. Links are not "
                        "followed: put the pictures themselves into the folder."
                    )
                about = entry.stat(follow_symlinks=False)
                number = _NUMBER.findall(entry.name)
                key = int(number[-1][-18:]) if number else -1
                found.append((key, entry.name, about.st_size, about.st_mtime_ns))
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}.") from None
    found.sort()
    mark = hashlib.sha256()
    for _, name, size, changed in found:
        mark.update(name + f"\0{size}\0{changed}\n".encode())
    return Names([f[1] for f in found]), sum(f[2] for f in found), mark.hexdigest()[:32]


def _decoder() -> VideoCodecContext:
    return guard.picture_decoder("png")


def _decode(decoder: VideoCodecContext, path: Path) -> av.VideoFrame:
    about = guard.regular(path)
    if about.st_size > _MAX_BYTES:
        raise BadInput(f"{path}: {about.st_size} bytes; at most {_MAX_BYTES} are accepted.")
    data = path.read_bytes()
    if not data.startswith(SIGNATURE):
        raise BadInput(f"{path}: not a PNG file, whatever its name says.")
    if b"IEND" not in data[-64:]:
        raise BadInput(f"{path}: the file is incomplete: its end (IEND) is missing.")
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    guard.bound(width, height, path)
    packet = Packet(data)
    packet.is_keyframe = (
        True  # or libav adds the picture before it to this one (pngdec.c, P-frames)
    )
    try:
        found = decoder.decode(packet)
    except FFmpegError:
        found = []
    if not found:
        raise BadInput(f"{path}: the picture is damaged and cannot be decoded.")
    return found[0]
