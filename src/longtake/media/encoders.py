"""Which of libav's parts are there: the wheel of PyAV has all, other builds may not."""

from __future__ import annotations

from typing import Literal

import av

_DECODERS = ("h264", "hevc", "libdav1d", "vp9", "mpeg2video", "mpeg4", "prores", "ffv1", "png")
_ENCODERS = ("libx264", "ffv1", "png", "mov_text")
_FILTERS = ("bwdif", "buffer", "buffersink")


def missing() -> list[str]:
    """What this build of libav lacks of what longtake uses."""
    return [
        *(f"decoder {n}" for n in _DECODERS if not _has(n, "r")),
        *(f"encoder {n}" for n in _ENCODERS if not _has(n, "w")),
        *(f"filter {n}" for n in _FILTERS if n not in av.filter.filters_available),
    ]


def _has(name: str, mode: Literal["r", "w"]) -> bool:
    try:
        av.Codec(name, mode)
    except av.codec.codec.UnknownCodecError:
        return False
    return True
