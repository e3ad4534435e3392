"""Try engines on a few seconds of a film: their clips, one film of all, figures, a page.

The clips hold the frames that the whole film's job would make (runtime/variants.py).
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from longtake.core.errors import BadInput, Usage
from longtake.core.events import Advanced, Analysed, Event, Previewed, VariantMade, Warned
from longtake.core.machine import Machine
from longtake.core.media import Knobs
from longtake.core.plugins import find, names
from longtake.core.ports import Sink
from longtake.core.task import Drop, Limits, Upscale
from longtake.media import excerpt as excerpts
from longtake.media.excerpt import Span
from longtake.media.index import FilmIndex
from longtake.planner.calibration import Calibration
from longtake.runtime import outcome, variants, workfolder
from longtake.runtime.gallery import Gallery
from longtake.runtime.prepare import draft
from longtake.runtime.variants import Excerpt, Made, Variant

MOST = 8  # variants
LONGEST = 600  # s; what is longer is a job of its own
_SILENT: tuple[Drop, ...] = ("audio", "subtitles", "chapters", "attachments", "data")
_LOCAL = ("no", "bwdif")  # ways to deinterlace for which a frame needs only those beside it


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What is asked."""

    task: Upscale  # its engine, knobs and target are replaced for each variant
    target: Path  # the folder of results
    span: Span
    ways: tuple[tuple[str, Knobs], ...]  # (engine, knobs) of each variant
    limits: Limits
    machine: Machine
    known: Calibration
    restart: bool = False


def preview(ask: Preview) -> Iterator[Event]:
    """Report as it goes. The folder `ask.target` appears, whole, with the `Previewed` event."""
    began = time.monotonic()
    with outcome.folder(ask.target, ask.restart, (ask.task.source,)) as work:
        ways, notes = _drafted(ask, work)
        for note in notes:
            yield Warned(message=note)
        try:
            excerpt, more = yield from _analysed(ask, ways, work)
        except BadInput:
            workfolder.clear(work)  # nothing was begun that could go on
            raise
        for note in more:
            yield Warned(message=note)
        made = yield from _made(ask, ways, excerpt, work)
        folder = outcome.emptied(work)
        show = Gallery.begun(made, excerpt, folder, (*notes, *more))
        yield from show.compared()
        show.concluded(ask.task.source)
        outcome.publish(work, ask.target)
    yield Previewed(
        folder=ask.target, first=excerpt.first, stop=excerpt.stop,
        variants=tuple(v.name for v in ways), seconds=time.monotonic() - began,
    )  # fmt: skip


def _drafted(ask: Preview, work: Path) -> tuple[list[Variant], list[str]]:
    """The plans of the whole film, one for each way. Raises what `upscale` would."""
    if ask.task.deinterlace not in _LOCAL:
        raise Usage(
            f"--deinterlace {ask.task.deinterlace} decides by the whole film which frames there "
            f"are; preview cannot: use --deinterlace {' or '.join(_LOCAL)}, or upscale --frames."
        )
    codecs: dict[str, Sequence[str]] = {}
    for name in names("media.sinks"):
        sink: Sink = find("media.sinks", name)
        if sink.part:
            codecs[name] = sink.codecs
    suffix = variants.suffix_for(ask.task, codecs)
    if suffix is None:
        raise Usage(f"--codec {ask.task.codec} makes no film, and a preview is one.")
    found: list[Variant] = []
    notes: list[str] = []
    for engine, knobs in ask.ways:
        task = replace(
            ask.task, engine=engine, set=knobs, target=work / f"clip{suffix}", frames=(0, None),
            drop=tuple(dict.fromkeys((*ask.task.drop, *_SILENT))),
        )  # fmt: skip
        plan, crafts = draft(task, ask.limits, ask.machine, ask.known)
        if len(plan.placement.devices) > 1:
            notes.append(f"Tried on {plan.placement.devices[0]} alone; times are those of it.")
            plan = variants.alone(plan)
        own = " ".join([engine, *(f"{k}={v}" for k, v in knobs.items())])
        found.append(Variant(name=own, plan=plan, crafts=crafts))
        notes += plan.notes
    for at, one in enumerate(found):
        same = next((o for o in found[:at] if o.plan.identity == one.plan.identity), None)
        if same is not None:
            raise Usage(f"--variants: {same.name} and {one.name} are one and the same.")
    return found, list(dict.fromkeys(notes))


def _analysed(
    ask: Preview, ways: Sequence[Variant], work: Path
) -> Generator[Event, None, tuple[Excerpt, list[str]]]:
    """Index the frames in question: only those, unless an engine's frames depend on others."""
    info, drop = ways[0].plan.info, ask.task.drop
    remember = [v for v in ways if v.remembers]
    began, folder = time.monotonic(), work / "index"
    notes: list[str] = []
    counted = 0
    if remember:
        names_ = ", ".join(v.name for v in remember)
        notes.append(
            f"{names_}: its frames depend on the film's segments, so the film was decoded from "
            f"its start to the first cut a segment behind the range."
        )
        through = True
    else:
        through = False
        try:
            index, first, stop, counted = yield from _told(
                excerpts.near(info, folder, ask.span, drop), info.frames
            )
        except excerpts.Irregular:
            notes.append(
                "The frames of this film can only be counted by decoding it from its start."
            )
            through = True
    if through:

        def enough(index: FilmIndex, stop: int) -> bool:
            return not remember or variants.known_enough(ways, index, stop)

        index, first, stop, counted = yield from _told(
            excerpts.through(info, folder, ask.span, drop, enough), info.frames
        )
    length = (stop - first) / index.timing(info).rate
    if length < ask.span.length * Fraction(9, 10) and stop == len(index):
        notes.append(f"The film ends {float(length):.2f} s after the beginning of the range.")
    seconds = (time.monotonic() - began) / max(1, counted)
    return Excerpt(index=index, first=first, stop=stop, seconds=seconds), notes


def _told(
    steps: Generator[int, None, tuple[FilmIndex, int, int]], of: int
) -> Generator[Event, None, tuple[FilmIndex, int, int, int]]:
    """Steps of an analysis as events; adds the frames that were decoded."""
    counted = 0
    while True:
        try:
            counted = next(steps)
        except StopIteration as end:
            index, first, stop = end.value
            return index, first, stop, counted
        yield Analysed(frames=counted, of=max(of, counted))


def _made(
    ask: Preview, ways: Sequence[Variant], excerpt: Excerpt, work: Path
) -> Generator[Event, None, list[Made]]:
    """Every variant's clip, one after the other; progress is that of all."""
    made: list[Made] = []
    of = excerpt.frames * len(ways)
    for number, variant in enumerate(ways):
        steps = variants.make(variant, excerpt, work, ask.machine, ask.known)
        while True:
            try:
                event = next(steps)
            except StopIteration as end:
                done: Made = end.value
                break
            if isinstance(event, Advanced):
                yield Advanced(frames=number * excerpt.frames + event.frames, of=of)
            elif isinstance(event, Warned):
                yield Warned(message=f"{variant.name}: {event.message}")
        made.append(done)
        plan = variant.plan
        yield VariantMade(
            variant=variant.name, fps=done.fps, predicted_seconds=done.seconds,
            predicted_ram=plan.memory.ram, predicted_vram=plan.memory.vram or None,
            predicted_disk=done.disk,
        )  # fmt: skip
    return made
