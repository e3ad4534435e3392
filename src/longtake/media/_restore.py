"""The table of a telecined film put back together: which source frames it has, and of what fields.

`restored.bin` holds a record for each frame of the film as it was before the telecine, in order. It
is made from `index.bin` once the film is analysed, and from then on is the only truth about those
frames: reading drops and weaves by it and decides nothing.
"""

from __future__ import annotations

import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longtake.core.media import Pulldown, Telecine
from longtake.media._cadence import (
    COMBED,
    CYCLE,
    DROP,
    NONE,
    PATTERNS,
    SURE,
    Evidence,
    Verdict,
    Whole,
    decide,
)
from longtake.media._records import Rows, crc_of

TABLE = "restored.bin"
FRAME = np.dtype([("source", "<u4"), ("use", "u1"), ("spare", "u1", 3)])
RATIO = Fraction(4, CYCLE)  # frames of the film to frames of the source
_FOUND = 0.1  # share of the cycles from which a film counts as telecined
_WHOLE = 0.9  # share from which a film needs no word about the rest
_NOMINAL = Fraction(30000, 1001), Fraction(30)  # frames/s that soft telecine stands for
_FIELDS = 2, 3  # for which soft telecine shows a frame

Records = Callable[[int, int], Rows]  # records [start, stop) of the index, clipped


@dataclass(slots=True)
class Cycles:
    """Counts cycles of five frames, by what was found in them."""

    moving: int = 0
    found: Counter[str] = field(default_factory=Counter)
    orders: Counter[str] = field(default_factory=Counter)  # frames by field order

    def take(self, verdict: Verdict, fields: Whole) -> None:
        """Consecutive frames; `fields` for which each is shown."""
        for start in range(0, len(verdict.state) - CYCLE + 1, CYCLE):
            part = slice(start, start + CYCLE)
            if int((fields[part] == _FIELDS[1]).sum()) in (2, 3):
                self.moving += 1
                self.found["soft"] += 1
                continue
            if np.median(verdict.moves[part]) < SURE:
                continue
            self.moving += 1
            held = verdict.state[part][verdict.state[part] != NONE] // CYCLE
            if len(held) >= CYCLE - 1:
                pattern = PATTERNS[int(np.bincount(held).argmax())]
                self.found[pattern.kind] += 1
                self.orders[pattern.order] += 1

    @property
    def share(self) -> float:
        return sum(self.found.values()) / self.moving if self.moving else 0.0

    @property
    def pattern(self) -> Pulldown:
        """The most frequent one, where there are enough to speak of."""
        if self.share < _FOUND:
            return "none"
        return self.found.most_common(1)[0][0]  # type: ignore[return-value]

    @property
    def order(self) -> str:
        """The field order of what was found; "" where that does not tell."""
        return max(("tff", "bff"), key=lambda o: self.orders[o]) if self.orders else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What was found, for the facts about the whole film."""

    frames: int
    combed: int  # frames that no two fields make whole
    share: float
    cycles: int
    pattern: Pulldown
    order: str
    crc: int


def restore(
    folder: Path, records: Records, count: int, unit: Fraction | None, order: str
) -> Restored:
    """Decide on every frame and write the table. `unit`: ticks per field where frames are shown
    for two or three, None where all are shown for as long. `order`: the film's flags, or "".

    Raises ValueError where the frames cannot fill the time.
    """
    cycles, kept, combed, crc, at = Cycles(), 0, 0, 0, 0

    def evidence(start: int, stop: int) -> Evidence:
        return _evidence(records, start, stop, unit)

    beside = folder / (TABLE + ".new")
    with beside.open("wb") as file:
        for verdict in decide(evidence, count):
            stop = at + len(verdict.use)
            cycles.take(verdict, evidence(at, stop).fields)
            left = np.flatnonzero(verdict.use != DROP)
            table = np.zeros(len(left), FRAME)
            table["source"], table["use"] = at + left, verdict.use[left]
            data = table.tobytes()
            file.write(data)
            crc, at = zlib.crc32(data, crc), stop
            kept += len(left)
            combed += int((verdict.use == COMBED).sum())
        file.flush()
        os.fsync(file.fileno())
    beside.replace(folder / TABLE)
    return Restored(
        frames=kept, combed=combed, share=round(cycles.share, 4), cycles=cycles.moving,
        pattern=cycles.pattern, order=order or cycles.order or "tff", crc=crc,
    )  # fmt: skip


def read(folder: Path, start: int, stop: int) -> NDArray[Any]:
    """Records [start, stop) of the table."""
    return np.fromfile(folder / TABLE, FRAME, stop - start, offset=start * FRAME.itemsize)


def intact(folder: Path, frames: int, crc: int) -> bool:
    """Whether the table is as it was written."""
    path = folder / TABLE
    whole = path.exists() and path.stat().st_size == frames * FRAME.itemsize
    return whole and crc_of(path) == crc


def shown(rows: Rows, low: int, table: NDArray[Any]) -> Rows:
    """The records of the frames of `table` (all but the first are wanted), as if they were a film.

    `rows` are the source's from frame `low` on. Differences are those to the film's frame before:
    where one source frame lies between, to the frame before that; where more do, 0.
    """
    source = table["source"].astype(np.int64) - low
    out: Rows = rows[source[1:]].copy()
    step = np.diff(source)
    between = np.maximum(rows["hist"][source[1:]], rows["hist"][source[1:] - 1])
    out["diff"] = np.select([step == 1, step == 2], [out["diff"], out["skip"]], 0)
    out["hist"] = np.select([step == 1, step == 2], [out["hist"], between], 0)
    return out


def _evidence(records: Records, start: int, stop: int, unit: Fraction | None) -> Evidence:
    rows = records(start, stop + 1)
    here = rows[: stop - start]
    return Evidence(
        here["comb"].astype(np.float64),
        here["peak"].astype(np.float64),
        here["moved"].astype(np.float64),
        lengths(rows["pts"].astype(np.int64), len(here), unit),
    )


def lengths(pts: NDArray[np.int64], count: int, unit: Fraction | None) -> Whole:
    """[count] fields for which frames are shown that begin at `pts`; the last may be unknown."""
    if unit is None:
        return np.full(count, 2)
    fields = np.rint(np.diff(pts) / float(unit)).astype(np.int64)[:count]
    if len(fields) < count:  # the film's last frame: in its turn
        last = int(fields[-1]) if len(fields) else 3
        fields = np.append(fields, sum(_FIELDS) - last if last in _FIELDS else 2)
    return fields


def nominal(
    batches: Callable[[], Iterator[Rows]], tick: Fraction, first: int, last: int
) -> Fraction | None:
    """The rate (frames/s) that a film of frames of two and three fields stands for; None: its
    timestamps are no pulldown. `first` and `last` frame are shown then, in ticks."""
    for rate in _NOMINAL:
        unit = 1 / (2 * rate * tick)
        fields, before = 0, np.zeros(0, np.int64)
        for rows in batches():
            pts = np.append(before, rows["pts"].astype(np.int64))
            steps = _steps(pts, unit)
            if steps is None:
                break
            fields, before = fields + int(steps.sum()), pts[-1:]
        else:
            if abs(last - first - fields * unit) <= unit / 2:
                return rate
    return None


def unit_of(pts: NDArray[np.int64], tick: Fraction) -> Fraction | None:
    """Ticks of a field where a run of frames has pulldown in its timestamps, else None."""
    unit = 1 / (2 * _NOMINAL[0] * tick)
    steps = _steps(pts, unit)
    return None if steps is None or not len(steps) else unit


def _steps(pts: NDArray[np.int64], unit: Fraction) -> Whole | None:
    """Fields from each frame to the next; None where they are not two or three."""
    exact = np.diff(pts) / float(unit)
    steps = np.rint(exact).astype(np.int64)
    off = np.abs(exact - steps) * float(unit)
    good = np.isin(steps, _FIELDS).all() and (off <= max(1.0, float(unit) / 4)).all()
    return steps if good else None


def told(found: Telecine, combed: int) -> list[str]:
    """What a user should know of a telecined film; `combed` frames of it had to be deinterlaced."""
    if not found.frames:
        return [f"{words(found)}: --deinterlace ivtc restores the film's own frames."]
    notes = []
    if found.share < _WHOLE:
        notes.append(
            f"{words(found)}; elsewhere one frame in five was dropped all the same, so that the "
            "film keeps its time."
        )
    if combed:
        notes.append(
            f"{combed} of {found.frames} frames have no two fields that fit: they were "
            "deinterlaced."
        )
    return notes


def words(found: Telecine) -> str:
    """Telecine in words, with how sure it is."""
    how = {"soft": "fields repeated by flags", "repeat": "whole frames repeated"}
    what = how.get(found.pattern, f"{found.pattern} pulldown")
    return f"It is telecined ({what} in {found.share:.0%} of {found.cycles} cycles looked at)"
