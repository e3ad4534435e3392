"""Segments one after the other: seams cost no waiting, errors lose nothing that was finished."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from longtake.core.media import Clip
from longtake.core.plan import Segment
from longtake.runtime.segment import Advance, Line, Made, render
from longtake.runtime.stages import Meter
from tests.plans import a_plan

SEGMENTS = [
    Segment(index=i, lead=max(0, 6 * i - 2), start=6 * i, stop=6 * i + 6, cuts=()) for i in range(4)
]


@dataclass
class Film:
    """Frames whose pixels are their number; `log` says when each was read."""

    log: list[tuple[str, int]] = field(default_factory=list)
    bad: int = -1  # this frame cannot be read

    def read(self, start: int, stop: int, size: int) -> Iterator[Clip]:
        for first in range(start, stop, size):
            last = min(first + size, stop)
            if first <= self.bad < last:
                raise ValueError(f"frame {self.bad}")
            self.log.append(("read", first))
            yield Clip(pixels=_numbered(first, last), start=first)

    def pts(self, start: int, stop: int) -> list[int]:
        return list(range(start, stop))


class Engine:
    def __init__(self, bad: int = -1) -> None:
        self.bad = bad

    def upscale(self, clips):
        for clip in clips:
            if clip.start <= self.bad < clip.stop:
                raise ArithmeticError(f"frame {self.bad}")
            yield clip


@dataclass
class Sink:
    """Keeps what is written; `closing` holds the end of a part back."""

    log: list[tuple[str, int]]
    parts: dict[str, list[int]] = field(default_factory=dict)
    cut: list[str] = field(default_factory=list)  # parts that were left by an exception
    closing: threading.Event | None = None
    bad: int = -1

    @contextmanager
    def open(self, path: Path, output, encoder, first: int):
        frames: list[int] = []
        try:
            yield _Writer(frames, self.bad)
        except BaseException:
            self.cut.append(path.name)
            raise
        if self.closing is not None:
            assert self.closing.wait(timeout=10)
        self.parts[path.name] = frames
        self.log.append(("closed", first))


@dataclass
class _Writer:
    frames: list[int]
    bad: int

    def write(self, clip: Clip, pts: list[int]) -> None:
        if self.bad in pts:
            raise OSError(f"frame {self.bad}")
        assert list(clip.pixels[:, 0, 0, 0]) == pts
        self.frames.extend(pts)


def _numbered(start: int, stop: int) -> np.ndarray:
    return np.arange(start, stop, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)


def made_of(film: Film, sink: Sink, bad: int = -1) -> Iterator[Advance | Made]:
    plan = a_plan()
    plan = replace(plan, placement=replace(plan.placement, step=2, queue=1))
    line = Line(film=film, upscaler=Engine(bad), sink=sink, meter=Meter())  # type: ignore[arg-type]
    return render(plan, line, [(s, Path(str(s.index))) for s in SEGMENTS])


def test_every_part_holds_its_frames_without_the_lead() -> None:
    film = Film()
    sink = Sink(film.log)
    steps = list(made_of(film, sink))
    assert sink.parts == {str(s.index): list(range(s.start, s.stop)) for s in SEGMENTS}
    assert [s.segment.index for s in steps if isinstance(s, Made)] == [0, 1, 2, 3]
    last = {s.segment.index: s.frames for s in steps if isinstance(s, Advance)}
    assert last == {0: 6, 1: 6, 2: 6, 3: 6}


def test_the_next_segment_is_read_and_computed_while_a_part_is_being_closed() -> None:
    film = Film()
    sink = Sink(film.log, closing=threading.Event())
    steps = made_of(film, sink)
    for step in steps:
        if isinstance(step, Advance) and step.segment.index == 1:
            break  # the first part is not closed yet: nobody has let it
    assert not sink.parts
    sink.closing.set()
    assert [s.segment.index for s in steps if isinstance(s, Made)] == [0, 1, 2, 3]
    assert len(sink.parts) == 4


@pytest.mark.parametrize("where", ["read", "compute"])
def test_an_error_comes_after_the_parts_before_it(where) -> None:
    sink = Sink([])
    film, bad = (Film(bad=14), -1) if where == "read" else (Film(), 14)
    made: list[int] = []
    with pytest.raises((ValueError, ArithmeticError), match="frame 14"):
        for step in made_of(film, sink, bad):
            if isinstance(step, Made):
                made.append(step.segment.index)
    assert made == [0, 1]
    assert sorted(sink.parts) == ["0", "1"]
    assert sink.cut in ([], ["2"])
    assert_no_thread_is_left()


def test_an_error_of_the_encoder_names_no_part_after_it() -> None:
    sink = Sink([], bad=9)
    made: list[int] = []
    with pytest.raises(OSError, match="frame 9"):
        for step in made_of(Film(), sink):
            if isinstance(step, Made):
                made.append(step.segment.index)
    assert made == [0]
    assert sorted(sink.parts) == ["0"]
    assert sink.cut == ["1"]
    assert_no_thread_is_left()


@pytest.mark.parametrize("after", [1, 3, 4, 9])
def test_closing_stops_everything_and_leaves_no_part_half_done(after) -> None:
    sink = Sink([])
    steps = made_of(Film(), sink)
    for _ in range(after):
        next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert all(len(frames) == 6 for frames in sink.parts.values())
    assert_no_thread_is_left()


def assert_no_thread_is_left() -> None:
    assert not [t.name for t in threading.enumerate() if t.name.startswith("longtake")]


def test_an_engine_is_stopped_once_a_segment_has_its_frames() -> None:
    """What it would make of the look-ahead is not waited for, and the next segment is whole."""
    film, made = Film(), []
    sink = Sink(film.log)

    class Slow(Engine):
        def upscale(self, clips):
            for clip in clips:
                made.append(clip.start)
                yield clip

    ahead = [replace(s, tail=4) for s in SEGMENTS]
    plan = a_plan()
    plan = replace(plan, placement=replace(plan.placement, step=2, queue=1))
    line = Line(film=film, upscaler=Slow(), sink=sink, meter=Meter())  # type: ignore[arg-type]
    list(render(plan, line, [(s, Path(str(s.index))) for s in ahead]))
    assert sink.parts == {str(s.index): list(range(s.start, s.stop)) for s in SEGMENTS}
    assert made == [f for s in SEGMENTS for f in range(s.lead, s.stop, 2)]
