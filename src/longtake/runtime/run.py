"""Carry a plan out. Sees every craft; holds no skill of its own."""

from __future__ import annotations

import shutil
import time
from collections.abc import Generator as Steps
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from longtake.core.errors import BadInput, DiskFull, VerifyFailed
from longtake.core.events import (
    Advanced,
    Event,
    Finished,
    Joined,
    SegmentDone,
    Slowed,
    Started,
    Stepped,
    Verified,
    Warned,
)
from longtake.core.machine import Machine
from longtake.core.plan import Plan, Script, Segment
from longtake.core.ports import Film
from longtake.core.task import Limits
from longtake.journal import Journal, load_plan, weigh
from longtake.media.verify import part as check_part
from longtake.media.verify import verify
from longtake.planner.calibration import Calibration, Rate, key, megapixels
from longtake.planner.choices import Crafts
from longtake.planner.fit import disk_check
from longtake.runtime import allocator, finished, measure, offloads, pool, recover, workfolder
from longtake.runtime import film as films
from longtake.runtime.measure import Usage
from longtake.runtime.observed import Observed, report
from longtake.runtime.segment import (
    Advance,
    Desk,
    Line,
    Noticed,
    Order,
    Progress,
    Sampled,
    generated,
    render,
)
from longtake.runtime.stages import Meter
from longtake.runtime.watchdog import Watch, Watched


@dataclass(slots=True, kw_only=True)
class Job:
    """One run of a plan: what is asked, and what its steps share."""

    plan: Plan
    crafts: Crafts
    machine: Machine
    known: Calibration
    limits: Limits = field(default_factory=Limits)  # that the plan was made under
    keep: bool = False
    restart: bool = False
    meter: Meter = field(default_factory=Meter)
    observed: Observed = field(default_factory=Observed)
    frames: int = 0  # made in this run
    began: float = field(default_factory=time.monotonic)
    working: float = 0.0  # when the first segment began
    ram: int = 0  # peak bytes of any worker process
    vram: int = 0

    def spent(self, used: Usage) -> None:
        """Count in what a worker process has used for a segment."""
        for stage, seconds in used.busy.items():
            self.meter.busy[stage] += seconds
        self.ram, self.vram = max(self.ram, used.ram), max(self.vram, used.vram or 0)

    @property
    def watched(self) -> Watched:
        return Watched(machine=self.machine, known=self.known, limits=self.limits)

    @property
    def folder(self) -> Path:
        return workfolder.beside(self.plan.task.target)


def run(job: Job) -> Iterator[Event]:
    """Do what is left of the job, reporting as it goes. Close the iterator to cancel.

    The target appears, whole and verified, with the `Finished` event and not before.
    """
    if job.plan.recipe.numerics.torch is None:
        allocator.steady()
    try:
        with workfolder.locked(job.folder):
            workfolder.begin(job.folder, job.plan.task.target, job.restart)
            try:
                yield from _work(job)
            except BadInput:
                if load_plan(job.folder) is None:  # nothing was begun that could go on
                    workfolder.clear(job.folder)
                raise
            if job.keep:
                workfolder.keep(job.folder)
            else:
                workfolder.clear(job.folder)
    except OSError as error:
        if recover.disk_is_full(error):
            raise DiskFull(f"{error}") from error
        raise


def _work(job: Job) -> Iterator[Event]:
    told = job.plan.notes
    job.plan = yield from films.freeze(job.plan, job.folder, job.crafts, job.machine, job.known)
    for note in job.plan.notes:
        if note not in told:
            yield Warned(message=note)
    film = films.open_film(job.plan, job.folder)
    journal = Journal(job.folder, job.plan, job.crafts.sink.part)
    done = journal.committed()
    _room(job, done)
    yield Started(plan=job.plan, resumed=len(done))
    job.working = time.monotonic()
    yield from segments(job, journal, film)
    yield from _publish(job, journal, film)


def _room(job: Job, done: Mapping[int, Path]) -> None:
    if not done:
        free = shutil.disk_usage(job.folder).free
        disk_check(job.plan, free, job.folder.parent)


def segments(job: Job, journal: Journal, film: Film) -> Iterator[Event]:
    left = [s for s in job.plan.segments if s.index not in journal.committed()]
    finished = job.plan.geometry.frames - sum(s.stop - s.start for s in left)
    yield Advanced(frames=finished, of=job.plan.geometry.frames)
    if len(job.plan.placement.devices) > 1:
        yield from _on_many(job, journal, left, finished)
    else:
        yield from _on_one(job, journal, film, left, finished)


def _on_one(
    job: Job, journal: Journal, film: Film, left: list[Segment], finished: int
) -> Iterator[Event]:
    recovery = recover.Recovery(plan=job.plan, engine=job.crafts.works)
    watch = job.watched.over(recovery, job.plan.placement.devices[0])
    while left:
        plan = recovery.plan
        orders = [(segment, journal.part(segment)) for segment in left]
        try:
            with _opened(job, plan, film, orders, watch) as made, closing(made) as steps:
                for event in _committed(job, journal, steps, finished):
                    if isinstance(event, SegmentDone):
                        finished += event.stop - event.start
                        left.pop(0)
                    yield event
        except Exception as error:
            if not left:
                raise
            told = recovery.after(error, left[0])
            journal.record(told)
            yield told


@contextmanager
def _opened(
    job: Job, plan: Plan, film: Film, orders: Sequence[Order], watch: Watch
) -> Iterator[Steps[Progress]]:
    """The making of parts under a placement, with the engine open."""
    device, offload = plan.placement.devices[0], offloads.placed(plan.placement)
    sink, meter = job.crafts.sink, job.meter
    if isinstance(plan.recipe.reading, Script):
        with job.crafts.author.open(plan, device, offload) as generator:
            watch.opened(meter.busy["compute"], getattr(generator, "parts", None))
            desk = Desk(film=film, sink=sink, meter=meter, watch=watch, observed=job.observed)
            yield generated(plan, desk, generator, orders, job.folder)
    else:
        with job.crafts.engine.open(plan, device, offload) as upscaler:
            watch.opened(meter.busy["compute"])
            line = Line(film=film, sink=sink, meter=meter, upscaler=upscaler, watch=watch)
            yield render(plan, line, orders)


def _committed(
    job: Job, journal: Journal, steps: Iterator[Progress], finished: int
) -> Iterator[Advanced | Stepped | SegmentDone | Slowed | Warned]:
    """Commit each part as it is made. `finished`: frames that are done already."""
    of, began = job.plan.geometry.frames, time.monotonic()
    running: dict[int, int] = {}
    for step in steps:
        segment = step.segment
        if isinstance(step, Noticed):
            journal.record(step.event)
            yield step.event
            continue
        if isinstance(step, Sampled):
            yield Stepped(segment=segment.index, steps=step.step.done, of=step.step.of)
            continue
        if isinstance(step, Advance):
            running[segment.index] = step.frames
            yield Advanced(frames=finished + sum(running.values()), of=of)
            continue
        frames = segment.stop - segment.start
        check_part(step.part, job.plan.recipe.output, frames)
        seconds = time.monotonic() - began
        final = journal.commit(segment, step.part, seconds)
        began = time.monotonic()
        running.pop(segment.index, None)
        finished += frames
        job.frames += frames
        yield _done(segment, final, seconds)


def _done(segment: Segment, final: Path, seconds: float) -> SegmentDone:
    return SegmentDone(
        segment=segment.index, start=segment.start, stop=segment.stop, seconds=seconds,
        bytes=weigh(final),
    )  # fmt: skip


def _on_many(job: Job, journal: Journal, left: list[Segment], finished: int) -> Iterator[Event]:
    of = job.plan.geometry.frames
    running: dict[int, int] = {}
    for kind, value in pool.render_all(job.plan, job.folder, left, journal, job.watched):
        if kind == "frames":
            segment, frames = value
            running[segment.index] = frames
            yield Advanced(frames=finished + sum(running.values()), of=of)
        elif kind == "done":
            segment, final, seconds, used = value
            running.pop(segment.index, None)
            finished += segment.stop - segment.start
            job.frames += segment.stop - segment.start
            job.spent(used)
            yield _done(segment, final, seconds)
        else:
            journal.record(value)
            yield value


def _publish(job: Job, journal: Journal, film: Film) -> Iterator[Event]:
    """Join, verify, put in place."""
    plan, target = job.plan, job.plan.task.target
    working = time.monotonic() - job.working
    allocator.steady()
    committed = journal.committed()
    parts = [committed[s.index] for s in plan.segments]
    joined = job.folder / f"joined{target.suffix}"
    for frames in job.crafts.sink.join(parts, joined, film, plan):
        yield Joined(frames=frames, of=plan.geometry.frames)
    try:
        for frames in verify(joined, film, plan):
            yield Verified(frames=frames, of=plan.geometry.frames)
    except VerifyFailed as error:
        raise VerifyFailed(f"{error.detail} It is kept as {joined}.") from error
    size = weigh(joined)
    workfolder.publish(job.folder, joined, target)
    finished.note(plan)
    seconds = time.monotonic() - job.began
    _learn(job, seconds)
    device = plan.placement.devices[0]
    ended = Finished(
        target=target,
        frames=plan.geometry.frames,
        seconds=seconds,
        fps=job.frames / working if job.frames else 0.0,
        bytes=size,
        peak_ram=max(job.ram, measure.peak_ram()),
        predicted_ram=plan.memory.ram,
        peak_vram=job.vram or measure.peak_vram(device),
        predicted_vram=plan.memory.vram or None,
        stages=dict(job.meter.busy),
        report=report(plan, job.observed, job.meter.busy),
    )
    journal.record(ended)
    yield ended


def _learn(job: Job, seconds: float) -> None:
    """Write down how fast this was, when enough was made to tell."""
    size = megapixels(job.plan.geometry) * job.frames / job.plan.geometry.frames
    if job.frames < 24:
        return
    busy = job.meter.busy
    rate = Rate(
        decode=busy["decode"] / size,
        compute=busy["compute"] / size,
        encode=busy["encode"] / size,
        wall=seconds / size,
        megapixels=size,
    )
    job.known.learn(key(job.plan.recipe, job.plan.placement, job.machine), rate)
