"""A folder of pictures as a film: one file, one frame; PNG, TIFF, JPEG, WebP or BMP.

Frames are ordered by the last number in their name (then by name), so 9.png comes before 10.png;
gaps do not matter and are seen in `names`. Only regular files count: a link could point at a file
that is not the user's. All are of one kind. A single picture is a film of one frame.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import overload

import av
import numpy as np
from av.error import FFmpegError
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext

from longtake.core.errors import BadInput
from longtake.core.media import Chroma, Color, VideoInfo
from longtake.media import _facts, _headers, guard

RATE = Fraction(24)  # frames / s of a folder for which none is given
_MAX_BYTES = 1 << 30  # of one file
_MOST_BITS = 16
_NUMBER = re.compile(rb"\d+")


def is_images(path: Path) -> bool:
    """True for a folder and for a file that begins as a picture does."""
    if path.is_dir():
        return True
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with path.open("rb") as file:
            return _headers.kind_of(file.read(_headers.SIGNED)) is not None
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
        kinds = ", ".join(k.name for k in _headers.KINDS.values())
        raise BadInput(f"{path}: there are no pictures in this folder; what is read: {kinds}.")
    if len(found) > guard.MAX_FRAMES:
        raise BadInput(f"{path}: {len(found)} files; at most {guard.MAX_FRAMES} are accepted.")
    where = (path if path.is_dir() else path.parent) / found[0]
    kind = _kind(where)
    first, alpha = _decode(guard.picture_decoder(kind.codec, strict=kind.strict), where, kind)
    shown = rate or RATE
    bits, chroma, _ = _facts.pixels(first.format)
    return VideoInfo(
        path=path,
        container="images",
        codec=kind.codec,
        width=first.width,
        height=first.height,
        frames=len(found),
        rate=shown,
        time_base=1 / shown,
        duration=len(found) / shown,
        bits=bits,
        chroma=chroma,
        alpha=alpha,
        color=_color(chroma, first),
        rotation=first.rotation,
        fields="progressive",
        size=size,
    )


def frames(info: VideoInfo, start: int, stop: int) -> Iterator[av.VideoFrame]:
    """Decoded frames [start, stop); pts is the position. Touches no other file.

    Raises BadInput that names the file which is missing, of another kind, damaged, or of another
    size or orientation.
    """
    where, all_names, kind = folder(info), names(info), _headers.KINDS[info.codec]
    decoder = guard.picture_decoder(kind.codec, strict=kind.strict)
    for position in range(start, stop):
        path = where / all_names[position]
        frame, alpha = _decode(decoder, path, kind)
        if (frame.width, frame.height) != (info.width, info.height):
            raise BadInput(
                f"{path}: {frame.width}x{frame.height} px, but the frames before it are "
                f"{info.width}x{info.height} px: all must be of one size."
            )
        if frame.rotation != info.rotation:
            raise BadInput(
                f"{path}: it is turned by {frame.rotation} degrees, the frames before it by "
                f"{info.rotation}: all must be turned alike."
            )
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
    kinds: dict[str, bytes] = {}  # and a file of each
    try:
        with os.scandir(os.fsencode(path)) as entries:
            for entry in entries:
                ending = os.fsdecode(os.path.splitext(entry.name)[1])
                kind = _headers.named(ending)
                if kind is None or entry.name.startswith(b"."):
                    continue
                kinds.setdefault(kind.name, entry.name)
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
    _alike(path, kinds, [f[1] for f in found])
    mark = hashlib.sha256()
    for _, name, size, changed in found:
        mark.update(name + f"\0{size}\0{changed}\n".encode())
    return Names([f[1] for f in found]), sum(f[2] for f in found), mark.hexdigest()[:32]


def _alike(path: Path, kinds: dict[str, bytes], names: list[bytes]) -> None:
    """Raises BadInput where the pictures of a folder are of several kinds, or two of one name."""
    if len(kinds) > 1:
        held = ", ".join(f"{kind} ({os.fsdecode(name)})" for kind, name in kinds.items())
        raise BadInput(f"{path}: pictures of several kinds: {held}; a folder must hold one kind.")
    for one, other in pairwise(names):
        if os.path.splitext(one)[0] == os.path.splitext(other)[0]:
            raise BadInput(
                f"{path}: {os.fsdecode(one)} and {os.fsdecode(other)} differ by their suffix "
                "alone; one of them must go."
            )


def _kind(path: Path) -> _headers.Kind:
    """The kind that a file is by its content, or should be by its name."""
    guard.regular(path)
    with path.open("rb") as file:
        kind = _headers.kind_of(file.read(_headers.SIGNED)) or _headers.named(path.suffix)
    assert kind is not None  # or it would not be listed
    return kind


def _color(chroma: Chroma, first: av.VideoFrame) -> Color:
    """Colour tags; pictures that are not RGB are of full range where they state none."""
    color = _facts.color(first, None)
    if color.full_range is None and chroma != "rgb":
        return replace(color, full_range=True)
    return color


def _decode(
    decoder: VideoCodecContext, path: Path, kind: _headers.Kind
) -> tuple[av.VideoFrame, bool]:
    """The picture, and whether it has alpha."""
    about = guard.regular(path)
    if about.st_size > _MAX_BYTES:
        raise BadInput(f"{path}: {about.st_size} bytes; at most {_MAX_BYTES} are accepted.")
    data = path.read_bytes()
    if not kind.signature(data):
        raise BadInput(f"{path}: not a {kind.name} file, whatever its name says.")
    try:
        width, height, alpha = _headers.size(kind, data)
    except _headers.Refused as reason:
        raise BadInput(f"{path}: {reason}.") from None
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
    bits, _, seen = _facts.pixels(found[0].format)
    if bits > _MOST_BITS:
        raise BadInput(f"{path}: {bits} bits a component; at most {_MOST_BITS} are accepted.")
    return found[0], seen if alpha is None else alpha
