"""A film that no file holds: it is generated, frame by frame at an even rate, without other tracks.

Fills `core.ports.Film` for the sinks and for verifying. There is nothing to compare its pictures
with: what a source would say of their light is NaN.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longtake.core.media import Clip, OutputFormat, VideoInfo
from longtake.core.ports import Clock


class MadeFilm:
    """`info` says what the film will be; its clock is that of `output`."""

    def __init__(self, info: VideoInfo, output: OutputFormat) -> None:
        self.info = info
        self._ticks = 1 / (output.rate * output.time_base)  # of a frame

    def pts(self, start: int, stop: int) -> list[int]:
        return [round(number * self._ticks) for number in range(start, stop)]

    def end(self) -> int:
        return round(self.info.frames * self._ticks)

    def clock(self) -> Clock:
        return Clock()

    def names(self, start: int, stop: int) -> list[str] | None:  # noqa: ARG002 -- as all films
        return None

    def luma(self, start: int, stop: int) -> NDArray[np.float32]:
        return np.full(stop - start, np.nan, np.float32)

    def difference(self, start: int, stop: int) -> NDArray[np.float32]:
        return self.luma(start, stop)

    def read(self, start: int, stop: int, size: int) -> Iterator[Clip]:
        raise TypeError(f"frames {start}:{stop} of a generated film cannot be read, {size} at once")

    def container(self) -> AbstractContextManager[Any]:
        raise TypeError("no file holds a generated film")
