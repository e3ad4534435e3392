"""Which fields belong together: measures of a frame's two fields against those of the frame before.

Two fields of one moment, woven line by line, make a smooth picture. Fields of two moments make
combs where something moved: lines that are brighter, or darker, than both their neighbours. So each
frame is woven in three ways (its own two fields; its top with the bottom field before; its bottom
with the top field before) and the combs of each are counted. What is compared later is always one
weave with another of the same moment, so that neither the picture's own fine lines nor the coder's
noise decide.
"""

from __future__ import annotations

from dataclasses import dataclass

import av
import numpy as np
from numpy.typing import NDArray

from longtake.media._look import samples

WIDE = 360  # samples of a row that are looked at, about
OWN, TOP_EARLY, BOTTOM_EARLY = 0, 1, 2
"""Weaves: top and bottom of one frame; top of it, bottom of the one before; and the reverse."""

_FLOOR = 3  # steps of luma below which a line that stands out is taken for noise
_TOOTH = 9  # steps of luma by which a line of a comb stands out
_MOVED = 7  # steps of luma by which a field differs from the one before where something moved
_TILE = (8, 16)  # lines of a field, samples across, in which combs are counted
_CELL = 4  # samples each way over which fields are averaged before they are compared

Plane = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Weaves:
    """Of the three weaves: how far lines stand out, and the densest comb; of the two fields: how
    far each has moved since the frame before."""

    comb: tuple[float, float, float]  # mean excess over _FLOOR, luma steps per sample
    peak: tuple[int, int, int]  # most samples of a comb in a tile where something moved, 0 .. 255
    moved: tuple[float, float]  # top, bottom: mean absolute difference of 4x4 cells, luma steps


class Fields:
    """Measures frames in their order. The first has nothing before it: all is 0."""

    def __init__(self) -> None:
        self._before: tuple[Plane, Plane] | None = None

    def measure(self, frame: av.VideoFrame) -> Weaves:
        across = max(1, frame.width // WIDE)
        luma = samples(frame, 1, across).astype(np.int16)
        lines = len(luma) // 2 * 2
        fields = luma[0:lines:2], luma[1:lines:2]
        before, self._before = self._before, fields
        if before is None or before[0].shape != fields[0].shape or not lines:
            return Weaves((0, 0, 0), (0, 0, 0), (0, 0))
        steps = [now - was for now, was in zip(fields, before, strict=True)]
        moving = _spread(np.abs(steps[0])) + _spread(np.abs(steps[1]))
        pairs = (fields[0], fields[1]), (fields[0], before[1]), (before[0], fields[1])
        found = [_combs(top, bottom, moving) for top, bottom in pairs]
        comb, peak = zip(*found, strict=True)
        return Weaves(comb, peak, (_distance(steps[0]), _distance(steps[1])))


def _combs(top: Plane, bottom: Plane, moving: NDArray[np.bool_]) -> tuple[float, int]:
    """(mean excess, densest tile) of the lines of the bottom field between those of the top."""
    above, below = bottom[:-1] - top[:-1], bottom[:-1] - top[1:]
    if not above.size:
        return 0.0, 0
    # where both have one sign, the smaller of the two; else 0 or less
    out = np.maximum(np.minimum(above, below), -np.maximum(above, below))
    out[~moving[:-1]] = 0
    excess = np.maximum(out - _FLOOR, 0)
    teeth = out > _TOOTH
    return float(excess.sum(dtype=np.int64)) / excess.size, _densest(teeth)


def _spread(step: Plane) -> NDArray[np.bool_]:
    """Where the field moved, or its neighbour to the left or right did."""
    moved = step > _MOVED
    wide = moved.copy()
    wide[:, 1:] |= moved[:, :-1]
    wide[:, :-1] |= moved[:, 1:]
    return wide


def _densest(teeth: NDArray[np.bool_]) -> int:
    tall, wide = (max(1, min(t, s)) for t, s in zip(_TILE, teeth.shape, strict=True))
    rows, columns = len(teeth) // tall, teeth.shape[1] // wide
    tiles = teeth[: rows * tall, : columns * wide].reshape(rows, tall, columns, wide)
    return min(255, int(tiles.sum(axis=(1, 3)).max()))


def _distance(step: Plane) -> float:
    tall, wide = (max(1, min(_CELL, s)) for s in step.shape)
    rows, columns = len(step) // tall, step.shape[1] // wide
    cells = step[: rows * tall, : columns * wide].reshape(rows, tall, columns, wide)
    sums = np.abs(cells.sum(axis=(1, 3), dtype=np.int32))
    mean: float = float(sums.mean()) / (tall * wide)
    return mean
