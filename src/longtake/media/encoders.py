"""libav's encoders: their names, how they are set, and which of libav's parts are there.

The wheel of PyAV has all; other builds may not. Hardware is asked by opening it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from typing import Any, Literal

import av

from longtake.core.codecs import CODECS
from longtake.core.plan import Encoder

LIBAV = {
    "x264": "libx264", "x265": "libx265", "av1": "libsvtav1", "ffv1": "ffv1", "png": "png",
    "tiff": "tiff", "nvenc-h264": "h264_nvenc", "nvenc-h265": "hevc_nvenc",
    "nvenc-av1": "av1_nvenc",
}  # fmt: skip
_DECODERS = ("h264", "hevc", "libdav1d", "vp9", "mpeg2video", "mpeg4", "prores", "ffv1", "png",
             "tiff", "mjpeg", "webp", "bmp")  # fmt: skip
_FILTERS = ("bwdif", "buffer", "buffersink")


def hardware(codec: str) -> bool:
    """Whether a codec of the command line is part of a GPU."""
    return bool(CODECS[codec].software)


def missing() -> list[str]:
    """What this build of libav lacks of what longtake uses."""
    written = [LIBAV[codec] for codec in CODECS if not hardware(codec)]
    return [
        *(f"decoder {n}" for n in _DECODERS if not _has(n, "r")),
        *(f"encoder {n}" for n in [*written, "mov_text"] if not _has(n, "w")),
        *(f"filter {n}" for n in _FILTERS if n not in av.filter.filters_available),
    ]


def decoders() -> list[str]:
    """Those of the decoders that are used most that are there, under the codecs' own names."""
    return [av.Codec(n, "r").canonical_name for n in _DECODERS if _has(n, "r")]


def lacking(codec: str) -> str | None:
    """Why this machine cannot encode with `codec`, or None where it can.

    Hardware is there if it codes one small picture.
    """
    if not _has(LIBAV[codec], "w"):
        return f"this build of libav has no {LIBAV[codec]}"
    if not hardware(codec):
        return None
    try:
        _try(codec)
    except (av.FFmpegError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        return f"{LIBAV[codec]} cannot be opened ({reason})"
    return None


def options(encoder: Encoder) -> dict[str, str]:
    """What libav's encoder is told; all of it follows from the recipe."""
    how = {"crf": str(encoder.crf), "preset": encoder.preset}
    asm = [f"asm={encoder.asm}"] if encoder.asm else []
    if encoder.codec == "x264":
        return how | ({"x264-params": asm[0]} if asm else {})
    if encoder.codec == "x265":
        # No word on stderr, none in the stream of how it was set; two frames' rows at once and more
        several = [f"pools={encoder.threads}", f"frame-threads={max(1, encoder.threads // 2)}"]
        return how | {"x265-params": ":".join(["log-level=none", "info=0", *several, *asm])}
    if encoder.codec == "av1":
        os.environ.setdefault("SVT_LOG", "0")  # or it writes its settings to stderr
        return how | {"svtav1-params": f"lp={encoder.threads}"}
    if encoder.codec == "ffv1":  # checksums in every slice, every frame a keyframe
        return {"level": "3", "slicecrc": "1", "g": "1"}
    step = 4 if encoder.codec == "nvenc-av1" else 1  # its quantisers are 0 .. 255
    return {"rc": "constqp", "qp": str(encoder.crf * step), "preset": encoder.preset}


@contextmanager
def ordinary_priority() -> Iterator[None]:
    """Around what opens an encoder: as root, libsvtav1 makes its threads and the caller's real-time
    (SCHED_FIFO 99), which starves everything else on the machine. They are made ordinary again."""
    if sys.platform != "linux" or os.sched_getscheduler(0) != os.SCHED_OTHER:
        yield
        return
    try:
        yield
    finally:
        for name in os.listdir("/proc/self/task"):
            with suppress(OSError):  # it has ended meanwhile
                if os.sched_getscheduler(int(name)) == os.SCHED_FIFO:
                    os.sched_setscheduler(int(name), os.SCHED_OTHER, os.sched_param(0))


def _try(codec: str) -> None:
    context: Any = av.CodecContext.create(LIBAV[codec], "w")
    context.width = context.height = 256
    context.pix_fmt = "yuv420p"
    context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
    frame = av.VideoFrame(256, 256, "yuv420p")
    frame.pts = 0
    if not [*context.encode(frame), *context.encode(None)]:
        raise ValueError("it gives no packet")


def _has(name: str, mode: Literal["r", "w"]) -> bool:
    try:
        av.Codec(name, mode)
    except av.codec.codec.UnknownCodecError:
        return False
    return True
