"""Which frames and latents FlashVSR works on when: plain numbers, counted from a stream's start.

A latent stands for four frames (the first for frame 0 alone) and is made from them and the next
four; so the newest frames of a chunk are only looked at, and appear with the chunk after it.

    chunk   latents           projector takes        gives frames
    0       0 .. 5            0, then 1 .. 24        0 .. 20
    c       2c + 4, 2c + 5    8c + 17 .. 8c + 24     8c + 13 .. 8c + 20

Source: github.com/OpenImagingLab/FlashVSR, diffsynth/pipelines/flashvsr_tiny.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Final

FRAMES: Final = 8
"""New frames per chunk, but for the first."""
FIRST_LATENTS: Final = 6
LATENTS: Final = 2
STEP: Final = 4
"""Frames per latent."""
AHEAD: Final = 11
"""Frames that may be needed behind the last one that is wanted."""


@dataclass(frozen=True, slots=True)
class Chunk:
    number: int

    @property
    def latents(self) -> range:
        if self.number == 0:
            return range(FIRST_LATENTS)
        first = LATENTS * self.number + FIRST_LATENTS - LATENTS
        return range(first, first + LATENTS)

    @property
    def seen(self) -> range:
        """Frames that become tokens: four for each latent. (Frame 0 only begins the stream.)"""
        return range(STEP * self.latents.start + 1, STEP * self.latents.stop + 1)

    @property
    def made(self) -> range:
        """Frames that come out."""
        return range(made_of(self.latents[0]).start, made_of(self.latents[-1]).stop)


def made_of(latent: int) -> range:
    """The frames that a latent stands for."""
    return range(max(STEP * latent - STEP + 1, 0), STEP * latent + 1)


def chunks() -> Iterator[Chunk]:
    """All chunks of a stream that never ends."""
    return map(Chunk, count())


def padded(frames: int) -> int:
    """Frames that are looked at to make `frames` of them, those repeated at the end included."""
    return next(c.seen.stop for c in chunks() if c.made.stop >= frames)
