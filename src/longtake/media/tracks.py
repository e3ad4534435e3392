"""What a film carries beside its pictures: sound, subtitles, chapters, attachments, metadata.

All of it goes from the source to the target by packet. The only thing that is ever converted is
the text of subtitles, where a container knows no other form. Here it is decided what becomes of
each track, before any work starts; `carry.py` does it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import av

from longtake.core.media import Track, VideoInfo
from longtake.core.ports import Losses

Container = Literal["mp4", "matroska"]
How = Literal["copy", "mov_text", "subrip", "attachment", "picture"]

TEXT = frozenset({"subrip", "srt", "ass", "ssa", "webvtt", "mov_text", "text"})
PICTURES = {"mjpeg": "jpg", "png": "png", "bmp": "bmp", "gif": "gif", "webp": "webp", "tiff": "tif"}
DROPS = {"audio": "audio", "subtitle": "subtitles", "attachment": "attachments", "data": "data"}
_NAMES: dict[str, str] = {"mp4": "An mp4", "matroska": "An mkv"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """What becomes of one track of the source."""

    track: Track
    how: How


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    kept: tuple[Way, ...] = ()
    refused: tuple[str, ...] = ()
    noted: tuple[str, ...] = ()


def losses(info: VideoInfo, container: Container, drop: Sequence[str]) -> Losses:
    """What of the source `container` cannot hold, before any work."""
    found = ways(info, container, drop)
    return Losses(refused=found.refused, noted=found.noted)


def ways(info: VideoInfo, container: Container, drop: Sequence[str]) -> Ways:
    """The way of every track of the source into `container`; `drop` as in `--drop`."""
    kept: list[Way] = []
    refused: list[str] = []
    noted: list[str] = []
    for track in info.tracks:
        if DROPS.get(track.kind) in drop:
            continue
        how = _way(track, container)
        if how:
            kept.append(Way(track=track, how=how))
        elif track.kind == "data":
            noted.append(
                f"Data track {track.index} ({track.codec or 'unknown'}) is not copied; time codes "
                f"and chapters are kept as metadata."
            )
        else:
            refused.append(_refusal(track, container))
    return Ways(kept=tuple(kept), refused=tuple(refused), noted=tuple(noted))


def _way(track: Track, container: Container) -> How | None:
    if track.kind == "attachment":
        return "attachment" if container == "matroska" else None
    if track.kind == "data":
        return None
    if track.kind == "subtitle":
        if container == "mp4":
            return "mov_text" if track.codec in TEXT else None
        if track.codec == "mov_text":
            return "subrip"
    if track.kind == "video" and track.codec in PICTURES:
        return "picture" if container == "matroska" or holds(container, track.codec) else None
    return "copy" if holds(container, track.codec) and _readable(track.codec) else None


def _refusal(track: Track, container: Container) -> str:
    unknown = "a font or another file" if track.kind == "attachment" else "unknown codec"
    called = ", ".join(filter(None, (track.codec or unknown, track.language, track.title)))
    drop = DROPS.get(track.kind)
    cures = [f"--drop {drop}"] if drop else []
    if container == "mp4" and (track.kind == "attachment" or holds("matroska", track.codec)):
        cures.append("an .mkv target")
    what = "picture track" if track.kind == "video" else f"{track.kind} track"
    cure = f": {' or '.join(cures)}." if cures else "."
    return f"{_NAMES[container]} cannot hold {what} {track.index} ({called}){cure}"


@cache
def holds(container: Container, codec: str) -> bool:
    """Whether the muxer says that it takes `codec` (a name of a coder or of the codec)."""
    if codec == "":
        return False
    with av.open(io.BytesIO(), "w", format=container) as probe:
        try:
            probe.add_mux_stream(codec)
        except ValueError:
            return False
        return True


@cache
def _readable(codec: str) -> bool:
    """Whether libav has a decoder: without one PyAV cannot copy a track's header."""
    try:
        av.Codec(codec, "r")
    except (ValueError, av.FFmpegError):
        return False
    return True
