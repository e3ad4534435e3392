"""One small picture of a film, to know it by: the frame at a moment, upright and in its own shape.

HDR is shown as it is coded, without a tone curve. Where the moment lies so far behind a keyframe
that decoding up to it takes seconds, the picture that was reached by then is given.
"""

from __future__ import annotations

import time
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.reformatter import ColorRange, Interpolation
from av.video.stream import VideoStream

from longtake.core.errors import BadInput
from longtake.core.media import VideoInfo
from longtake.media import _decode, color, guard, images
from longtake.media.probe import probe
from longtake.media.stills import RGB

TALLEST = 2  # heights to a width
_USUAL = Fraction(1, 10)  # of the film; what comes before is often black
_SECONDS = 5.0  # of the processor, for the way from a keyframe
_PATIENCE = 10_000  # packets
_EARLIER = (0, 2, 10, None)  # s before the moment at which reading may begin; None: at the start
_FLAGS = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


def picture(path: Path, width: int, at: Fraction | None = None) -> RGB:
    """[h, w, 3] the frame that is shown `at` seconds into a film or a picture; the last one beyond
    its end; None: a tenth into it.

    At most `width` px wide and `TALLEST` times as high, and never larger than the film. Raises
    BadInput.
    """
    info = probe(path)
    moment = info.duration * _USUAL if at is None else at
    return _small(info, _shown(info, moment), width)


def _shown(info: VideoInfo, at: Fraction) -> av.VideoFrame:
    if info.container == "images":
        number = min(int(at * info.rate), info.frames - 1)
        return next(images.frames(info, number, number + 1))
    goal = info.start + at / info.time_base
    end = time.process_time() + _SECONDS
    found: list[av.VideoFrame] = []
    for early in _EARLIER:
        start = None if early is None else int(goal - early / info.time_base)
        frame = _reached(info, start, goal, end)
        if frame is not None:
            guard.bound(frame.width, frame.height, info.path)
            found.append(frame)
            if _behind(frame, goal) <= 0 or time.process_time() > end:
                break
    if not found:
        raise BadInput(f"{info.path}: not one frame of it can be decoded at {float(at):.3f} s.")
    return min(found, key=lambda frame: abs(_behind(frame, goal)))


def _behind(frame: av.VideoFrame, goal: Fraction) -> Fraction:
    """Ticks by which it begins too late; 0 where nothing tells it."""
    begin = _decode.raw_time(frame)
    return Fraction(0) if begin is None else begin - goal


def _reached(
    info: VideoInfo, start: int | None, goal: Fraction, end: float
) -> av.VideoFrame | None:
    """The last frame that begins at or before the goal (ticks), else the first one there is.

    Read from `start` (ticks), or from the film's start; not on after `end` (s of the processor).
    """
    container, stream = _decode.open_stream(info.path, info.stream, threads=1)
    with container:
        if start is not None and start > info.start and not _sought(container, stream, start):
            return None
        best = None
        found = _decode.frames(container, stream, _decode.Tally(), info.path, _PATIENCE)
        with closing(found):
            for frame in found:
                if best is not None and _behind(frame, goal) > 0:
                    break
                best = frame
                if time.process_time() > end:
                    break
        return best


def _sought(container: InputContainer, stream: VideoStream, start: int) -> bool:
    try:
        container.seek(start, stream=stream)
    except (FFmpegError, OverflowError):
        return False
    return True


def _small(info: VideoInfo, frame: av.VideoFrame, width: int) -> RGB:
    turns = round(info.rotation / 90) % 4
    shape = [frame.width * info.sar, Fraction(frame.height)]
    across, down = shape[::-1] if turns % 2 else shape
    share = min(Fraction(1), width / across, TALLEST * width / down)
    size = [max(1, round(across * share)), max(1, round(down * share))]
    coded = size[::-1] if turns % 2 else size
    matrix, full_range = _reading(info)
    small = frame.reformat(
        format="rgb24", width=coded[0], height=coded[1], interpolation=_FLAGS,
        src_colorspace=matrix, src_color_range=ColorRange.JPEG if full_range else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG, threads=1,
    )  # fmt: skip
    upright: RGB = np.rot90(small.to_ndarray(), turns)
    return upright


def _reading(info: VideoInfo) -> tuple[int, bool]:
    """Matrix and full range; the usual matrix where the stated one cannot be read faithfully."""
    try:
        matrix, full_range, _ = color.reading_of(info, None)
    except BadInput:
        matrix, full_range = 0, bool(info.color.full_range)
    return matrix or color.ASSUMED["bt709"], full_range
