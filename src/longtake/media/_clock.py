"""Timestamps: made strictly rising while a film is analysed, and recognised as a constant rate."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

STANDARD = tuple(
    Fraction(*r)
    for r in (
        (24000, 1001), (24, 1), (25, 1), (30000, 1001), (30, 1), (50, 1), (60000, 1001), (60, 1),
        (48, 1), (48000, 1001), (120000, 1001), (120, 1), (100, 1), (240, 1), (144, 1),
        (15000, 1001), (15, 1), (25, 2), (12000, 1001), (12, 1), (10, 1), (20, 1), (8, 1),
        (6, 1), (5, 1), (2, 1), (1, 1),
    )
)  # fmt: skip
_FINEST = 1_000_000  # ticks per second that an output's time base gets at most
_JUMP = 5  # frames
_RATE_LIMIT = 60_000  # denominator up to which a measured rate is looked for


class Timing(NamedTuple):
    """How a film's frames lie in time."""

    rate: Fraction  # frames / s
    variable: bool  # True: not on the grid start + i / rate
    time_base: Fraction  # s per tick that an output should have
    start: int  # of the first frame, ticks of that time base


class Clock:
    """Gives every frame a timestamp later than the one before it; no frame is ever left out.

    Where a frame has none, it follows its predecessor by 1 / rate. Where it has one that is not
    later (a duplicate), it follows by one tick. Where the clock jumps back by more than some frames
    (two recordings in one file), all that comes after is moved so that it follows by 1 / rate.
    """

    def __init__(self, step: Fraction) -> None:
        self._step = step  # ticks per frame, as the header states the rate
        self._last: int | None = None
        self._moved = 0
        self._anchor: tuple[int, int] = (0, 0)  # (shown, frames since)
        self.repaired = 0  # frames whose timestamp was not taken as it is

    def resume(self, shown: int, raw: int | None) -> None:
        """Go on after a frame that was shown at `shown` and had the timestamp `raw`."""
        self._last = shown
        self._anchor = (shown, 0)
        if raw is not None and abs(shown - raw) > _JUMP * self._step:
            self._moved = shown - raw

    def show(self, raw: int | None) -> int:
        """The timestamp of the next frame, ticks."""
        last = self._last
        anchor, since = self._anchor
        follows = anchor + round((since + 1) * self._step)
        if raw is None:
            value = follows if last is not None else 0
            self._anchor = (anchor, since + 1) if last is not None else (0, 0)
            self.repaired += 1
        else:
            value = raw + self._moved
            if last is not None and value <= last:
                self.repaired += 1
                if last - value > _JUMP * self._step:
                    value = last + max(1, round(self._step))
                    self._moved = value - raw
                else:
                    value = last + 1
            self._anchor = (value, 0)
        if last is not None:
            value = max(value, last + 1)
        self._last = value
        return value


def find(
    slices: Iterable[NDArray[np.int64]],
    count: int,
    first: int,
    last: int,
    tick: Fraction,
    stated: Iterable[Fraction],
) -> tuple[Fraction, bool]:
    """(rate, variable): the exact rate on whose grid all timestamps lie within one tick.

    `slices` are the timestamps in order, `first` and `last` the ends, `stated` what the header
    says of the rate, best first. A candidate that every timestamp meets exactly wins; then the
    standard rates; then the others. A tick longer than a quarter of a frame allows no deviation.
    """
    headers = list(dict.fromkeys(r for r in stated if r and r > 0))
    if count < 2 or last <= first:
        return (headers[0] if headers else Fraction(25)), False
    mean = Fraction(count - 1) / ((last - first) * tick)
    near = [r for r in STANDARD if abs(r / mean - 1) * (count - 1) < 1]
    near.sort(key=lambda r: abs(r - mean))
    measured = [mean.limit_denominator(1001), mean.limit_denominator(_RATE_LIMIT)]
    candidates = list(dict.fromkeys([r for r in headers if r in near] + near + headers + measured))
    grids = [_Grid(r, tick) for r in candidates if r > 0]
    at = 0
    for run in slices:
        for grid in grids:
            grid.meet(run, at, first)
        at += len(run)
        if not any(g.fits for g in grids):
            break
    fits = [g for g in grids if g.fits]
    for grid in fits:
        if grid.exact:
            return grid.rate, False
    if fits:
        return fits[0].rate, False
    shown = min((*headers, *near), key=lambda r: abs(r - mean), default=mean)
    plain = shown if abs(shown / mean - 1) < Fraction(1, 1000) else mean.limit_denominator(1001)
    return plain, True


class _Grid:
    """One candidate rate, and whether the timestamps seen so far lie on its grid."""

    def __init__(self, rate: Fraction, tick: Fraction) -> None:
        self.rate = rate
        frame = 1 / (rate * tick)  # ticks per frame
        self._a, self._b = frame.numerator, frame.denominator
        self._slack = self._b if frame >= 4 else 0
        self.exact = True
        self.fits = True

    def meet(self, run: NDArray[np.int64], at: int, first: int) -> None:
        """Compare (pts - first) * b with i * a; whole numbers, so nothing is rounded."""
        if not self.fits or not len(run):
            return
        base = (int(run[0]) - first) * self._b - at * self._a  # exact whatever its size
        if abs(base) > 1 << 60 or int(run[-1] - run[0]) * self._b > 1 << 60:
            self.fits = False
            return
        off = (run - run[0]) * self._b - np.arange(len(run), dtype=np.int64) * self._a + base
        worst = int(np.abs(off).max())
        self.exact = self.exact and worst == 0
        self.fits = worst <= self._slack


def time_base_for(rate: Fraction, source: Fraction, start: Fraction) -> Fraction:
    """A time base in which `start` (s) and every i / rate are whole ticks, the source's if it can.

    Where no base up to a millionth of a second holds `start` too, it is rounded to a tick.
    """
    if (1 / (rate * source)).denominator == 1 and (start / source).denominator == 1:
        return source
    ticks = rate.numerator
    fine = ticks * (start * ticks).denominator
    if fine > _FINEST:
        fine = ticks * max(1, 10_000 // ticks)
    return Fraction(1, fine)
