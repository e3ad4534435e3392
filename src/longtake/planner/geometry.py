"""How large the film becomes, and which of its frames a job keeps."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

from longtake.core.errors import Usage
from longtake.core.media import Chroma, VideoInfo
from longtake.core.plan import Geometry
from longtake.core.task import Upscale

SCALE_BOUNDS = (Fraction(1), Fraction(8))
LARGEST = 16384  # px of a side; what x264 and the PNG readers of the world take
IVTC = Fraction(4, 5)  # film frames to frames of a telecined source
_TELECINED = 27  # frames/s: less than this is the average of a film with repeat flags
NARROWEST = 16  # px that --pre-width may ask for


def read_size(task: Upscale, info: VideoInfo) -> tuple[int, int]:
    """(width, height) px of the frames that the engine sees: as coded, or reduced by --pre-width.

    The width is what was asked, in coded pixels as --height is; the height keeps the aspect,
    rounded half to even. Both sides shrink alike, so a sample aspect ratio stays true. A source
    that is no wider than asked stays as it is.
    """
    if task.pre_width is None or not reduces(task, info):
        return info.width, info.height
    if task.pre_width < NARROWEST:
        raise Usage(f"--pre-width {task.pre_width}: at least {NARROWEST} px.")
    return task.pre_width, max(1, round(Fraction(info.height * task.pre_width, info.width)))


def reduces(task: Upscale, info: VideoInfo) -> bool:
    """Whether --pre-width makes this source smaller; it never enlarges."""
    return task.pre_width is not None and task.pre_width < info.width


def geometry_of(task: Upscale, info: VideoInfo, chroma: Chroma) -> Geometry:
    """Target size: scale x `read_size`, rounded half to even, even where chroma is halved."""
    given_width, given_height = read_size(task, info)
    if task.scale is not None and task.height is not None:
        raise Usage("--scale and --height exclude each other: give one of them.")
    if task.height is not None:
        scale = Fraction(task.height, given_height)
    else:
        scale = task.scale or Fraction(4)
    least, most = SCALE_BOUNDS
    if not least <= scale <= most:
        raise Usage(
            f"{given_height} px to {round(given_height * scale)} px is a scale of "
            f"{float(scale):.3g}; it must lie between {least} and {most}."
        )
    width = _sized(given_width * scale, chroma in ("420", "422"))
    height = _sized(given_height * scale, chroma == "420")
    if task.height is not None and height != task.height:
        raise Usage(f"--height {task.height}: 4:2:0 video needs an even number of lines.")
    if max(width, height) > LARGEST:
        raise Usage(f"{width}x{height} px: no side may be larger than {LARGEST} px.")
    first, stop = kept(task, info)
    return Geometry(
        frames=stop - first, source=(given_width, given_height), target=(width, height), scale=scale
    )


def _sized(length: Fraction, even: bool) -> int:
    return max(2, 2 * round(length / 2)) if even else max(1, round(length))


def kept(task: Upscale, info: VideoInfo) -> tuple[int, int]:
    """The frames [first, stop) that the task keeps, of the film as it is read: with ivtc, those
    that are left of the source's. Raises Usage where there are none."""
    first, stop = task.frames
    frames = _film_frames(task, info)
    stop = frames if stop is None else min(stop, frames)
    if frames and not 0 <= first < stop:
        last = "" if task.frames[1] is None else task.frames[1]
        left = " after ivtc" if task.deinterlace == "ivtc" else ""
        raise Usage(
            f"--frames {first}:{last}: there is nothing in it; the source has frames "
            f"0:{frames}{left}."
        )
    return first, stop


def _film_frames(task: Upscale, info: VideoInfo) -> int:
    """Frames of the film as it is read; with ivtc an estimate until the film is analysed."""
    if task.deinterlace != "ivtc":
        return info.frames
    if info.exact and info.telecine is not None:
        return info.telecine.frames
    return ceil(info.frames * film_rate(task, info) / info.rate)


def film_rate(task: Upscale, info: VideoInfo) -> Fraction:
    """Frames/s of the film as it is read, as far as the header tells; the analysed index knows.

    Soft telecine has the film's own frames already: its average rate is not to be reduced.
    """
    if task.deinterlace != "ivtc" or info.rate < _TELECINED:
        return info.rate
    return info.rate * IVTC
