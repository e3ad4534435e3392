"""The stages of a job alone, each at full speed: the job's own functions, fed from memory.

A run gives frames, seconds of the clock and of all cores; `speed` takes the median of several.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from longtake.core.media import Clip
from longtake.core.plan import Plan, Segment
from longtake.core.ports import Film, Upscaler
from longtake.runtime.segment import Line, decoded, written

HELD = 192 << 20  # bytes of frames kept in memory to feed the encoder from

Run = tuple[int, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Runs of one kind."""

    fps: float  # median of the runs
    runs: tuple[float, ...]  # fps of each
    core_ms: float | None = None  # processor time of one frame, all cores together, median


def speed(repeats: int, once: Callable[[], Run]) -> Speed:
    """Median of runs that each give frames, seconds and core seconds."""
    runs = [once() for _ in range(repeats)]
    rates = tuple(frames / seconds for frames, seconds, _ in runs)
    cores = statistics.median(core / frames for frames, _, core in runs)
    return Speed(fps=statistics.median(rates), runs=rates, core_ms=1000 * cores)


def decode(plan: Plan, film: Film, seconds: float) -> Run:
    """Frames read, as the job reads them: at most all of it."""
    began, cores, frames = time.perf_counter(), time.process_time(), 0
    reading: Any = decoded(film, plan.segments, plan.placement.step)
    with closing(reading):
        for clip in reading:
            frames += 0 if clip is None else len(clip.pixels)
            if frames and time.perf_counter() - began > seconds:
                break
    return frames, time.perf_counter() - began, time.process_time() - cores


def compute(plan: Plan, film: Film, upscaler: Upscaler, seconds: float) -> Run:
    """Frames through the engine, fed from memory; the first clip warms up and does not count."""
    clips = _some(plan, film)
    stream: Any = upscaler.upscale(_endless(clips))
    with closing(stream):
        next(stream)
        began, cores, frames = time.perf_counter(), time.process_time(), 0
        for made in stream:
            frames += len(made.pixels)
            if time.perf_counter() - began > seconds:
                break
    return frames, time.perf_counter() - began, time.process_time() - cores


def encode(plan: Plan, line: Line, made: Sequence[Clip], part: Path, seconds: float) -> Run:
    """Frames written to parts of the job's own lengths, opened, closed and made durable; at least
    one part."""
    spent = cores = 0.0
    frames = 0
    for segment in cycle(plan.segments):
        began, busy = time.perf_counter(), time.process_time()
        for _ in written(plan, line, [(segment, part)], _to_and_fro(segment, made)):
            spent += time.perf_counter() - began
            cores += time.process_time() - busy
        frames += segment.stop - segment.start
        remove(part)
        if spent > seconds or frames >= plan.geometry.frames:
            break
    return frames, spent, cores


def _some(plan: Plan, film: Film) -> list[Clip]:
    """The first clips of the film, up to four."""
    step = plan.placement.step
    stop = min(plan.segments[0].stop, 4 * step)
    return list(film.read(0, stop, step))


def _endless(clips: Sequence[Clip]) -> Iterator[Clip]:
    """The same clips again and again, numbered on."""
    start = 0
    for clip in cycle(clips):
        yield Clip(pixels=clip.pixels, start=start)
        start += len(clip.pixels)


def held(plan: Plan, film: Film, upscaler: Upscaler) -> list[Clip]:
    """The film's first enlarged clips, as many as fit in HELD bytes, and at least one."""
    segment, step = plan.segments[0], plan.placement.step
    reading: Any = film.read(segment.lead, segment.stop, step)
    made: list[Clip] = []
    with closing(reading):
        stream: Any = upscaler.upscale(reading)
        with closing(stream):
            for clip in stream:
                made.append(clip)
                if sum(c.pixels.nbytes for c in made) + clip.pixels.nbytes > HELD:
                    break
    return made


def _to_and_fro(segment: Segment, made: Sequence[Clip]) -> Iterator[Clip | None]:
    """Frames for a segment: forwards, backwards and so on, so that motion never jumps."""
    back = [Clip(pixels=c.pixels[::-1], start=0) for c in reversed(made)]
    at = segment.start
    for clip in cycle([*made, *back]):
        placed = Clip(pixels=clip.pixels, start=at).within(at, segment.stop)
        yield placed
        at = placed.stop
        if at >= segment.stop:
            break
    yield None


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
