"""Small frames out of large ones: reduction, blur, noise, and real H.264 and H.265 encoders through
PyAV."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Picture = NDArray[np.float32]
Rng = np.random.Generator


def _keys(x: NDArray[np.float64]) -> NDArray[np.float64]:
    x = np.abs(x)
    return np.where(
        x < 1,
        1.5 * x**3 - 2.5 * x**2 + 1,
        np.where(x < 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0.0),
    )


def _lanczos3(x: NDArray[np.float64]) -> NDArray[np.float64]:
    inside: NDArray[np.float64] = np.sinc(x) * np.sinc(x / 3) * (np.abs(x) < 3)
    return inside


def _tent(x: NDArray[np.float64]) -> NDArray[np.float64]:
    inside: NDArray[np.float64] = np.clip(1 - np.abs(x), 0, None)
    return inside


def _box(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where((x >= -0.5) & (x < 0.5), 1.0, 0.0)


KERNELS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "bicubic": _keys,  # a = -0.5, as Pillow and PyTorch reduce
    "lanczos": _lanczos3,
    "bilinear": _tent,
    "area": _box,
}


@lru_cache(maxsize=64)
def reduction(length: int, reduced: int, kernel: str) -> Picture:
    """The matrix [reduced, length] that resamples a line by the kernel, widened so that nothing
    aliases."""
    factor = length / reduced
    centres = (np.arange(reduced) + 0.5) * factor - 0.5
    weights = KERNELS[kernel]((np.arange(length)[None] - centres[:, None]) / factor)
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)


def reduce(frames: Pixels, size: int, kernel: str) -> Picture:
    """[T, S, S, 3] uint8 -> [T, size, size, 3] float32 in [0, 255], not rounded and not clipped."""
    matrix = reduction(frames.shape[1], size, kernel)
    high = frames.shape[1]
    reduced = np.empty((len(frames), size, size, 3), np.float32)
    for t, frame in enumerate(frames):
        rows = matrix @ frame.reshape(high, high * 3).astype(np.float32)
        columns = np.ascontiguousarray(rows.reshape(size, high, 3).transpose(1, 0, 2)).reshape(
            high, size * 3
        )
        reduced[t] = (matrix @ columns).reshape(size, size, 3).transpose(1, 0, 2)
    return reduced


def shrink(rng: Rng, frames: Pixels, size: int, blur: float) -> Picture:
    """Reduce by a kernel drawn at random, with probability `blur` after an uneven Gaussian blur."""
    factor = frames.shape[1] / size
    if rng.random() < blur:
        kernel = _gaussian(rng, factor)
        frames = np.stack(
            [cv2.filter2D(f, -1, kernel, borderType=cv2.BORDER_REFLECT) for f in frames]
        )
    return reduce(frames, size, str(rng.choice(list(KERNELS), p=(0.85, 0.05, 0.04, 0.06))))


def _gaussian(rng: Rng, factor: float) -> Picture:
    reach = 5
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    angle, spread = rng.uniform(0, np.pi), rng.uniform(0.15, 0.42, 2) * factor
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kernel = np.exp(-0.5 * ((along / spread[0]) ** 2 + (across / spread[1]) ** 2))
    return np.asarray(kernel / kernel.sum(), np.float32)


def add_noise(rng: Rng, frames: Picture) -> Picture:
    """Sensor noise in [0, 255], grey or coloured, even or growing with the root of the light."""
    channels = 1 if rng.random() < 0.4 else 3
    grain = rng.standard_normal((*frames.shape[:3], channels), np.float32) * np.float32(
        rng.random() ** 2 * 15
    )
    light = np.sqrt(np.clip(frames, 0, 255) / 255) if rng.random() < 0.5 else np.float32(1)
    return frames + grain * light


def to_pixels(frames: Picture) -> Pixels:
    return np.asarray(np.clip(frames + 0.5, 0, 255), np.uint8)


SMALLEST_H265 = 96
"""Side in px below which x265 is left out: under 64 px, its largest coding unit, its output was
seen to differ from run to run and its heap to be corrupted (PyAV 18.1.0's wheel)."""


def draw_codec(rng: Rng, side: int) -> tuple[str, dict[str, str]]:
    """An encoder for frames of `side` px and its options, from nearly transparent to heavily
    compressed."""
    if rng.random() < 0.8 or side < SMALLEST_H265:
        preset = str(
            rng.choice(["superfast", "veryfast", "fast", "medium"], p=(0.1, 0.25, 0.25, 0.4))
        )
        # Without asm=avx2 the encoder's output differs from run to run on processors with AVX-512.
        return "libx264", {
            "crf": f"{rng.uniform(17, 34):.1f}",
            "preset": preset,
            "x264-params": "asm=avx2",
        }
    preset = str(rng.choice(["superfast", "veryfast", "fast"]))
    return "libx265", {
        "crf": f"{rng.uniform(19, 34):.1f}",
        "preset": preset,
        "x265-params": "log-level=none:pools=none:frame-threads=1",
    }


EXACT = (  # as longtake itself converts, media/color.py
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)
FAST = Interpolation.BILINEAR  # repeats chroma samples


def through_codec(
    frames: Pixels, encoder: str, options: dict[str, str], conversion: Interpolation = EXACT
) -> Pixels:
    """[T, H, W, 3] uint8 RGB -> the same frames after encoding as 4:2:0 and decoding. H and W
    even."""
    writer = av.CodecContext.create(encoder, "w")
    assert isinstance(writer, av.VideoCodecContext)
    writer.height, writer.width = frames.shape[1:3]
    writer.pix_fmt, writer.options, writer.thread_count = "yuv420p", options, 1
    writer.framerate = Fraction(25)
    reader = av.CodecContext.create("h264" if encoder == "libx264" else "hevc", "r")
    assert isinstance(reader, av.VideoCodecContext)
    reader.thread_count = 1
    packets = []
    for t, pixels in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame = frame.reformat(format="yuv420p", interpolation=conversion)
        frame.pts = t
        packets += writer.encode(frame)
    packets += writer.encode(None)
    decoded = [frame for packet in [*packets, None] for frame in reader.decode(packet)]
    if len(decoded) != len(frames):
        raise RuntimeError(f"{encoder} took {len(frames)} frames and gave {len(decoded)}")
    return np.stack(
        [frame.to_ndarray(format="rgb24", interpolation=conversion) for frame in decoded]
    )
