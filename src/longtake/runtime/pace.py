"""Whether work goes on as fast as it should: arithmetic on seconds, no clock and no machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Final, Literal

LATE: Final = 1.5
"""Times what was expected: more of it, twice in a row, is told."""
ROUGH: Final = 3.0
"""The same where what was expected comes from arithmetic that no measurement has confirmed."""
FIRST: Final = 3
"""Laps at the start whose median is expected of the others, where the plan has no time."""
LAP: Final = 1.0
"""Seconds of a lap, at least: a shorter one tells what else the machine does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    seconds: float  # of a unit
    of: Literal["plan", "start"] = "plan"
    most: float = LATE  # times `seconds` that are still in time


@dataclass(frozen=True, slots=True, kw_only=True)
class Late:
    """Two laps in a row took too long."""

    seconds: float  # of a unit, in the latter
    expected: Expected


@dataclass(slots=True, kw_only=True)
class Pace:
    """Laps of units (steps, frames) under one placement. The first lap does not count: kernels are
    compiled in it, and caches filled."""

    least: int = 1  # units of a lap
    expected: Expected | None = None
    laps: int = 0  # that have ended
    _units: int = 0
    _seconds: float = 0.0
    _first: list[float] = field(default_factory=list)
    _was_late: bool = False

    def begun(self) -> None:
        """A new stretch of work: what came since the last lap is left out."""
        self._units, self._seconds = 0, 0.0

    def took(self, units: int, seconds: float) -> Late | None:
        """After so many more units. Says it once for two laps."""
        self._units, self._seconds = self._units + units, self._seconds + seconds
        if self._units < self.least or self._seconds < LAP:
            return None
        each = self._seconds / self._units
        self.begun()
        self.laps += 1
        return None if self.laps == 1 else self._judged(each)

    def _judged(self, each: float) -> Late | None:
        if self.expected is None:
            self._first.append(each)
            if len(self._first) == FIRST:
                self.expected = Expected(seconds=median(self._first), of="start")
            return None
        late = each > self.expected.most * self.expected.seconds
        twice, self._was_late = late and self._was_late, late
        if not twice:
            return None
        self._was_late = False
        return Late(seconds=each, expected=self.expected)
