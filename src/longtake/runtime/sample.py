"""A film made on the spot, to measure on: a textured picture that moves, so that encoders have real
work."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from longtake.core.media import Clip, Color, OutputFormat
from longtake.core.plan import Encoder
from longtake.core.plugins import find
from longtake.core.ports import Sink

_SPAN = (128, 64)  # px that the picture moves across and down before it turns back
_GRAIN = 3  # of 255
_KEPT = 8  # different pictures of grain


def film(
    path: Path, size: tuple[int, int], frames: int, rate: Fraction = Fraction(24)
) -> Path:  # fmt: skip
    """An mp4 (h264, 8 bit) of `size` (width, height) px: 1/f texture under a slow pan, with grain.

    The same call gives the same pictures.
    """
    width, height = size
    sink: Sink = find("media.sinks", "mp4")
    output = OutputFormat(
        width=width, height=height, rate=rate, time_base=1 / rate, variable=False, bits=8,
        chroma="420", color=Color(), matrix=1, full_range=False, sar=Fraction(1), rotation=0,
    )  # fmt: skip
    encoder = Encoder(codec="x264", crf=20, preset="veryfast", threads=4, asm="sse2")
    with sink.open(path, output, encoder, 0) as writer:
        for number, picture in enumerate(pictures(size, frames)):
            writer.write(Clip(pixels=picture[None], start=number), [number])
    return path


def pictures(size: tuple[int, int], frames: int) -> Iterator[NDArray[np.uint8]]:
    """The frames of the film, [height, width, 3]."""
    width, height = size
    whole = _texture(height + _SPAN[1], width + _SPAN[0])
    draw = np.random.default_rng(1)
    grain = draw.integers(-_GRAIN, _GRAIN + 1, (_KEPT, height, width, 1), dtype=np.int16)
    for i in range(frames):
        x, y = _there_and_back(i, _SPAN[0]), _there_and_back(i // 2, _SPAN[1])
        shown = whole[y : y + height, x : x + width] + grain[i % _KEPT]
        yield shown.clip(0, 255).astype(np.uint8)


def _there_and_back(i: int, span: int) -> int:
    at = i % (2 * span)
    return at if at < span else 2 * span - at - 1


def _texture(height: int, width: int) -> NDArray[np.int16]:
    """[height, width, 3] in 0 .. 255 whose spectrum falls as in photographs."""
    draw = np.random.default_rng(0)
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    fall = np.maximum(np.hypot(fy, fx), 1 / max(height, width)) ** 1.2
    planes = []
    for _ in range(3):
        waves = np.fft.rfft2(draw.standard_normal((height, width))) / fall
        plane = np.fft.irfft2(waves, s=(height, width))
        low, high = np.percentile(plane, (1, 99))
        planes.append((plane - low) / (high - low) * 255)
    return np.stack(planes, axis=-1).clip(0, 255).astype(np.int16)
