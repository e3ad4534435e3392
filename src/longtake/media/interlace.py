"""Whether a film looks interlaced or telecined: evidence from a few runs of its frames.

Combing shows only where something moves, so an analysed film is judged by the three short runs with
the most motion, a film that is only probed by runs here and there until enough of them moved. Both
are shown to libavfilter's `idet`, for interlacing, and to the search for pulldown (`_cadence`). The
answer is a note for the user, never a decision.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import chain, islice
from math import ceil
from typing import Literal

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from longtake.core.media import Telecine, VideoInfo
from longtake.media import _decode, _restore, guard
from longtake.media._cadence import Evidence, Verdict, Whole, decide
from longtake.media._fields import Fields, Weaves
from longtake.media._records import KEY, NONE, Rows

Looks = Literal["", "tff", "bff"]

RUN = 48  # frames of a run
_RUNS = 3
_LEAST = 12  # frames that idet must be sure of
_SHARE = 0.8  # of those that are interlaced
_LINES = 200  # of a picture; what is smaller was never interlaced
_MOTION = 0.5  # grid difference below which idet cannot tell
_ENOUGH = 16  # cycles of five moving frames after which probing ends
_PLACES = (0, 4, 2, 6, 1, 5, 3, 7)  # eighths of the film at which it is looked at, in that order


@dataclass(slots=True)
class Seen:
    """What the runs said so far."""

    said: list[Looks] = field(default_factory=list)  # by runs of which idet was sure
    cycles: _restore.Cycles = field(default_factory=_restore.Cycles)
    begun: list[int | None] = field(default_factory=list)  # timestamps of the runs' first frames

    @property
    def looks(self) -> Looks:
        """Interlaced, if every run says the same. A picture that scrolls by just two lines a frame
        deceives idet, so one run alone proves nothing unless there is but one."""
        return self.said[0] if len(set(self.said)) == 1 else ""

    @property
    def telecine(self) -> Telecine:
        cycles = self.cycles
        return Telecine(pattern=cycles.pattern, share=round(cycles.share, 4), cycles=cycles.moving)

    def take(self, info: VideoInfo, frames: Iterator[av.VideoFrame]) -> None:
        """Judge one run."""
        fields, judge = Fields(), _Idet()
        weaves: list[Weaves] = []
        times: list[int | None] = []
        for frame in frames:
            if (frame.width, frame.height) != (info.width, info.height):
                break
            times.append(_decode.raw_time(frame))
            weaves.append(fields.measure(frame))
            judge.take(frame)
        if info.height >= _LINES:
            sure = sum(judge.votes[v] for v in ("tff", "bff", "progressive"))
            if sure >= _LEAST:
                self.said.append(_verdict(judge.votes, sure))
        if len(weaves) > 1:
            lengths = _lengths(times, info.time_base)
            self.cycles.take(_decided(weaves, lengths), lengths)


def liveliest(slices: Iterable[Rows]) -> list[Rows]:
    """The keyframes before the runs with the most motion; `slices` are runs of records."""
    known: list[tuple[float, Rows]] = []
    key: Rows | None = None
    for rows in slices:
        for at in range(0, len(rows), RUN):
            run = rows[at : at + RUN]
            keys = np.flatnonzero((run["flags"] & KEY > 0) & (run["raw"] != NONE))
            if len(keys):
                key = run[keys[0] : keys[0] + 1].copy()
            motion = float(np.median(run["diff"]))
            if key is not None and motion >= _MOTION:
                known.append((motion, key))
                known.sort(key=lambda k: -k[0])
                del known[_RUNS:]
    return [k for _, k in known]


def seen_after(info: VideoInfo, keys: Iterable[Rows], threads: int) -> Seen:
    """What the frames after each of `keys` look like."""
    seen = Seen()
    for key in keys:
        container, stream = _decode.open_stream(info.path, info.stream, threads)
        with container:
            if _decode.seek(container, stream, key[0], key[0]):
                _run(info, container, stream, seen)
    return seen


def examined(info: VideoInfo) -> VideoInfo:
    """The film's description with what a bounded look at its frames tells: at most 8 runs of 48
    frames are decoded, half of them only where little moves. Folders of images are not looked at.
    """
    if info.container == "images":
        return info
    seen = Seen()
    apart = max(1, ceil(8 * RUN / max(1, info.frames)))  # eighths that a run is long
    for place in _PLACES:
        if place % apart:
            continue
        container, stream = _decode.open_stream(info.path, info.stream)
        with container:
            goal = info.start + round(Fraction(place, 8) * info.duration / info.time_base)
            try:
                if place:
                    container.seek(goal, stream=stream)
            except FFmpegError:
                continue
            _run(info, container, stream, seen)
        if seen.cycles.moving >= _ENOUGH:
            break
    found = seen.telecine
    notes = list(info.notes)
    fields = info.fields
    if not found.found and fields in ("progressive", "unknown") and seen.looks:
        fields = seen.looks
        notes.append(f"It is not marked as interlaced, but looks so ({fields}).")
    return replace(info, fields=fields, telecine=found, notes=tuple(dict.fromkeys(notes)))


def advice(info: VideoInfo) -> list[str]:
    """What to do about a film that turned out to be telecined."""
    found = info.telecine
    return _restore.told(found, 0) if found is not None and found.found else []


def _run(info: VideoInfo, container: InputContainer, stream: VideoStream, seen: Seen) -> None:
    found = _decode.frames(container, stream, _decode.Tally(), info.path)
    with closing(found):
        first = next(found, None)
        name = _decode.raw_time(first) if first is not None else None
        if first is not None and name not in seen.begun:
            seen.begun.append(name)
            seen.take(info, chain([first], islice(found, RUN - 1)))


def _decided(weaves: list[Weaves], lengths: Whole) -> Verdict:
    measured = Evidence(
        np.array([w.comb for w in weaves], np.float64),
        np.array([w.peak for w in weaves], np.float64),
        np.array([w.moved for w in weaves], np.float64),
        np.full(len(lengths), 2),  # only the patterns are asked for here
    )
    [verdict] = decide(measured.cut, len(weaves))
    return verdict


def _lengths(times: list[int | None], tick: Fraction) -> Whole:
    """Fields for which each frame is shown, if every one is shown for two or three of 1/60 s."""
    known = np.array([t for t in times if t is not None], np.int64)
    if len(known) == len(times):
        unit = _restore.unit_of(known, tick)
        if unit is not None:
            return _restore.lengths(known, len(known), unit)
    return np.full(len(times), 2)


def _verdict(votes: Counter[str], sure: int) -> Looks:
    if votes["tff"] + votes["bff"] < _SHARE * sure:
        return ""
    return "tff" if votes["tff"] >= votes["bff"] else "bff"


class _Idet:
    """What libavfilter's idet says of each frame; "" where it cannot tell."""

    def __init__(self) -> None:
        self.votes: Counter[str] = Counter()
        self._graph: av.filter.Graph | None = None
        self._count = 0

    def take(self, frame: av.VideoFrame) -> None:
        graph = self._graph = self._graph or self._build(frame)
        frame.pts = self._count
        self._count += 1
        try:
            graph.push(frame)
            said = graph.pull().metadata
        except (FFmpegError, EOFError):
            return
        self.votes[str(said.get("lavfi.idet.single.current_frame", ""))] += 1

    def _build(self, like: av.VideoFrame) -> av.filter.Graph:
        graph = av.filter.Graph()
        graph.threads = guard.THREADS
        source = graph.add_buffer(
            width=like.width, height=like.height, format=like.format, time_base=Fraction(1, 1000)
        )
        judge, sink = graph.add("idet"), graph.add("buffersink")
        source.link_to(judge)
        judge.link_to(sink)
        graph.configure()
        return graph
