"""From a wish and a machine to a Plan, by arithmetic alone: no GPU and no torch is touched here.

A plan has two stages. `estimate` needs the header of the source only. `freeze` adds what only the
analysed film can tell: exact frames and timestamps, the shots, the hash of the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from longtake.core.codecs import CODECS
from longtake.core.errors import DoesNotFit, Usage
from longtake.core.knobs import Range, settle
from longtake.core.machine import Machine
from longtake.core.media import OutputFormat, VideoInfo
from longtake.core.plan import (
    Geometry,
    Numerics,
    Placement,
    Plan,
    Reading,
    Recipe,
    Segment,
)
from longtake.core.ports import Grid, Works
from longtake.core.task import Limits, Upscale
from longtake.planner import calibration, choices, devices, fit, segments, wishes
from longtake.planner.choices import Crafts
from longtake.planner.geometry import film_rate, geometry_of, kept, reduces

SEGMENT_FRAMES = Range(help="frames of a segment, the unit of resume", least=8, most=100_000)


def estimate(
    task: Upscale,
    info: VideoInfo,
    reading: tuple[int, bool],
    crafts: Crafts,
    machine: Machine,
    limits: Limits,
) -> Plan:
    """The plan as the header of the source allows it. `reading` is (H.273 matrix, full range).

    Raises Usage for what cannot be asked, DoesNotFit with the binding limit and what would fit.
    """
    plan = _draft(task, info, reading, crafts, machine, limits)
    fitted = _fit(plan, crafts, machine, limits)
    if fitted is None:
        raise DoesNotFit(_misfit(plan, crafts, machine, limits))
    if limits.place:
        own = _fit(plan, crafts, machine, replace(limits, place={}))
        fitted = fit.wished(fitted, own, crafts.engine, machine, limits)
    return fitted


def freeze(plan: Plan, cuts: Sequence[int], engine: Works) -> Plan:
    """The plan of a film that has been analysed: its `info` is exact, its recipe names the source.

    `cuts` are the frames of the job at which a shot begins.
    """
    first, stop = kept(plan.upscale, plan.info)
    geometry = replace(plan.geometry, frames=stop - first)
    grid = engine.grid(plan.recipe.knobs)
    return replace(
        plan,
        stage="frozen",
        geometry=geometry,
        cuts=tuple(cuts),
        segments=_cut(geometry.frames, plan.recipe.segment_frames, grid, cuts),
        disk=choices.disk(geometry, plan.recipe, plan.info.size),
        notes=tuple(dict.fromkeys([*plan.notes, *plan.info.notes])),
    )


def timed(plan: Plan, machine: Machine, known: calibration.Calibration) -> Plan:
    """The plan with the time that it will take, as far as this machine's speed is known."""
    name = calibration.key(plan.recipe, plan.placement, machine)
    return replace(plan, time=known.time(name, plan.geometry))


def _draft(
    task: Upscale,
    info: VideoInfo,
    reading: tuple[int, bool],
    crafts: Crafts,
    machine: Machine,
    limits: Limits,
) -> Plan:
    """A plan with the first rung of the ladder, fitting or not."""
    codec, instead = choices.codec(task, crafts)
    chroma = crafts.sink.chroma(info, codec)
    geometry = geometry_of(task, info, chroma)  # type: ignore[arg-type]
    workers, notes = devices.choose(limits.devices, machine, crafts.engine)
    own = dict(task.set)
    length = own.pop("segment_frames", None)
    knobs, told = crafts.engine.decide(settle(crafts.engine.knobs, own), machine, workers[0])
    grid = crafts.engine.grid(knobs)
    weights, missing = choices.weights(crafts, knobs)
    output, more = _output(task, info, reading, codec, chroma, geometry)
    recipe = Recipe(
        source="",
        engine=task.engine,
        weights=weights,
        knobs=knobs,
        seed=task.seed,
        segment_frames=_length(length, grid),
        reading=Reading(
            first=task.frames[0],
            deinterlace=task.deinterlace,  # type: ignore[arg-type]
            matrix=reading[0],
            full_range=reading[1],
            drop=tuple(sorted({*task.drop} & {"tail", "damaged", "alpha"})),
            size=geometry.source if reduces(task, info) else None,
        ),
        output=output,
        encoder=choices.encoder(task, codec, geometry, workers, machine),
        numerics=devices.numerics(workers, machine, crafts.engine, knobs),
    )
    placement = Placement(
        devices=workers, offload="resident", step=grid.steps[0], queue=wishes.QUEUES[0],
        threads=max(1, machine.cores // len(workers) if workers[0].startswith("cpu") else 1),
    )  # fmt: skip
    draft = Plan(
        stage="estimate",
        task=task,
        info=info,
        geometry=geometry,
        recipe=recipe,
        placement=placement,
        segments=_cut(geometry.frames, recipe.segment_frames, grid, ()),
        memory=fit.memory(info, geometry, recipe, placement, crafts.engine),
        disk=choices.disk(geometry, recipe, info.size),
        time=None,
        notes=tuple(
            dict.fromkeys(
                [*info.notes, *missing, *notes, *told, *instead, *more, *_width_notes(task, info)]
            )
        ),
    )
    return fit.replaced(draft, fit.rungs(draft, crafts.engine)[0], crafts.engine)


def _length(given: Any, grid: Grid) -> int:
    if given is None:
        return grid.segment_frames
    try:
        length = int(given)
    except ValueError:
        length = -1
    if not (SEGMENT_FRAMES.least or 0) <= length <= (SEGMENT_FRAMES.most or 0):
        raise Usage(f"segment_frames={given}: outside {SEGMENT_FRAMES}.")
    if grid.lead * 20 > length:
        raise Usage(
            f"segment_frames={length}: this engine warms up for {grid.lead} frames, which is over "
            f"5 % of a segment; take at least {grid.lead * 20}."
        )
    return length


def _output(
    task: Upscale,
    info: VideoInfo,
    reading: tuple[int, bool],
    codec: str,
    chroma: str,
    geometry: Geometry,
) -> tuple[OutputFormat, list[str]]:
    notes = []
    allowed = CODECS[codec].bits
    wanted = task.bits or min((b for b in allowed if b >= info.bits), default=allowed[-1])
    if wanted not in allowed:
        raise Usage(f"--bits {wanted}: {codec} is written with {' or '.join(map(str, allowed))}.")
    if wanted < info.bits:
        notes.append(f"The source has {info.bits} bits per component; {wanted} are written.")
    if chroma == "420" and info.chroma not in ("420", "gray"):
        fine = "RGB" if info.chroma == "rgb" else ":".join(info.chroma)
        notes.append(f"The source is {fine}; {codec} writes 4:2:0, with less colour detail.")
    output = OutputFormat(
        width=geometry.target[0],
        height=geometry.target[1],
        rate=film_rate(task, info),
        time_base=info.time_base,
        variable=info.variable and task.deinterlace != "ivtc",
        bits=wanted,
        chroma=chroma,  # type: ignore[arg-type]
        color=info.color,
        matrix=reading[0],
        full_range=reading[1],
        sar=info.sar,
        rotation=info.rotation,
    )
    return output, notes


def _width_notes(task: Upscale, info: VideoInfo) -> list[str]:
    if task.pre_width is None:
        return []
    if not reduces(task, info):
        return [
            f"--pre-width {task.pre_width}: the source is {info.width} px wide; nothing is reduced."
        ]
    if info.fields in ("tff", "bff") and task.deinterlace == "no":
        return ["--pre-width mixes the fields of an interlaced source: add --deinterlace."]
    return []


def numerics_here(plan: Plan, machine: Machine, engine: Works) -> Numerics:
    """The numerics that the plan's devices would have on this machine."""
    return devices.numerics(plan.placement.devices, machine, engine, plan.recipe.knobs)


def _cut(frames: int, length: int, grid: Grid, cuts: Sequence[int]) -> tuple[Segment, ...]:
    return segments.cut(frames, length, grid.lead, grid.tail, cuts, grid.align)


def _fit(plan: Plan, crafts: Crafts, machine: Machine, limits: Limits) -> Plan | None:
    """The plan under the placement that suits the machine, or None."""
    return fit.chosen(plan, _ladder(plan, crafts, limits), crafts.engine, machine, limits)


def _ladder(plan: Plan, crafts: Crafts, limits: Limits) -> list[Placement]:
    grid = crafts.engine.grid(plan.recipe.knobs)
    return wishes.held(fit.rungs(plan, crafts.engine), grid, limits.place)


def _misfit(plan: Plan, crafts: Crafts, machine: Machine, limits: Limits) -> str:
    """The binding limit in numbers, and the nearest change that fits."""
    placements = _ladder(plan, crafts, limits)
    nearest = fit.nearest(plan, placements, crafts.engine, machine, limits)
    lines = [fit.lacking(nearest, machine, limits)]
    knobs = plan.recipe.knobs
    for change in crafts.engine.leaner(knobs, plan.geometry):
        leaner = replace(plan, recipe=replace(plan.recipe, knobs={**knobs, **change}))
        if _fit(leaner, crafts, machine, limits) is not None:
            words = " ".join(f"{name}={value}" for name, value in change.items())
            lines.append(f"It fits with --set {words}, which makes another film.")
            break
    for scale in (Fraction(3), Fraction(2), Fraction(3, 2)):
        if scale < plan.geometry.scale:
            task = replace(plan.upscale, scale=scale, height=None)
            reading = (plan.recipe.read.matrix, plan.recipe.read.full_range)
            smaller = _draft(task, plan.info, reading, crafts, machine, limits)
            if _fit(smaller, crafts, machine, limits) is not None:
                return " ".join([*lines, f"It fits with --scale {float(scale):g}."])
    flags = {"RAM": "--ram", "VRAM": "--vram"}
    return " ".join(
        [*lines, "No smaller scale fits either; the least that runs this job: "]
        + [
            f"{flags[kind]} {need / (1 << 30) + 0.005:.2f}G"
            for kind, (need, have, _) in fit.budget(nearest, machine, limits).items()
            if need > have
        ]
    )
