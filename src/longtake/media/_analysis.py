"""The decoding pass that fills `index.bin`: one record per frame, appended, resumable."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import BlockingIOError as Waiting
from av.error import FFmpegError

from longtake.core.errors import BadInput
from longtake.core.media import Deinterlace, VideoInfo
from longtake.media import _decode, _facts, _structure, guard, images
from longtake.media._clock import Clock
from longtake.media._fields import Fields
from longtake.media._look import Field, Look, look, thumb
from longtake.media._records import (
    BATCH,
    CORRUPT,
    INTERLACED,
    KEY,
    NONE,
    RECORD,
    TOP,
    Appender,
    Rows,
    read_rows,
    seal,
    sealed,
)

_TOLERANCE = Fraction(1, 2)  # s by which a film may end before its header says
_ESTIMATED = (*_decode.MPEG, "mov,mp4,m4a,3gp,3g2,mj2")
"""Where a stated duration proves nothing: guessed by libav, or with an edit list applied to it."""
_SCAN = 4096  # records looked at in one go


@dataclass(slots=True)
class _State:
    """What a record needs of the frames before it."""

    clock: Clock
    before: Look | None = None  # of the frame before
    earlier: Look | None = None  # of the frame before that
    fields: Fields | None = None  # where the film is to be put together anew from its fields


@dataclass(slots=True)
class Analysis:
    """One pass over one film. `run` to its end, then `outcome`.

    A strict pass raises `Faulty` at the first thing that the decoder would conceal. A film with
    faults is decoded by a single thread: with several, what is concealed depends on their timing,
    and the same frame would look different each time.
    """

    info: VideoInfo
    path: Path  # of index.bin
    strict: bool = True
    deinterlace: Deinterlace = "no"  # how the film will be read: what is measured is that
    tally: _decode.Tally = field(default_factory=_decode.Tally)
    duration: Fraction = Fraction(0)  # s, of the film's own stream by the header; 0: not stated
    promised: int = 0  # frames by the header; 0: not stated
    shift: Fraction = Fraction(0)
    frames: int = 0
    _parity: _Parity | None = None

    def run(self) -> Iterator[int]:
        """Yields the number of frames in the index, now and then."""
        found = _valid(self.path)
        for again in self._resume_points(found):
            try:
                yield from self._pass(again)
                return
            except (_Missed, Faulty):  # a decoder may well complain where a seek set it down
                self.tally = _decode.Tally()
        yield from self._pass(0)

    def outcome(self) -> dict[str, Any]:
        """The facts about the whole film (fields of `index.Facts`)."""
        errors, early, first, repaired, rising = 0, 0, -1, 0, True
        last = NONE
        for start in range(0, self.frames, _SCAN):
            rows = read_rows(self.path, start, min(start + _SCAN, self.frames))
            lost = rows["lost"].astype(np.int64)
            if start == 0:
                early, lost[0] = int(lost[0]), 0
            if first < 0 and lost.any():
                first = start + int(np.flatnonzero(lost)[0])
            errors += int(lost.sum())
            raw = rows["raw"].astype(np.int64)
            steps = np.diff(np.concatenate([[last], raw])) if start else np.diff(raw)
            rising = rising and bool((raw != NONE).all() and (steps > 0).all())
            last = int(raw[-1])
            moved = rows["pts"] - rows["raw"]
            repaired += int(np.count_nonzero((rows["raw"] == NONE) | (moved != 0)))
        broken, missing = self._broken()
        if self.tally.lost and not broken:
            first = self.frames if first < 0 else first
            errors += self.tally.lost
        return {
            "frames": self.frames,
            "expected": self.info.frames,
            "errors": errors,
            "early": early,
            "first_error": first,
            "missing": missing,
            "broken": broken,
            "repaired": repaired,
            "sorted": rising,
            "shift": str(self.shift),
        }

    def _broken(self) -> tuple[bool, int]:
        """(the film broke off, bytes missing at the end of the file)."""
        if self.info.container == "images":
            return False, 0
        missing = _structure.overhang(self.info.path)
        if self.tally.broken_end:
            return True, missing
        if missing:
            return not self.promised or self.frames < self.promised, missing
        if self.info.container in _ESTIMATED or not self.frames:
            return False, 0
        first, last = (read_rows(self.path, i, i + 1)[0] for i in (0, self.frames - 1))
        rate = self.info.rate or Fraction(25)
        end = (int(last["pts"]) + int(last["duration"])) * self.info.time_base
        # some headers state how long the film is, some (Matroska) when it ends: the milder counts
        there = max(end - int(first["pts"]) * self.info.time_base, end, self.frames / rate)
        return self.duration - there > max(_TOLERANCE, 10 / rate), 0

    def _resume_points(self, found: int) -> list[int]:
        """Frames from which a pass may go on, best first; empty: only from the start."""
        if self.info.container == "images":
            return [found - 2] if found > 3 else []
        for stop in range(found - 2, 1, -_SCAN):
            start = max(1, stop - _SCAN)
            rows = read_rows(self.path, start, stop)
            keys = np.flatnonzero((rows["flags"] & KEY > 0) & (rows["raw"] != NONE))
            if len(keys):
                return [start + int(k) for k in keys[::-1][:2]]
        return []

    def _pass(self, again: int) -> Iterator[int]:
        """Index from frame `again`, of which and of the next one the records are already there."""
        known = read_rows(self.path, again, again + 2) if again else np.zeros(0, RECORD)
        first = again + len(known)  # the first frame to be written
        state = self._state(known)
        number = again
        with closing(self._frames(again, known)) as frames, Appender(self.path, first) as out:
            for frame in frames:
                seen = look(frame, self._field(frame))
                if number < first:
                    if state.fields is not None:
                        state.fields.measure(frame)
                    _meet(known[number - again], frame, seen)
                    state.earlier, state.before = state.before, seen
                else:
                    self._record(out.next(), frame, seen, state)
                number += 1
                if number > guard.MAX_FRAMES:
                    raise BadInput(f"{self.info.path}: more than {guard.MAX_FRAMES} frames.")
                if number % BATCH == 0:
                    yield number
            if number < first:
                raise _Missed
        self.frames = number
        yield number

    def _state(self, known: Rows) -> _State:
        clock = Clock(1 / ((self.info.rate or Fraction(25)) * self.info.time_base))
        if len(known):
            raw = int(known[1]["raw"])
            clock.resume(int(known[1]["pts"]), None if raw == NONE else raw)
        return _State(clock=clock, fields=Fields() if self.deinterlace == "ivtc" else None)

    def _field(self, frame: av.VideoFrame) -> Field | None:
        """The field whose lines the frame will have as it is read; None: it has both."""
        if self.deinterlace == "no":
            return None
        if self.deinterlace == "ivtc":
            return "top"
        if not frame.interlaced_frame:
            return "bottom" if self.info.fields == "bff" else "top"
        return "top" if self._top_first(frame) else "bottom"

    def _top_first(self, frame: av.VideoFrame) -> bool:
        self._parity = self._parity or _Parity(frame)
        return self._parity.top_first(frame)

    def _frames(self, again: int, known: Rows) -> Generator[av.VideoFrame]:
        """The film's frames from the first of `known` on. Raises _Missed where that fails."""
        info = self.info
        if info.container == "images":
            yield from images.frames(info, int(known[0]["raw"]) if len(known) else 0, info.frames)
            return
        threads = guard.THREADS if self.strict else 1
        container, stream = _decode.open_stream(info.path, info.stream, threads, strict=self.strict)
        with container:
            self.duration, self.promised = _facts.duration(stream), stream.frames
            self.shift = _decode.clock_origin(container)
            if len(known):
                before = read_rows(self.path, max(0, again - _decode.REORDER), again + 1)
                if not _decode.seek(container, stream, known[0], before[0]):
                    raise _Missed
            given = again
            found = _decode.frames(container, stream, self.tally, info.path)
            for frame in self._from(known[0], found) if len(known) else found:
                if self.strict and self.tally.faults:
                    raise Faulty(given)
                if (frame.width, frame.height) != (info.width, info.height):
                    raise BadInput(
                        f"{info.path}: frame {given} is {frame.width}x{frame.height} px, those "
                        f"before it are {info.width}x{info.height}: a change of size inside a "
                        "film is not supported."
                    )
                given += 1
                yield frame
            if self.strict and self.tally.faults:
                raise Faulty(given)

    def _from(self, row: Rows, found: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """The frames from the one of `row` on; what went wrong before it does not count."""
        wanted = int(row["raw"])
        for frame in found:
            raw = _decode.raw_time(frame)
            if raw is None or raw > wanted:
                raise _Missed
            if raw == wanted:
                self.tally.lost = self.tally.faults = 0
                yield frame
                yield from found
                return
        raise _Missed

    def _record(self, row: Rows, frame: av.VideoFrame, seen: Look, state: _State) -> None:
        raw = _decode.raw_time(frame)
        row["raw"] = NONE if raw is None else raw
        row["pts"] = state.clock.show(raw)
        row["duration"] = min(max(0, frame.duration or 0), (1 << 31) - 1)
        row["fingerprint"] = seen.fingerprint
        row["mean"] = seen.mean
        row["thumb"] = thumb(seen.grid)
        row["diff"] = row["skip"] = row["hist"] = 0
        if state.before is not None:
            row["diff"] = np.abs(seen.grid - state.before.grid).mean()
            row["hist"] = np.abs(seen.histogram - state.before.histogram).sum() / 2
        if state.earlier is not None:
            row["skip"] = np.abs(seen.grid - state.earlier.grid).mean()
        if state.fields is not None:
            weaves = state.fields.measure(frame)
            row["comb"], row["peak"], row["moved"] = weaves.comb, weaves.peak, weaves.moved
        flags = KEY * frame.key_frame | CORRUPT * frame.is_corrupt
        if frame.interlaced_frame:
            flags |= INTERLACED | TOP * self._top_first(frame)
        row["flags"] = flags
        row["lost"] = min(self.tally.lost, 0xFFFF)
        seal(row)
        state.earlier, state.before = state.before, seen


class Faulty(Exception):
    """The stream has faults that a player conceals."""


class _Missed(Exception):
    """The picture met after a seek is not the one in the index."""


def _meet(row: Rows, frame: av.VideoFrame, seen: Look) -> None:
    raw = _decode.raw_time(frame)
    if raw != int(row["raw"]) or seen.fingerprint != int(row["fingerprint"]):
        raise _Missed


def _valid(path: Path) -> int:
    """Whole, undamaged records at the beginning of the file; 0 where there is no file."""
    if not path.exists():
        return 0
    count = path.stat().st_size // RECORD.itemsize
    for start in range(0, count, _SCAN):
        for k, row in enumerate(read_rows(path, start, min(start + _SCAN, count))):
            if not sealed(row):
                return start + k
    return count


class _Parity:
    """Whether an interlaced frame shows its top field first, which PyAV does not tell.

    libavfilter's `select` reads the flag of each frame; what passes has its top field first.
    """

    def __init__(self, like: av.VideoFrame) -> None:
        self._graph = av.filter.Graph()
        source = self._graph.add_buffer(
            width=like.width, height=like.height, format=like.format, time_base=Fraction(1, 1000)
        )
        chosen = self._graph.add("select", r"eq(interlace_type\,TOPFIRST)")
        sink = self._graph.add("buffersink")
        source.link_to(chosen)
        chosen.link_to(sink)
        self._graph.configure()

    def top_first(self, frame: av.VideoFrame) -> bool:
        self._graph.push(frame)
        try:
            self._graph.pull()
        except (Waiting, FFmpegError):
            return False
        return True
