"""Make the example clip: camera moves over three photographs of free licence, with sound.

    python examples/make_clip.py build/demo/clip.mp4

120 frames of 320x180 at 24000/1001 frames/s, two hard cuts, h264 and stereo aac. The photographs
come with scikit-image (examples/README.md says whose they are), so nothing is downloaded. Equal
on every run: one encoder thread and no assembly, which x264 needs for that.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray
from PIL import Image
from skimage import data

WIDTH, HEIGHT = 320, 180  # px
RATE = Fraction(24000, 1001)  # frames/s
SOUND_RATE = 48_000  # samples/s
BT709 = 1  # the code of BT.709 for primaries and transfer in H.264

Window = tuple[float, float, float]  # left, top, width; px of the photograph; height is 9/16 width


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A camera move over a photograph, eased at both ends."""

    photograph: str  # name in skimage.data
    frames: int
    start: Window
    stop: Window


MOVES = (
    Move(photograph="coffee", frames=40, start=(0, 30, 500), stop=(88, 74, 430)),
    Move(photograph="astronaut", frames=40, start=(50, 200, 420), stop=(20, 10, 420)),
    Move(photograph="chelsea", frames=40, start=(1, 20, 449), stop=(86, 34, 330)),
)
CHORD = (130.81, 196.00, 261.63, 329.63, 493.88)  # Hz: C major seventh, spread out


def pictures(move: Move) -> list[Image.Image]:
    """The frames of one move, resampled from the photograph with an antialiasing Lanczos."""
    photograph = Image.fromarray(getattr(data, move.photograph)())
    frames = []
    for at in np.linspace(0.0, 1.0, move.frames):
        eased = at * at * (3 - 2 * at)
        left, top, width = (a + (b - a) * eased for a, b in zip(move.start, move.stop, strict=True))
        box = (left, top, left + width, top + width * HEIGHT / WIDTH)
        frames.append(photograph.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS, box=box))
    return frames


def sound(seconds: Fraction) -> NDArray[np.float32]:
    """A soft chord that drifts from left to right; float32 [2, samples] in -1..1."""
    t = np.arange(round(seconds * SOUND_RATE)) / SOUND_RATE
    total = float(seconds)
    mixed = np.zeros((2, t.size))
    for k, pitch in enumerate(CHORD):
        swell = 0.75 + 0.25 * np.sin(2 * np.pi * (0.2 + 0.06 * k) * t + k)
        tone = np.sin(2 * np.pi * pitch * t) + 0.2 * np.sin(4 * np.pi * pitch * t + k)
        turn = np.pi / 4 + (np.pi / 6) * np.cos(2 * np.pi * t / total + k)
        mixed += swell * tone / (1 + k) * np.stack([np.cos(turn), np.sin(turn)])
    fade = np.clip(np.minimum(t / 0.6, (total - t) / 1.2), 0, 1)
    mixed *= 0.5 * fade / np.abs(mixed).max()
    return mixed.astype(np.float32)


def write(path: Path) -> None:
    """Write the clip; both streams are interleaved by the muxer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    moves = [pictures(move) for move in MOVES]
    with av.open(str(path), "w", format="mp4") as film:
        film.metadata.update(
            title="longtake example", comment="Photographs: see examples/README.md"
        )
        video = film.add_stream("libx264", rate=RATE)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.colorspace = Colorspace.ITU709
        video.codec_context.color_range = ColorRange.MPEG
        video.codec_context.color_primaries = video.codec_context.color_trc = BT709
        video.codec_context.thread_count = 1
        video.options = {"crf": "14", "preset": "medium", "x264-params": "asm=0"}
        audio = film.add_stream("aac", rate=SOUND_RATE, layout="stereo")
        audio.bit_rate = 128_000

        for picture in (picture for move in moves for picture in move):
            frame = av.VideoFrame.from_ndarray(np.asarray(picture), "rgb24").reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            film.mux(video.encode(frame))
        film.mux(video.encode())

        samples = sound(sum(map(len, moves)) / RATE)
        edges = [*range(0, samples.shape[1], 1024), samples.shape[1]]
        for start, stop in pairwise(edges):
            block = av.AudioFrame.from_ndarray(samples[:, start:stop].copy(), "fltp", "stereo")
            block.sample_rate, block.pts, block.time_base = (
                SOUND_RATE,
                start,
                Fraction(1, SOUND_RATE),
            )
            film.mux(audio.encode(block))
        film.mux(audio.encode())


if __name__ == "__main__":
    write(Path(sys.argv[1]))
