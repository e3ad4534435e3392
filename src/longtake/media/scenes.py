"""Where a new shot begins, from the index alone: no pixel is decoded again.

A hard cut is one step between two pictures that have nothing in common, in a run of pictures that
resemble each other. What changes everything for a moment (a flash), everywhere a little (a pan, a
fade) or only in brightness (a lamp) is no cut. Everything is decided by the film, so that the same
film always has the same shots.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from longtake.media._records import Rows
from longtake.media.index import FilmIndex

SHORTEST = 2  # frames of a shot
_REACH = 4  # frames: what looks again as it did within so many was a flash, not two cuts
_SLICE = 2048  # frames looked at in one go

_LEAST = 4.0  # grid difference below which nothing is a cut
_PEAK = 1.8  # times the larger of the neighbours' differences
_UNLIKE, _UNLIKE_NEAR, _UNLIKE_ALONE = 0.35, 0.6, 0.25  # 1 - correlation of the two pictures
_TALL = 15.0  # grid difference of a step that may stand alone
_BACK = 0.3  # of the step: as near as this to what was before, and it was a flash
_PROFILE = 0.3  # histogram distance that makes a cut stand out from fast motion

Floats = NDArray[np.float64]


def cuts(index: FilmIndex, first: int = 0, stop: int | None = None) -> tuple[int, ...]:
    """Frames at which a new shot begins, counted from `first`; source frames [first, stop).

    Neither 0 nor the end is among them, and two are at least `SHORTEST` apart.
    """
    end = len(index) if stop is None else min(stop, len(index))
    found: list[int] = []
    margin = _REACH + 2
    for at in range(first, end, _SLICE):
        low, high = max(first, at - margin), min(end, at + _SLICE + margin)
        run = _Run.of(index.rows(low, high))
        for position in range(max(at, first + 1), min(at + _SLICE, end)):
            if run.cut(position - low) and (not found or position - first - found[-1] >= SHORTEST):
                found.append(position - first)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Run:
    """Measures of consecutive frames."""

    diff: Floats  # [T]
    hist: Floats  # [T]
    thumbs: Floats  # [T, 144]

    @staticmethod
    def of(rows: Rows) -> _Run:
        return _Run(
            diff=rows["diff"].astype(np.float64),
            hist=rows["hist"].astype(np.float64),
            thumbs=rows["thumb"].reshape(len(rows), -1).astype(np.float64),
        )

    def cut(self, t: int) -> bool:
        """True if frame `t` begins a shot; t >= 1."""
        step = self.diff[t]
        if step < _LEAST:
            return False
        around = max(self._beside(self.diff, t))
        calm = step >= _PEAK * around
        stands_out = (
            self.hist[t] >= _PROFILE
            and self.hist[t] >= _PEAK * max(self._beside(self.hist, t))
            and step >= 1.2 * around
        )
        if not (calm or stands_out) or self._unlike(t - 1, t) < self._needed(t, around):
            return False
        return not self._flash(t)

    def _needed(self, t: int, around: float) -> float:
        """How unlike the two pictures must be: more where steps as large are near (motion drawn
        on every second or third frame), less where the step stands alone."""
        step = self.diff[t]
        near = np.concatenate([self.diff[max(1, t - 3) : t], self.diff[t + 1 : t + 4]])
        if len(near) and near.max() >= 0.6 * step:
            return _UNLIKE_NEAR
        return _UNLIKE_ALONE if step >= max(_TALL, 5 * around) else _UNLIKE

    def _beside(self, values: Floats, t: int) -> tuple[float, float]:
        before = values[t - 1] if t >= 2 else 0.0
        after = values[t + 1] if t + 1 < len(values) else 0.0
        return float(before), float(after)

    def _unlike(self, a: int, b: int) -> float:
        """1 - correlation of two thumbs; flat pictures are alike if they are as bright."""
        x, y = self.thumbs[a], self.thumbs[b]
        x, y = x - x.mean(), y - y.mean()
        power = float(np.sqrt((x @ x) * (y @ y)))
        if min(x @ x, y @ y) < len(x):  # less than one step of luma: flat
            return 1.0
        return 1.0 - float(x @ y) / power

    def _flash(self, t: int) -> bool:
        """True if the old picture is back soon after `t`, or the new one was there before it."""
        step = float(np.abs(self.thumbs[t] - self.thumbs[t - 1]).mean())
        after = self.thumbs[t + 1 : t + 1 + _REACH]
        before = self.thumbs[max(0, t - 1 - _REACH) : t - 1]
        back = [np.abs(x - self.thumbs[t - 1]).mean() for x in after]
        there = [np.abs(x - self.thumbs[t]).mean() for x in before]
        return min([*back, *there], default=step) < _BACK * step
