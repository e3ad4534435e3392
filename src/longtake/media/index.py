"""The index of a film: one record per frame, made by decoding the film once.

`index.bin` holds fixed-size records in presentation order, `index.json` what is true of the whole.
Both lie in a job's work folder. A record says when its frame is shown, by which timestamp the
decoder names it, a fingerprint by which the same picture is known again after a seek, and what the
search for cuts needs. The file is appended to and read in slices, so that memory does not grow with
the film.

Timestamps are those of the source, in its ticks; `pts` is what is shown (strictly rising, see
`_clock.Clock`), `raw` what the decoder said (`NONE` where it said nothing).
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from longtake.core.errors import BadInput
from longtake.core.media import FieldOrder, VideoInfo
from longtake.media import _analysis, _clock, _interlace, images
from longtake.media._clock import Timing
from longtake.media._records import CORRUPT, INTERLACED, KEY, NONE, RECORD, TOP, Rows, read_rows

VERSION = 1
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


class FilmIndex:
    """A complete index, read in slices; it holds no file open and may be shared by threads."""

    def __init__(self, folder: Path, facts: Facts) -> None:
        self.facts = facts
        self._path = folder / BIN

    @staticmethod
    def open(info: VideoInfo, folder: Path) -> FilmIndex:
        """The index that `build` completed. Raises BadInput where there is none for this source."""
        facts = _facts(folder)
        if facts is None or not facts.complete or not _fits(facts, info):
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


def build(info: VideoInfo, folder: Path, drop: Sequence[str] = ()) -> Iterator[int]:
    """Decode the film once and index it in `folder`; yields the number of frames so far.

    Goes on where a killed run stopped, from the last keyframe whose picture is met again; starts
    anew where it is not, where the source has changed, or where the index is damaged. Raises
    BadInput where the film broke off (unless "tail" in `drop`), where packets in the middle cannot
    be decoded (unless "damaged" in `drop`), and where nothing can be decoded at all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    facts = _facts(folder)
    if facts is None or not _fits(facts, info) or not _whole(folder, facts):
        facts = _begin(info, folder, strict=True)
    if facts.strict and "damaged" in drop:
        facts = _begin(info, folder, strict=False)
    if not facts.complete and facts.strict:
        try:
            facts = yield from _analyse(info, folder, facts)
        except _analysis.Faulty:
            facts = _begin(info, folder, strict=False, faulty=True)
    if not facts.complete:
        facts = yield from _analyse(info, folder, facts)
    yield facts.frames
    judge(info, facts, drop)


def _begin(info: VideoInfo, folder: Path, *, strict: bool, faulty: bool = False) -> Facts:
    """An empty index."""
    facts = Facts(
        version=VERSION, source=identity(info), stream=info.stream, strict=strict, faulty=faulty
    )
    (folder / BIN).unlink(missing_ok=True)
    _write(folder, facts)
    return facts


def _analyse(info: VideoInfo, folder: Path, facts: Facts) -> Generator[int, None, Facts]:
    """Complete the index. Raises _analysis.Faulty."""
    analysis = _analysis.Analysis(info, folder / BIN, facts.strict)
    yield from analysis.run()
    if identity(info) != facts.source:
        raise BadInput(f"{info.path}: it changed while it was being read.")
    facts = replace(facts, complete=True, **analysis.outcome())
    index = FilmIndex(folder, facts)
    if info.container != "images" and index.fields() == "progressive" and facts.sorted:
        keys = _interlace.liveliest(index.batches())
        facts = replace(facts, looks=_interlace.looks(info, keys, 1))
    facts = replace(facts, crc=_crc(folder / BIN))
    _write(folder, facts)
    return facts


def judge(info: VideoInfo, facts: Facts, drop: Sequence[str]) -> None:
    """Raises BadInput for a film that is not whole, unless `drop` says to take what is there."""
    if not facts.frames:
        raise BadInput(f"{info.path}: not one frame of it can be decoded ({info.codec}).")
    if facts.broken and "tail" not in drop:
        of = _of(facts)
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


def _of(facts: Facts) -> str:
    """How many frames there are, of how many, where the header knows of more."""
    known = facts.expected > facts.frames
    return f"{facts.frames} of {facts.expected}" if known else f"{facts.frames}"


def exact_info(info: VideoInfo, index: FilmIndex) -> VideoInfo:
    """The film's description with everything that only decoding tells."""
    facts = index.facts
    timing = index.timing(info)
    first = index.pts(0, 1)[0]
    fields = index.fields()
    if fields == "progressive" and info.fields in ("tff", "bff"):
        fields = info.fields  # a codec whose frames carry no flag
    elif fields == "progressive" and facts.looks in ("tff", "bff"):
        fields = "tff" if facts.looks == "tff" else "bff"
    notes = [*info.notes]
    if facts.broken:
        notes.append(f"The file broke off: {_of(facts)} frames are there.")
    if facts.errors:
        notes.append(
            f"{facts.errors} packets could not be decoded and were left out, the first before "
            f"frame {facts.first_error}."
        )
    elif facts.faulty:
        notes.append("The stream has faults: what they spoil is concealed as a player does it.")
    if facts.early:
        notes.append(f"{facts.early} packets before the first whole frame were left out.")
    if facts.repaired:
        notes.append(
            f"{facts.repaired} frames had no timestamp, or one not later than the frame before: "
            "they were given the next one possible."
        )
    if facts.looks and info.fields in ("progressive", "unknown"):
        notes.append(
            f"It is not marked as interlaced, but looks so ({facts.looks}), or telecined: "
            "see --deinterlace."
        )
    if timing.variable:
        notes.append(f"Variable frame rate, {float(timing.rate):.3f} frames/s on average: kept.")
    return replace(
        info,
        exact=True,
        frames=len(index),
        rate=timing.rate,
        start=first,
        duration=(index.end(len(index), info.time_base, timing.rate) - first) * info.time_base,
        variable=timing.variable,
        fields=fields,
        notes=tuple(dict.fromkeys(notes)),
    )


def identity(info: VideoInfo) -> str:
    """A cheap name of the source's bytes: sizes and modification times, not the content."""
    if info.container == "images":
        return images.identity(info)
    about = info.path.stat()
    return f"{about.st_size}-{about.st_mtime_ns}"


def _fits(facts: Facts, info: VideoInfo) -> bool:
    return (facts.version, facts.source, facts.stream) == (VERSION, identity(info), info.stream)


def _whole(folder: Path, facts: Facts) -> bool:
    return not facts.complete or (
        (folder / BIN).exists()
        and (folder / BIN).stat().st_size == facts.frames * RECORD.itemsize
        and _crc(folder / BIN) == facts.crc
    )


def _facts(folder: Path) -> Facts | None:
    """The facts on disk; None where they are absent or make no sense."""
    try:
        return Facts(**json.loads((folder / JSON).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _write(folder: Path, facts: Facts) -> None:
    beside = folder / (JSON + ".new")
    with beside.open("w") as file:
        json.dump(asdict(facts), file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(folder / JSON)


def _crc(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            value = zlib.crc32(block, value)
    return value


__all__ = [
    "CORRUPT", "INTERLACED", "KEY", "NONE", "RECORD", "TOP",
    "Facts", "FilmIndex", "Rows", "Timing", "build", "exact_info", "judge", "read_rows",
]  # fmt: skip
