"""Make one segment: a pure function of (plan, segment, film); knows no ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from longtake.core import faults
from longtake.core.media import Clip
from longtake.core.plan import Plan, Segment
from longtake.core.ports import Film, Sink, Upscaler, Writer
from longtake.runtime.stages import Behind, Meter, ahead


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What a segment passes through."""

    film: Film
    upscaler: Upscaler
    sink: Sink
    meter: Meter


def render(plan: Plan, line: Line, segment: Segment, part: Path) -> Iterator[int]:
    """Write the part of `segment` to `part`; yields the frames finished, counted from its start.

    Decoding, the engine and encoding run at once. Closing the generator stops all three.
    """
    placement, recipe = plan.placement, plan.recipe
    reading = line.film.read(segment.lead, segment.stop + segment.tail, placement.step)
    with (
        closing(ahead(line.meter.timed("decode", reading), placement.queue)) as clips,
        line.sink.open(part, recipe.output, recipe.encoder, segment.start) as writer,
    ):
        behind: Behind[Clip] = Behind(
            lambda clip: _write(writer, clip, line.film, line.meter), placement.queue
        )
        try:
            for clip in _upscaled(line.upscaler, clips, segment, line.meter):
                kept = clip.within(segment.start, segment.stop)
                if len(kept.pixels):
                    behind.put(kept)
                    yield kept.stop - segment.start
            behind.finish()
        except BaseException:
            behind.abandon()
            raise


def _write(writer: Writer, clip: Clip, film: Film, meter: Meter) -> None:
    def write() -> Iterator[None]:
        faults.strike("encode")
        writer.write(clip, film.pts(clip.start, clip.stop))
        yield

    for _ in meter.timed("encode", write()):
        pass


def _upscaled(
    upscaler: Upscaler, clips: Iterator[Clip], segment: Segment, meter: Meter
) -> Iterator[Clip]:
    """Every shot of the segment through a stream of its own: no state crosses a cut."""
    waited = Meter()
    spent = meter.busy["compute"]
    given = waited.timed("decode", clips)
    for shot in by_shot(given, [stop for _, stop in segment.shots()]):
        yield from meter.timed("compute", upscaler.upscale(shot))
    # waiting for the decoder happens inside the engine's turn, but is no work of its
    meter.busy["compute"] = max(spent, meter.busy["compute"] - waited.busy["decode"])


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
