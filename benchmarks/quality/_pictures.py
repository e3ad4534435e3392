"""What is measured on: clips and stills, and the small, sometimes compressed films made of them.

Films are uint8 [T, H, W, 3] RGB.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import torch
from av.video.reformatter import Interpolation
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Film = NDArray[np.uint8]

STILLS = ("astronaut", "chelsea", "coffee", "rocket", "immunohistochemistry")
LARGEST = (672, 384)
"""Width and height, px, of what is cut out of the middle of a clip."""
_EXACT = (  # as longtake reads and writes, media/color.py
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)


def original(path: Path, frames: int, multiple: int) -> Film:
    """Consecutive frames from the middle of a clip, cut to their middle, sides a multiple of px.

    Clips wider than 1280 px are reduced first by means of areas, which takes off their own
    compression: from 1920 px on to two thirds, else to a half.
    """
    with av.open(str(path)) as clip:
        first = max(0, (clip.streams.video[0].frames - frames) // 2)
        shown = islice(clip.decode(video=0), first, first + frames)
        film = np.stack([_rgb(frame) for frame in shown])
    width = film.shape[2]
    if width > 1280:
        film = _reduced_by_area(film, Fraction(2, 3) if width >= 1920 else Fraction(1, 2))
    return middle(film, multiple)


def middle(film: Film, multiple: int) -> Film:
    height, width = film.shape[1:3]
    width, height = (
        min(side, most) // multiple * multiple
        for side, most in zip((width, height), LARGEST, strict=True)
    )
    top, left = (film.shape[1] - height) // 2, (film.shape[2] - width) // 2
    return film[:, top : top + height, left : left + width]


DRAWN_SEED = 999_001
"""No training has had it."""


def drawn(frames: int, scale: int) -> dict[str, Film]:
    """Shots of 384 px that training/lite draws: a moving camera over drawn scenes, screens too."""
    from training.lite import motion
    from training.lite.canvases import make_canvas

    films = {}
    for number in range(6):
        rng = np.random.default_rng((DRAWN_SEED, number))

        def canvas(number: int = number, rng: np.random.Generator = rng) -> Film:
            return make_canvas(DRAWN_SEED, number * 16 + int(rng.integers(16)), 768)

        side = 384 // (2 * scale) * 2 * scale
        films[f"drawn {number}"] = motion.render(rng, canvas, frames, side, speed=4.0)
    return films


def still(name: str, multiple: int) -> Film:
    """One of scikit-image's pictures as a film of one frame."""
    from skimage import data

    picture: Film = getattr(data, name)()[..., :3]
    height, width = (side // multiple * multiple for side in picture.shape[:2])
    return np.ascontiguousarray(picture[None, :height, :width])


def reduced(film: Film, scale: int) -> Film:
    """Antialiased bicubic reduction, rounded."""
    size = (film.shape[1] // scale, film.shape[2] // scale)
    return pixels(
        F.interpolate(floats(film), size, mode="bicubic", antialias=True, align_corners=False)
    )


def compressed(film: Film, crf: int) -> Film:
    """The frames after x264, preset medium, 4:2:0, as longtake would write and read them."""
    writer = av.CodecContext.create("libx264", "w")
    assert isinstance(writer, av.VideoCodecContext)
    writer.height, writer.width = film.shape[1:3]
    writer.pix_fmt, writer.framerate, writer.thread_count = "yuv420p", Fraction(25), 1
    # Without asm=avx2 the encoder's output differs from run to run on processors with AVX-512.
    writer.options = {"crf": str(crf), "preset": "medium", "x264-params": "asm=avx2"}
    reader = av.CodecContext.create("h264", "r")
    assert isinstance(reader, av.VideoCodecContext)
    packets = []
    for number, picture in enumerate(film):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        coded = frame.reformat(format="yuv420p", interpolation=_EXACT)
        coded.pts = number
        packets += writer.encode(coded)
    packets += writer.encode(None)
    decoded = [frame for packet in [*packets, None] for frame in reader.decode(packet)]
    return np.stack([_rgb(frame) for frame in decoded])


def floats(film: Film) -> Tensor:
    """[T, H, W, 3] uint8 -> [T, 3, H, W] float32 in [0, 255]."""
    return torch.from_numpy(np.ascontiguousarray(film)).permute(0, 3, 1, 2).float()


def pixels(film: Tensor) -> Film:
    """The way back, clamped and rounded half up."""
    whole: Film = film.clamp(0, 255).add(0.5).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return whole


def _rgb(frame: av.VideoFrame) -> Film:
    return np.asarray(frame.to_ndarray(format="rgb24", interpolation=_EXACT), np.uint8)


def _reduced_by_area(film: Film, factor: Fraction) -> Film:
    size = (int(film.shape[1] * factor), int(film.shape[2] * factor))
    return pixels(F.interpolate(floats(film), size, mode="area"))
