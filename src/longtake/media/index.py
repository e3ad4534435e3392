"""The index of a film: one record per frame, made by decoding the film once.

`index.bin` holds fixed-size records in presentation order, `index.json` what is true of the whole.
Both lie in a job's work folder. A record says when its frame is shown, by which timestamp the
decoder names it, a fingerprint by which the same picture is known again after a seek, and what the
search for cuts needs. The file is appended to and read in slices, so that memory does not grow with
the film.

Timestamps are those of the source, in its ticks; `pts` is what is shown (strictly rising, see
`_clock.Clock`), `raw` what the decoder said (`NONE` where it said nothing).

Brightness and movement are those of the film as it will be read: with `--deinterlace` those of one
field. For ivtc the fields are measured as well, and `restored.bin` says of which frames
and fields the film consists (`_restore`). Frames then have two numbers: `rows` and `pts` count
those of the source, `shown` and `frames` those of the film as it is read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longtake.core.errors import BadInput
from longtake.core.media import Deinterlace, FieldOrder, Pulldown, VideoInfo
from longtake.media import _analysis, _clock, _restore, images, interlace
from longtake.media._clock import Timing
from longtake.media._records import (
    CORRUPT,
    INTERLACED,
    KEY,
    NONE,
    RECORD,
    TOP,
    Rows,
    crc_of,
    read_rows,
)

VERSION = 2
BIN, JSON = "index.bin", "index.json"
_SLICE = 2048  # records read in one go


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is true of the whole film; the content of `index.json`."""

    version: int
    source: str  # name of the bytes: size and modification time
    stream: int
    complete: bool = False
    strict: bool = True  # decoded by several threads; with faults, by one
    faulty: bool = False  # the decoder met faults, which it may conceal
    frames: int = 0
    expected: int = 0  # frames that the header promised; 0 where it says nothing
    errors: int = 0  # packets that could not be decoded, after the first frame
    early: int = 0  # such packets before the first frame
    first_error: int = -1  # the frame before which the first of them lay
    missing: int = 0  # bytes missing at the end of the file
    broken: bool = False  # the film broke off
    repaired: int = 0  # timestamps that were not strictly rising, or missing
    sorted: bool = True  # `raw` is known and strictly rising: frames can be named by it
    shift: str = "0"  # s to subtract from the source's clock, where its origin is arbitrary
    looks: str = ""  # interlaced by evidence though marked progressive: tff or bff
    crc: int = 0  # CRC-32 of index.bin
    pulldown: Pulldown | None = None  # None: not looked for
    share: float = 0.0  # of the cycles looked at, those with pulldown
    cycles: int = 0  # of five frames, in which something moves, that were looked at
    deinterlace: Deinterlace = "no"  # how it is to be read; the rest is about restored.bin
    restored: int = 0  # frames of the film without the repeats
    combed: int = 0  # such frames that no two fields make whole
    order: str = ""  # field order: tff or bff
    nominal: str = "0"  # frames/s of the source: five for every four of the film
    table: int = 0  # CRC-32 of restored.bin

    @property
    def ivtc(self) -> bool:
        return self.deinterlace == "ivtc"


class FilmIndex:
    """A complete index, read in slices; it holds no file open and may be shared by threads."""

    def __init__(self, folder: Path, facts: Facts) -> None:
        self.facts = facts
        self._folder = folder
        self._path = folder / BIN

    @staticmethod
    def open(info: VideoInfo, folder: Path, deinterlace: Deinterlace = "no") -> FilmIndex:
        """The index that `build` completed. Raises BadInput where there is none for this source."""
        facts = _facts(folder)
        if facts is None or not facts.complete or not _fits(facts, info, deinterlace):
            raise BadInput(f"{info.path}: it has not been analysed, or it has changed since.")
        return FilmIndex(folder, facts)

    def __len__(self) -> int:
        return self.facts.frames

    def rows(self, start: int, stop: int) -> Rows:
        """The records [start, stop), clipped to what there is."""
        start, stop = max(0, start), min(stop, len(self))
        return read_rows(self._path, start, stop) if start < stop else np.zeros(0, RECORD)

    def batches(self, start: int = 0, stop: int | None = None) -> Iterator[Rows]:
        """The records [start, stop) in slices of a fixed size."""
        end = len(self) if stop is None else min(stop, len(self))
        for at in range(start, end, _SLICE):
            yield self.rows(at, min(at + _SLICE, end))

    @property
    def frames(self) -> int:
        """Frames of the film as it is read."""
        return self.facts.restored if self.facts.ivtc else len(self)

    def shown(self, start: int, stop: int) -> Rows:
        """Records of the frames [start, stop) of the film as it is read, clipped; differences are
        those to the frame before in that film."""
        if not self.facts.ivtc:
            return self.rows(start, stop)
        start, stop = max(0, start), min(stop, self.frames)
        if start >= stop:
            return np.zeros(0, RECORD)
        table = self.table(max(0, start - 1), stop)
        if not start:  # before the first frame there is none
            table = np.concatenate([table[:1], table])
        low = max(0, int(table[0]["source"]) - 1)
        rows = _restore.shown(self.rows(low, int(table[-1]["source"]) + 1), low, table)
        return rows

    def table(self, start: int, stop: int) -> NDArray[Any]:
        """Records [start, stop) of `restored.bin`: source frame and use of each frame."""
        return _restore.read(self._folder, start, stop)

    def pts(self, start: int, stop: int) -> list[int]:
        """When frames [start, stop) are shown, source ticks."""
        return [int(p) for p in self.rows(start, stop)["pts"]]

    @property
    def shift(self) -> Fraction:
        """Seconds to subtract from the source's clock, of every track alike."""
        return Fraction(self.facts.shift)

    def key_before(self, frame: int) -> int | None:
        """The last frame <= `frame` from which decoding can begin; None: only from the start."""
        for stop in range(frame + 1, 0, -_SLICE):
            start = max(0, stop - _SLICE)
            keys = np.flatnonzero(self.rows(start, stop)["flags"] & KEY)
            if len(keys):
                return start + int(keys[-1])
        return None

    def end(self, frame: int, tick: Fraction, rate: Fraction) -> int:
        """When frame - 1 ends, source ticks: as frame `frame` begins, or after its duration."""
        if frame < len(self):
            return self.pts(frame, frame + 1)[0]
        last = self.rows(len(self) - 1, len(self))[0]
        return int(last["pts"]) + (int(last["duration"]) or max(1, round(1 / (rate * tick))))

    def timing(self, info: VideoInfo) -> Timing:
        """Rate, whether it is variable, and the time base and start for an output."""
        if not self.facts.ivtc:
            return self.source_timing(info)
        rate = Fraction(self.facts.nominal) * _restore.RATIO
        start = self.pts(0, 1)[0] * info.time_base - self.shift
        base = _clock.time_base_for(rate, info.time_base, start)
        return Timing(rate, False, base, round(start / base))

    def source_timing(self, info: VideoInfo) -> Timing:
        """The same of the source as it is, repeats and all."""
        tick, count = info.time_base, len(self)
        first, last = self.pts(0, 1)[0], self.pts(count - 1, count)[0]
        slices = (rows["pts"].astype(np.int64) for rows in self.batches())
        rate, variable = _clock.find(slices, count, first, last, tick, [info.rate])
        start = first * tick - self.shift
        base = tick if variable else _clock.time_base_for(rate, tick, start)
        return Timing(rate, variable, base, round(start / base))

    def fields(self) -> FieldOrder:
        """Progressive or interlaced by the flags that the frames carry."""
        laced = top = 0
        for rows in self.batches():
            laced += int(np.count_nonzero(rows["flags"] & INTERLACED))
            top += int(np.count_nonzero(rows["flags"] & TOP))
        if not laced:
            return "progressive"
        return "tff" if 2 * top >= laced else "bff"


def build(
    info: VideoInfo,
    folder: Path,
    drop: Sequence[str] = (),
    deinterlace: Deinterlace = "no",
) -> Iterator[int]:
    """Decode the film once and index it in `folder`; yields the number of frames so far.

    Goes on where a killed run stopped, from the last keyframe whose picture is met again; starts
    anew where it is not, where the source has changed, or where the index is damaged. Raises
    BadInput where the film broke off (unless "tail" in `drop`), where packets in the middle cannot
    be decoded (unless "damaged" in `drop`), and where nothing can be decoded at all. An index is
    for one way to `deinterlace`; with ivtc the film behind the telecine is searched for, and
    BadInput raised where there is none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    facts = _facts(folder)
    if facts is None or not _fits(facts, info, deinterlace) or not _whole(folder, facts):
        facts = _begin(info, folder, strict=True, deinterlace=deinterlace)
    if facts.strict and "damaged" in drop:
        facts = _begin(info, folder, strict=False, deinterlace=deinterlace)
    if not facts.complete and facts.strict:
        try:
            facts = yield from _analyse(info, folder, facts)
        except _analysis.Faulty:
            facts = _begin(info, folder, strict=False, faulty=True, deinterlace=deinterlace)
    if not facts.complete:
        facts = yield from _analyse(info, folder, facts)
    yield facts.frames
    judge(info, facts, drop)


def _begin(
    info: VideoInfo,
    folder: Path,
    *,
    strict: bool,
    deinterlace: Deinterlace = "no",
    faulty: bool = False,
) -> Facts:
    """An empty index."""
    facts = Facts(
        version=VERSION, source=identity(info), stream=info.stream, strict=strict, faulty=faulty,
        deinterlace=deinterlace,
    )  # fmt: skip
    (folder / BIN).unlink(missing_ok=True)
    _write(folder, facts)
    return facts


def _analyse(info: VideoInfo, folder: Path, facts: Facts) -> Generator[int, None, Facts]:
    """Complete the index. Raises _analysis.Faulty."""
    analysis = _analysis.Analysis(info, folder / BIN, facts.strict, facts.deinterlace)
    yield from analysis.run()
    if identity(info) != facts.source:
        raise BadInput(f"{info.path}: it changed while it was being read.")
    facts = replace(facts, complete=True, **analysis.outcome())
    index = FilmIndex(folder, facts)
    if facts.ivtc and facts.frames:
        facts = _restored(info, folder, index)
    elif info.container != "images" and facts.sorted:
        facts = _looked(info, index)
    facts = replace(facts, crc=crc_of(folder / BIN))
    _write(folder, facts)
    return facts


def _looked(info: VideoInfo, index: FilmIndex) -> Facts:
    """Facts with what the fields of the liveliest frames say."""
    keys = interlace.liveliest(index.batches())
    seen = interlace.seen_after(info, keys, 1)
    looks = seen.looks if index.fields() == "progressive" else ""
    told = seen.telecine
    return replace(
        index.facts, looks=looks, pulldown=told.pattern, share=told.share, cycles=told.cycles
    )


def _restored(info: VideoInfo, folder: Path, index: FilmIndex) -> Facts:
    """Facts with the film that was found behind the telecine. Raises BadInput."""
    facts, tick = index.facts, info.time_base
    timing = index.source_timing(info)
    rate, unit = timing.rate, None
    if timing.variable:
        ends = index.pts(0, 1)[0], index.pts(len(index) - 1, len(index))[0]
        found = _restore.nominal(index.batches, tick, *ends)
        if found is None:
            raise BadInput(
                f"{info.path}: its frame rate varies ({float(rate):.3f} frames/s on average), and "
                "not as pulldown does, where every frame is shown for two or three fields of "
                "1/60 s: ivtc cannot tell which frames to take. --deinterlace no keeps every "
                "frame and its time."
            )
        rate, unit = found, 1 / (2 * found * tick)
    flags = index.fields()
    if flags == "progressive":
        flags = info.fields
    order = flags if flags in ("tff", "bff") else ""
    try:
        made = _restore.restore(folder, index.rows, len(index), unit, order)
    except ValueError as error:
        raise BadInput(
            f"{info.path}: four fifths of its frames cannot fill its time ({error}). "
            "--deinterlace no keeps every frame and its time."
        ) from None
    return replace(
        facts, pulldown=made.pattern, share=made.share, cycles=made.cycles, restored=made.frames,
        combed=made.combed, order=made.order, nominal=str(rate), table=made.crc,
    )  # fmt: skip


def judge(info: VideoInfo, facts: Facts, drop: Sequence[str]) -> None:
    """Raises BadInput for a film that is not whole, unless `drop` says to take what is there."""
    if not facts.frames:
        raise BadInput(f"{info.path}: not one frame of it can be decoded ({info.codec}).")
    if facts.broken and "tail" not in drop:
        of = counted(facts)
        gone = f" ({facts.missing} bytes are missing at its end)" if facts.missing else ""
        raise BadInput(
            f"{info.path}: the file broke off{gone}: {of} frames are there. Copy or download it "
            "again, or use --drop tail to take the frames that are there."
        )
    if facts.errors and "damaged" not in drop:
        raise BadInput(
            f"{info.path}: {facts.errors} of {facts.frames + facts.errors} packets cannot be "
            f"decoded, the first before frame {facts.first_error}. Use --drop damaged to leave "
            "those frames out; the others keep their times."
        )
    if facts.ivtc and facts.cycles and facts.pulldown == "none":
        marked = "is marked as interlaced" if info.fields in ("tff", "bff") else "is not interlaced"
        raise BadInput(
            f"{info.path}: no telecine was found in the {facts.cycles} cycles of five frames in "
            f"which something moves, so ivtc would drop one true frame in five. The film {marked}: "
            "use --deinterlace bwdif if it was filmed with fields, and --deinterlace no otherwise."
        )


def counted(facts: Facts) -> str:
    """How many frames there are, of how many, where the header knows of more."""
    known = facts.expected > facts.frames
    return f"{facts.frames} of {facts.expected}" if known else f"{facts.frames}"


def identity(info: VideoInfo) -> str:
    """A cheap name of the source's bytes: sizes and modification times, not the content."""
    if info.container == "images":
        return images.identity(info)
    about = info.path.stat()
    return f"{about.st_size}-{about.st_mtime_ns}"


def _fits(facts: Facts, info: VideoInfo, deinterlace: str) -> bool:
    found = facts.version, facts.source, facts.stream, facts.deinterlace
    return found == (VERSION, identity(info), info.stream, deinterlace)


def _whole(folder: Path, facts: Facts) -> bool:
    return not facts.complete or (
        (folder / BIN).exists()
        and (folder / BIN).stat().st_size == facts.frames * RECORD.itemsize
        and crc_of(folder / BIN) == facts.crc
        and (not facts.ivtc or _restore.intact(folder, facts.restored, facts.table))
    )


def _facts(folder: Path) -> Facts | None:
    """The facts on disk; None where they are absent or make no sense."""
    try:
        return Facts(**json.loads((folder / JSON).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _write(folder: Path, facts: Facts) -> None:
    beside = folder / (JSON + ".new")
    with beside.open("w", encoding="utf-8") as file:
        json.dump(asdict(facts), file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(folder / JSON)


__all__ = [
    "CORRUPT", "INTERLACED", "KEY", "NONE", "RECORD", "TOP",
    "Facts", "FilmIndex", "Rows", "Timing", "build", "counted", "judge", "read_rows",
]  # fmt: skip
