"""Films to measure on: a textured picture that moves, so that encoders have real work."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def film(path: Path, width: int, height: int, frames: int, rate: Fraction = Fraction(24)) -> Path:
    """An h264 file of `frames` frames: 1/f texture under a slow pan, with a little grain."""
    picture = _texture(height + 64, width + 128)
    draw = np.random.default_rng(1)
    with av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=rate, options={"crf": "20", "preset": "fast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for i in range(frames):
            x, y = _there_and_back(i, 128), _there_and_back(i // 2, 64)
            grain = draw.integers(-3, 4, (height, width, 1), dtype=np.int16)
            shown = picture[y : y + height, x : x + width] + grain
            frame = av.VideoFrame.from_ndarray(shown.clip(0, 255).astype(np.uint8), "rgb24")
            target.mux(stream.encode(frame))
        target.mux(stream.encode())
    return path


def _there_and_back(i: int, span: int) -> int:
    at = i % (2 * span)
    return at if at < span else 2 * span - at - 1


def _texture(height: int, width: int) -> np.ndarray:
    """[height, width, 3] int16 in 0 .. 255 whose spectrum falls as in photographs."""
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
