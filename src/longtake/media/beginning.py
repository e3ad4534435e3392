"""The beginning of a film as a film of its own, copied without decoding: for `longtake bench`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import av
from av.error import FFmpegError

from longtake.core.errors import BadInput
from longtake.core.media import VideoInfo
from longtake.media import _decode, guard, images

SUFFIX = ".mkv"  # holds nearly every codec


def beginning(info: VideoInfo, folder: Path, frames: int) -> Path:
    """A film in `folder` that begins as `info` does and holds at least `frames` frames, if there
    are so many; the film's stream alone. Where that cannot be copied, the film itself.

    It ends before a keyframe where one follows soon, so that no frame in it lacks another. Raises
    BadInput as reading the film does.
    """
    if info.container == "images":
        return _pictures(info, folder / "film", frames)
    path = folder / f"film{SUFFIX}"
    try:
        _copy(info, path, frames)
    except (FFmpegError, ValueError):  # a codec or times that this container cannot hold
        path.unlink(missing_ok=True)
        return info.path
    return path


def _copy(info: VideoInfo, path: Path, frames: int) -> None:
    with (
        guard.open_film(info.path) as source,
        av.open(str(path), "w", format="matroska") as target,
    ):
        if info.stream >= len(source.streams):
            raise BadInput(f"{info.path}: stream {info.stream} is gone: the file has changed.")
        stream = source.streams.video[[s.index for s in source.streams.video].index(info.stream)]
        copied = target.add_stream_from_template(stream)
        count, last = 0, None
        for packet in source.demux(stream):
            if not packet.size:
                continue
            if packet.dts is None and packet.pts is not None:  # Matroska says it late
                early = packet.pts - round(1 / stream.time_base) if stream.time_base else 0
                packet.dts = early if last is None else last + 1
            last = packet.dts
            if count >= frames + _decode.REORDER and (packet.is_keyframe or count >= 4 * frames):
                break
            packet.stream = copied
            target.mux(packet)
            count += 1


def _pictures(info: VideoInfo, path: Path, frames: int) -> Path:
    """A folder of the first pictures: hard links where the file system has them, else copies."""
    path.mkdir(exist_ok=True)
    where = images.folder(info)
    for name in images.names(info)[:frames]:
        made = path / name
        made.unlink(missing_ok=True)
        try:
            os.link(where / name, made)
        except OSError:
            shutil.copy2(where / name, made)
    return path
