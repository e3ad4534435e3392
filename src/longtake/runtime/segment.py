"""Make segments: each a pure function of (plan, segment, film); knows no ledger.

Decoding, the engine and encoding run at once, also across the seams: while the encoder finishes one
part, the decoder and the engine are already at the next segment. There is one decoder and one
encoder at any time, and no more clips wait than `placement.queue` says, so that this costs no
memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Generator as Steps
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from longtake.core import faults
from longtake.core.events import Slowed, Warned
from longtake.core.media import Clip
from longtake.core.plan import Plan, Segment
from longtake.core.ports import Film, Generator, Sink, Step, Upscaler
from longtake.runtime.observed import Observed
from longtake.runtime.stages import Behind, Meter, ahead
from longtake.runtime.watchdog import Watch

Order = tuple[Segment, Path]  # a segment, and the file or folder that is to become its part
Stream = Iterator[Clip | None]  # clips of one segment after the other; None ends each


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Where finished frames become parts."""

    film: Film
    sink: Sink
    meter: Meter
    watch: Watch | None = None  # who looks, between two steps, whether all is well
    observed: Observed = field(default_factory=Observed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line(Desk):
    """What segments of a film that is read pass through."""

    upscaler: Upscaler


@dataclass(frozen=True, slots=True, kw_only=True)
class Advance:
    """Frames of a segment that have left the engine, counted from its start."""

    segment: Segment
    frames: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """A step of the sampler of a segment."""

    segment: Segment
    step: Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A part is closed and on the disk."""

    segment: Segment
    part: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Noticed:
    """What a person should know of the work on a segment."""

    segment: Segment
    event: Slowed | Warned


Progress = Sampled | Advance | Made | Noticed


def render(plan: Plan, line: Line, orders: Sequence[Order]) -> Steps[Progress]:
    """Make the parts of `orders`, in this order. Closing the generator stops all three stages.

    Raises Moved where the watch wants the rest made under another placement. That, or an error in a
    segment, is raised after the segments before it are `Made`; what of later ones was under way is
    dropped.
    """
    reading = decoded(line.film, [segment for segment, _ in orders], plan.placement.step)
    ahead_of = ahead(line.meter.timed("decode", reading), plan.placement.queue)
    with closing(ahead_of) as clips:
        yield from _through(plan, line, orders, lambda segment: computed(line, segment, clips))


def generated(
    plan: Plan, desk: Desk, generator: Generator, orders: Sequence[Order], folder: Path
) -> Steps[Progress]:
    """The same of a film that is generated. In `folder` the generator keeps how far it is."""
    device = plan.placement.devices[0]

    def making(segment: Segment) -> Steps[Clip | Step]:
        made = desk.observed.through(generator.generate(segment, folder), device)
        return desk.meter.timed("compute", made)

    yield from _through(plan, desk, orders, making)


def _through(
    plan: Plan, desk: Desk, orders: Sequence[Order],
    made: Callable[[Segment], Steps[Clip | Step]],
) -> Steps[Progress]:  # fmt: skip
    """Encode what is made of each segment, while the next is being made."""
    behind: Behind[Clip | None, Made] = Behind(
        lambda clips: written(plan, desk, orders, clips), plan.placement.queue
    )
    try:
        try:
            for segment, _ in orders:
                with closing(made(segment)) as steps:
                    for found in steps:
                        if isinstance(found, Step):
                            yield Sampled(segment=segment, step=found)
                            yield from _noticed(desk, segment, found)
                            continue
                        yield from behind.put(found)
                        frames = range(found.start, found.stop)
                        del found  # clips are large: not held while the next is made
                        yield Advance(segment=segment, frames=frames.stop - segment.start)
                        yield from _noticed(desk, segment, frames)
                yield from behind.put(None)
        except Exception:
            yield from behind.finish()  # what was computed before is not lost
            raise
        yield from behind.finish()
    finally:
        behind.abandon()


def _noticed(desk: Desk, segment: Segment, found: Step | range) -> Iterator[Noticed]:
    """What the watch says behind a step, or frames [start, stop)."""
    if desk.watch is not None:
        for event in desk.watch.after(segment, found, desk.meter.busy["compute"]):
            yield Noticed(segment=segment, event=event)


def decoded(film: Film, segments: Sequence[Segment], step: int) -> Stream:
    """The frames that each segment is computed from."""
    for segment in segments:
        yield from film.read(segment.lead, segment.stop + segment.tail, step)
        yield None


def computed(line: Line, segment: Segment, clips: Stream) -> Steps[Clip]:
    """The frames of a segment, larger; takes from `clips` up to the None that ends it.

    Every shot goes through a stream of its own: no state crosses a cut.
    """
    meter, waited = line.meter, Meter()
    given = waited.timed("decode", _one(clips))
    for shot in by_shot(given, [stop for _, stop in segment.shots()]):
        for clip in _made(meter, waited, line.upscaler.upscale(shot)):
            kept, complete = clip.within(segment.start, segment.stop), clip.stop >= segment.stop
            del clip
            if len(kept.pixels):
                yield kept
            del kept
            if complete:  # what an engine would make of the look-ahead is not waited for
                break
    for _ in given:  # what lies behind the last shot, and the end itself
        pass


def _made(meter: Meter, waited: Meter, clips: Iterator[Clip]) -> Iterator[Clip]:
    """Clips as an engine makes them, timed: waiting for the decoder happens inside the engine's
    turn, but is no work of its."""
    timed = meter.timed("compute", clips)
    while True:
        before = meter.busy["compute"], waited.busy["decode"]
        clip = next(timed, None)
        for_decoder = waited.busy["decode"] - before[1]
        meter.busy["compute"] = max(before[0], meter.busy["compute"] - for_decoder)
        if clip is None:
            return
        yield clip
        del clip


def written(plan: Plan, line: Desk, orders: Sequence[Order], clips: Stream) -> Iterator[Made]:
    """Encode the segments of `orders`, each into its part; ends early where `clips` does."""
    output, encoder, meter = plan.recipe.output, plan.recipe.encoder, line.meter
    for segment, part in orders:
        try:
            with ExitStack() as open_part:
                with meter.during("encode"):
                    writer = open_part.enter_context(
                        line.sink.open(part, output, encoder, segment.start)
                    )
                for clip in _one(clips):
                    with meter.during("encode"):
                        faults.strike("encode")
                        writer.write(clip, line.film.pts(clip.start, clip.stop))
                    del clip
                with meter.during("encode"):
                    open_part.close()
        except _CutShort:
            return
        yield Made(segment=segment, part=part)


def _one(clips: Stream) -> Iterator[Clip]:
    """The clips of one segment. Raises _CutShort where they end before it does."""
    for clip in clips:
        if clip is None:
            return
        yield clip
        del clip
    raise _CutShort


class _CutShort(Exception):
    """The clips of a segment ended before the segment did: the work was stopped."""


def by_shot(clips: Iterator[Clip], stops: Sequence[int]) -> Iterator[Iterator[Clip]]:
    """Divide a stream of clips at the absolute frames `stops`; each run must be used up in turn."""
    held: list[Clip] = []

    def until(stop: int) -> Iterator[Clip]:
        while True:
            clip = held.pop() if held else next(clips, None)
            if clip is None:
                return
            if clip.stop > stop:
                held.append(clip.within(stop, clip.stop))
                clip = clip.within(clip.start, stop)
            if len(clip.pixels):
                yield clip
            if clip.stop >= stop:
                return

    for stop in stops:
        yield until(stop)
