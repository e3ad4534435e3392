"""From libav's formats and frames to the nouns of core: bits, chroma, colour tags, fields."""

from __future__ import annotations

import re
from fractions import Fraction

import av
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat
from av.video.stream import VideoStream

from longtake.core.media import UNSPECIFIED, Chroma, Color, FieldOrder

_CLOCK = re.compile(r"(\d{1,6}):(\d\d):(\d\d(?:\.\d{1,12})?)", re.ASCII)
_FIELD_ORDERS: dict[int, FieldOrder] = {1: "progressive", 2: "tff", 3: "bff", 4: "bff", 5: "tff"}
"""AVFieldOrder: by the field that is *shown* first (TB: top coded, bottom shown first)."""


def pixels(form: VideoFormat) -> tuple[int, Chroma, bool]:
    """(bits per component, chroma, alpha) of a pixel format.

    A chroma format between two of ours (4:1:1, 4:1:0, 4:4:0) is named by the next richer one.
    """
    alpha = any(c.is_alpha for c in form.components)
    shown = [c for c in form.components if not c.is_alpha]
    bits = max([8, *(c.bits for c in shown)])
    if form.has_palette or form.is_rgb or form.name.startswith(("gbr", "xyz", "bayer")):
        return (8 if form.has_palette else bits), "rgb", alpha and not form.has_palette
    if len(shown) < 3:
        return bits, "gray", alpha
    across, down = form.chroma_width(64), form.chroma_height(64)
    if across < 64 and down < 64:
        return bits, "420", alpha
    return bits, "422" if across < 64 else "444", alpha


def color(frame: av.VideoFrame | None, context: VideoCodecContext | None) -> Color:
    """Colour tags as the decoded frame states them, else as the header does."""

    def tag(of_frame: str, of_header: str) -> int:
        for holder, name in ((frame, of_frame), (context, of_header)):
            value = int(getattr(holder, name)) if holder is not None else UNSPECIFIED
            if value != UNSPECIFIED:
                return value
        return UNSPECIFIED

    span = {1: False, 2: True}
    full = span.get(int(frame.color_range)) if frame is not None else None
    if full is None and context is not None:
        full = span.get(int(context.color_range))
    if full is None and frame is not None and frame.format.name.startswith("yuvj"):
        full = True
    primaries = tag("color_primaries", "color_primaries")
    transfer = tag("color_trc", "color_trc")
    return Color(
        matrix=tag("colorspace", "colorspace"),
        primaries=primaries or UNSPECIFIED,  # 0 is reserved for these two
        transfer=transfer or UNSPECIFIED,
        full_range=full,
    )


def fields(frame: av.VideoFrame | None, context: VideoCodecContext) -> FieldOrder:
    """Interlacing as the header and the first frame tell it."""
    stated = _FIELD_ORDERS.get(context.field_order, "unknown")
    if frame is None or stated in ("tff", "bff"):
        return stated
    if frame.interlaced_frame:
        return "tff"
    return "progressive"


def duration(stream: VideoStream) -> Fraction:
    """Seconds of the stream itself: by its header, or by its tag (Matroska); 0 if unknown."""
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    tag = _CLOCK.fullmatch(stream.metadata.get("DURATION", ""))
    if not tag:
        return Fraction(0)
    hours, minutes, seconds = tag.groups()
    return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)


def ratio(value: Fraction | None) -> Fraction:
    """A sample aspect ratio; 1 where none or nonsense is stated."""
    return value if value and value > 0 else Fraction(1)
