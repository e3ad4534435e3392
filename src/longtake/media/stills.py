"""Single frames worth a look: which ones, and as files that browsers show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Generic, TypeVar

import av
import numpy as np
from numpy.typing import NDArray

RGB = NDArray[np.uint8]
T = TypeVar("T")
LOSSLESS_PIXELS = 2_500_000  # px up to which a picture is embedded without loss


@dataclass(frozen=True, slots=True)
class Still(Generic[T]):
    number: int  # of the frame
    time: Fraction  # s
    likeness: float  # dB; the lower, the worse
    content: T
    why: str


@dataclass(slots=True)
class Choice(Generic[T]):
    """Chooses as the frames come by: the worst ones, apart from each other, and some spread evenly.

    Holds at most `1 + worst + len(spread)` frames.
    """

    spread: tuple[Fraction, ...]  # s: a frame at or after each of these
    apart: Fraction  # s between two of the worst
    worst: int = 3
    _first: Still[T] | None = None
    _low: list[Still[T]] = field(default_factory=list)
    _even: list[Still[T]] = field(default_factory=list)

    def see(self, number: int, time: Fraction, likeness: float, content: T) -> None:
        self._first = self._first or Still(number, time, likeness, content, "the first")
        if len(self._even) < len(self.spread) and time >= self.spread[len(self._even)]:
            self._even.append(Still(number, time, likeness, content, "spread evenly"))
        if math.isinf(likeness):
            return  # identical
        near = [s for s in self._low if time - s.time < self.apart]
        if near:
            if likeness >= min(s.likeness for s in near):
                return
            self._low = [s for s in self._low if s not in near]
        elif len(self._low) == self.worst and likeness >= self._low[-1].likeness:
            return
        self._low.append(Still(number, time, likeness, content, "among the worst"))
        self._low.sort(key=lambda s: s.likeness)
        del self._low[self.worst :]

    def chosen(self) -> list[Still[T]]:
        """In the order of the film, none twice; the worst of all is among them."""
        worst = {s.number for s in self._low}
        kept = [*self._low, *(s for s in self._even if s.number not in worst)]
        if not kept and self._first is not None:
            kept = [self._first]  # identical frames, and fewer than the headers promise
        first = self._low[0].number if self._low else -1
        named = [
            Still(s.number, s.time, s.likeness, s.content, "the worst frame") if s.number == first
            else s
            for s in kept
        ]  # fmt: skip
        return sorted(named, key=lambda s: s.number)


def worst_of(chosen: Sequence[Still[T]]) -> int:
    """Where the worst one stands; 0 where all are alike."""
    return min(range(len(chosen)), key=lambda i: chosen[i].likeness, default=0)


def png(pixels: RGB) -> bytes:
    """A PNG file."""
    return _encoded("png", "rgb24", pixels, {})


def jpeg(pixels: RGB) -> bytes:
    """A JPEG file of good quality."""
    return _encoded("mjpeg", "yuvj444p", pixels, {"qmin": "2", "qmax": "4"})


def embedded(pixels: RGB) -> tuple[str, bytes]:
    """(media type, bytes): WebP without loss, or the best JPEG where that would be huge."""
    height, width = pixels.shape[:2]
    if width * height <= LOSSLESS_PIXELS:
        return "image/webp", _encoded("libwebp", "bgra", pixels, {"lossless": "1"})
    return "image/jpeg", _encoded("mjpeg", "yuvj444p", pixels, {"qmin": "1", "qmax": "2"})


def _encoded(codec: str, form: str, pixels: RGB, options: dict[str, str]) -> bytes:
    encoder: Any = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height = pixels.shape[1], pixels.shape[0]
    encoder.pix_fmt = form
    encoder.time_base = Fraction(1, 25)
    encoder.thread_count = 1
    encoder.options = options
    whole: Any = np.ascontiguousarray(pixels)
    frame = av.VideoFrame.from_ndarray(whole, "rgb24")
    if form != "rgb24":
        frame = frame.reformat(format=form, threads=1)
    return b"".join(bytes(p) for p in [*encoder.encode(frame), *encoder.encode(None)])
