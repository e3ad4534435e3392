"""Make a run of frames as the whole film's job would make it: the same plan, segments and streams.

What a segment's frames depend on is the law of the house: recipe, seed, absolute position. So the
frames of a range are made inside the segments that the whole film would have, warmed up from those
segments' leads, and numbered as there. An engine that needs neither lead nor tail depends on no
other frame; its range is cut by itself.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from longtake.core.events import (
    Advanced,
    Event,
    Joined,
    Replanned,
    SegmentDone,
    Slowed,
    Verified,
    Warned,
)
from longtake.core.machine import Machine
from longtake.core.plan import Plan, Segment
from longtake.core.ports import Grid
from longtake.core.task import Upscale
from longtake.journal import Journal
from longtake.media import scenes
from longtake.media.exact import exact_info
from longtake.media.index import FilmIndex, identity
from longtake.media.source import FileFilm
from longtake.media.verify import verify
from longtake.planner import planner, segments
from longtake.planner.calibration import Calibration, Rate, key
from longtake.planner.choices import Crafts
from longtake.runtime import allocator, run

SETTLED = 8  # frames at the end of an unfinished index in which a cut is not yet certain
LEARNED = 24  # frames from which on the calibration takes a figure, as of a job


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """The frames [first, stop) of a film, and its index as far as it was made."""

    index: FilmIndex
    first: int
    stop: int
    seconds: float  # that one frame of the index took

    @property
    def frames(self) -> int:
        return self.stop - self.first


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to make the film: what would be run for all of it."""

    name: str
    plan: Plan  # of the whole film, as its header allows it
    crafts: Crafts

    @property
    def grid(self) -> Grid:
        return self.crafts.engine.grid(self.plan.recipe.knobs)

    @property
    def remembers(self) -> bool:
        """Whether a frame depends on others, so that the whole film's segments must be known."""
        return bool(self.grid.lead or self.grid.tail)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A variant's clip and what making it has told."""

    variant: Variant
    clip: Path
    fps: float | None  # frames through the engine, per second; None: made by a stopped run
    seconds: float | None  # predicted for the whole film
    disk: int  # bytes of the whole film, as these frames were coded


def known_enough(variants: Sequence[Variant], index: FilmIndex, stop: int) -> bool:
    """Whether the segments around [.., stop) can no longer change, however the film goes on: there
    is a cut so far behind that the last of them was decided by it."""
    reach = max(v.plan.recipe.segment_frames for v in variants if v.remembers)
    least = stop + reach + 1
    if len(index) < least + SETTLED:
        return False
    return any(least <= cut < len(index) - SETTLED for cut in scenes.cuts(index))


def frozen(variant: Variant, excerpt: Excerpt) -> Plan:
    """The whole film's plan as far as the index goes, with only the wanted part of its segments."""
    index, plan = excerpt.index, counted(variant.plan, excerpt.index)
    length = plan.recipe.segment_frames
    if variant.remembers:
        grid = variant.grid
        cuts = scenes.cuts(index)
        table = segments.cut(len(index), length, grid.lead, grid.tail, cuts, grid.align)
        part = wanted(table, excerpt.first, excerpt.stop)
    else:
        table = segments.cut(excerpt.frames, length)
        part = tuple(_moved(s, excerpt.first) for s in table)
    return replace(plan, segments=part)


def counted(plan: Plan, index: FilmIndex) -> Plan:
    """The film's plan with what an index knows of it; its frames are those of the index."""
    info = exact_info(plan.info, index)
    timing = index.timing(info)
    output = replace(
        plan.recipe.output, rate=timing.rate, time_base=timing.time_base, variable=timing.variable
    )
    return replace(
        plan, stage="frozen", info=info,
        recipe=replace(plan.recipe, source=identity(info), output=output),
        geometry=replace(plan.geometry, frames=len(index)),
    )  # fmt: skip


def wanted(table: Sequence[Segment], first: int, stop: int) -> tuple[Segment, ...]:
    """Those segments of the film's table that give frames [first, stop), and only these of them.

    They begin where the film's segments begin to be computed (or at the last cut before the first
    wanted frame: nothing crosses it), and look ahead as far.
    """
    found: list[Segment] = []
    for segment in table:
        if segment.stop <= first or segment.start >= stop:
            continue
        a, b = max(segment.start, first), min(segment.stop, stop)
        tail = segment.stop + segment.tail - b if segment.tail else 0
        lead = max([segment.lead, *(c for c in segment.cuts if c <= a)])
        cuts = tuple(c for c in segment.cuts if lead < c < b + tail)
        found.append(Segment(index=len(found), lead=lead, start=a, stop=b, tail=tail, cuts=cuts))
    return tuple(found)


def _moved(segment: Segment, by: int) -> Segment:
    return replace(
        segment, lead=segment.lead + by, start=segment.start + by, stop=segment.stop + by
    )


def excerpt_plan(plan: Plan, excerpt: Excerpt) -> Plan:
    """The plan of the clip alone, whose frame 0 is the first wanted one: for joining and checks."""
    task = replace(plan.upscale, frames=(excerpt.first, excerpt.stop))
    reading = replace(plan.recipe.read, first=excerpt.first)
    return replace(
        plan,
        task=task,
        geometry=replace(plan.geometry, frames=excerpt.frames),
        recipe=replace(plan.recipe, reading=reading),
        segments=tuple(_moved(s, -excerpt.first) for s in plan.segments),
    )


def film_of(plan: Plan, index: FilmIndex) -> FileFilm:
    recipe = plan.recipe
    return FileFilm(plan.info, index, recipe.read, recipe.output, plan.geometry.frames)


def make(
    variant: Variant, excerpt: Excerpt, work: Path, machine: Machine, known: Calibration
) -> Generator[Event, None, Made]:
    """Make a variant's clip by the machinery of a job; its segments are kept in `work`, so that a
    run which was stopped goes on. `Advanced` counts the frames of the clip."""
    plan = frozen(variant, excerpt)
    clip = work / f"{plan.identity}{plan.task.target.suffix}"
    plan = replace(plan, task=replace(plan.task, target=clip))
    job = run.Job(plan=plan, crafts=variant.crafts, machine=machine, known=known)
    job.folder.mkdir(exist_ok=True)
    if plan.recipe.numerics.torch is None:
        allocator.steady()
    journal = Journal(job.folder, plan, variant.crafts.sink.part)
    fresh: list[SegmentDone] = []
    with closing(run.segments(job, journal, film_of(plan, excerpt.index))) as events:  # type: ignore[type-var]
        for event in events:
            if isinstance(event, SegmentDone):
                fresh.append(event)
            elif isinstance(event, Advanced):
                left = event.of - event.frames
                yield Advanced(frames=excerpt.frames - left, of=excerpt.frames)
            elif isinstance(event, Warned | Slowed | Replanned):
                yield event
    began = time.monotonic()
    yield from _joined(variant, journal, excerpt_plan(plan, excerpt), excerpt, clip)
    closing_seconds = time.monotonic() - began
    return _told(job, variant, excerpt, fresh, closing_seconds)


def _joined(
    variant: Variant, journal: Journal, plan: Plan, excerpt: Excerpt, clip: Path
) -> Iterator[Event]:
    film = film_of(plan, excerpt.index)
    committed = journal.committed()
    parts = [committed[s.index] for s in plan.segments]
    for frames in variant.crafts.sink.join(parts, clip, film, plan):
        yield Joined(frames=frames, of=excerpt.frames)
    for frames in verify(clip, film, plan):
        yield Verified(frames=frames, of=excerpt.frames)


def _told(
    job: run.Job, variant: Variant, excerpt: Excerpt, fresh: Sequence[SegmentDone],
    closing_seconds: float,
) -> Made:  # fmt: skip
    """Speed, and what the whole film would take at it. `fresh` were made by this run."""
    numbers, spent = {e.segment for e in fresh}, sum(e.seconds for e in fresh)
    computed = sum(s.stop + s.tail - s.lead for s in job.plan.segments if s.index in numbers)
    whole = variant.plan
    width, height = whole.geometry.target
    one = width * height / 1e6  # megapixels of a frame
    seconds: float | None = None
    if job.frames == excerpt.frames:  # else some of it was made by a run that was stopped
        busy = job.meter.busy
        per_frame = excerpt.seconds + spent / computed + closing_seconds / excerpt.frames
        rate = Rate(
            decode=busy["decode"] / (computed * one),
            compute=busy["compute"] / (computed * one),
            encode=busy["encode"] / (excerpt.frames * one),
            wall=per_frame / one,
            megapixels=computed * one,
        )
        seconds = per_frame * whole.geometry.frames
        if excerpt.frames >= LEARNED:
            job.known.learn(key(job.plan.recipe, job.plan.placement, job.machine), rate)
    learned = planner.timed(whole, job.machine, job.known).time
    disk = job.plan.task.target.stat().st_size * whole.geometry.frames // excerpt.frames
    return Made(
        variant=variant, clip=job.plan.task.target, fps=computed / spent if spent else None,
        seconds=learned.total if learned else seconds, disk=disk,
    )  # fmt: skip


def alone(plan: Plan) -> Plan:
    """The plan on the first of its devices: a few seconds of film are not worth more of them."""
    return replace(plan, placement=replace(plan.placement, devices=plan.placement.devices[:1]))


def suffix_for(task: Upscale, codecs: dict[str, Sequence[str]]) -> str | None:
    """The container of a clip: mp4 where it takes the codec, else the first that does."""
    if task.codec == "auto" or task.codec in codecs.get("mp4", ()):
        return ".mp4"
    return next((f".{name}" for name, held in codecs.items() if task.codec in held), None)
