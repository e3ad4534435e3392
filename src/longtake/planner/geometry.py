"""How large the film becomes, and which of its frames a job keeps."""

from __future__ import annotations

from fractions import Fraction

from longtake.core.errors import Usage
from longtake.core.media import Chroma, VideoInfo
from longtake.core.plan import Geometry
from longtake.core.task import Upscale

SCALE_BOUNDS = (Fraction(1), Fraction(8))
LARGEST = 16384  # px of a side; what x264 and the PNG readers of the world take


def geometry_of(task: Upscale, info: VideoInfo, chroma: Chroma) -> Geometry:
    """Target size: scale x source, rounded half to even; to even numbers where chroma halves."""
    if task.scale is not None and task.height is not None:
        raise Usage("--scale and --height exclude each other: give one of them.")
    if task.height is not None:
        scale = Fraction(task.height, info.height)
    else:
        scale = task.scale or Fraction(4)
    least, most = SCALE_BOUNDS
    if not least <= scale <= most:
        raise Usage(
            f"{info.height} px to {round(info.height * scale)} px is a scale of "
            f"{float(scale):.3g}; it must lie between {least} and {most}."
        )
    width = _sized(info.width * scale, chroma in ("420", "422"))
    height = _sized(info.height * scale, chroma == "420")
    if task.height is not None and height != task.height:
        raise Usage(f"--height {task.height}: 4:2:0 video needs an even number of lines.")
    if max(width, height) > LARGEST:
        raise Usage(f"{width}x{height} px: no side may be larger than {LARGEST} px.")
    first, stop = kept(task, info)
    return Geometry(
        frames=stop - first, source=(info.width, info.height), target=(width, height), scale=scale
    )


def _sized(length: Fraction, even: bool) -> int:
    return max(2, 2 * round(length / 2)) if even else max(1, round(length))


def kept(task: Upscale, info: VideoInfo) -> tuple[int, int]:
    """The source frames [first, stop) that the task keeps. Raises Usage where there are none."""
    first, stop = task.frames
    stop = info.frames if stop is None else min(stop, info.frames)
    if info.frames and not 0 <= first < stop:
        last = "" if task.frames[1] is None else task.frames[1]
        raise Usage(
            f"--frames {first}:{last}: there is nothing in it; the source has frames "
            f"0:{info.frames}."
        )
    return first, stop
