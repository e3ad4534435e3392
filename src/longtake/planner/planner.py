"""From a wish and a machine to a Plan, by arithmetic alone: no GPU and no torch is touched here.

A plan has two stages. `estimate` needs the header of the source only. `freeze` adds what only the
analysed film can tell: exact frames and timestamps, the shots, the hash of the input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from longtake.core.codecs import CODECS
from longtake.core.errors import DoesNotFit, Usage, WeightsMissing
from longtake.core.knobs import Range, settle
from longtake.core.machine import Machine
from longtake.core.media import Knobs, OutputFormat, VideoInfo
from longtake.core.plan import (
    Disk,
    Encoder,
    Geometry,
    Numerics,
    Placement,
    Plan,
    Reading,
    Recipe,
    Segment,
    weights_identity,
)
from longtake.core.ports import Engine, Grid, Sink
from longtake.core.task import Limits, Upscale
from longtake.planner import calibration, devices, fit, footprint, ladder, segments
from longtake.planner.geometry import film_rate, geometry_of, kept, reduces

SEGMENT_FRAMES = Range(help="frames of a segment, the unit of resume", least=8, most=100_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crafts:
    """The sockets a plan is made against, looked up by whoever may see them."""

    engine: Engine
    sink: Sink
    sha256: Callable[[Path], str]  # of a file of weights
    lacking: Callable[[str], str | None] = lambda _: None  # why it cannot be written here
    only_plan: bool = False  # nothing will be made: weights may be missing


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
    return fitted


def freeze(plan: Plan, cuts: Sequence[int], engine: Engine) -> Plan:
    """The plan of a film that has been analysed: its `info` is exact, its recipe names the source.

    `cuts` are the frames of the job at which a shot begins.
    """
    first, stop = kept(plan.task, plan.info)
    geometry = replace(plan.geometry, frames=stop - first)
    grid = engine.grid(plan.recipe.knobs)
    return replace(
        plan,
        stage="frozen",
        geometry=geometry,
        cuts=tuple(cuts),
        segments=_cut(geometry.frames, plan.recipe.segment_frames, grid, cuts),
        disk=_disk(geometry, plan.recipe, plan.info),
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
    codec, instead = _codec(task, crafts)
    chroma = crafts.sink.chroma(info, codec)
    geometry = geometry_of(task, info, chroma)  # type: ignore[arg-type]
    workers, notes = devices.choose(limits.devices, machine, crafts.engine)
    own = dict(task.set)
    length = own.pop("segment_frames", None)
    knobs, told = crafts.engine.decide(settle(crafts.engine.knobs, own), machine, workers[0])
    grid = crafts.engine.grid(knobs)
    weights, missing = _weights(crafts, knobs)
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
        encoder=_encoder(task, codec, geometry, workers, machine),
        numerics=devices.numerics(workers, machine, crafts.engine, knobs),
    )
    placement = Placement(
        devices=workers, offload="resident", step=grid.steps[0], queue=ladder.QUEUES[0],
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
        disk=_disk(geometry, recipe, info),
        time=None,
        notes=tuple(
            dict.fromkeys(
                [*info.notes, *missing, *notes, *told, *instead, *more, *_width_notes(task, info)]
            )
        ),
    )
    return fit.replaced(draft, fit.rungs(draft, crafts.engine)[0], crafts.engine)


def _weights(crafts: Crafts, knobs: Knobs) -> tuple[str | None, list[str]]:
    """Their identity; where they are missing and nothing will be made, a sentence instead."""
    try:
        return weights_identity([crafts.sha256(p) for p in crafts.engine.weights(knobs)]), []
    except WeightsMissing as error:
        if not crafts.only_plan:
            raise
        return None, [f"Planned with the sizes of the published weights. {error.detail}"]


def _codec(task: Upscale, crafts: Crafts) -> tuple[str, list[str]]:
    """The codec, and a sentence where it is not the one that was asked for."""
    held = crafts.sink.codecs
    if task.codec == "auto":
        return held[0], []
    if task.codec not in held:
        raise Usage(
            f"--codec {task.codec} does not go into {task.target.name}; there: {', '.join(held)}."
        )
    why = crafts.lacking(task.codec)
    software = CODECS[task.codec].software
    if why is None:
        return task.codec, []
    if not software:
        raise Usage(f"--codec {task.codec}: {why}.")
    return software, [f"--codec {task.codec}: {why}; {software} writes the film instead."]


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


def _encoder(
    task: Upscale, codec: str, geometry: Geometry, workers: tuple[str, ...], machine: Machine
) -> Encoder:
    """The encoder's settings. Raises Usage for a quality or a size that it does not take."""
    about = CODECS[codec]
    crf = task.crf if task.crf is not None else about.crf
    if about.crf is not None and crf is not None and not 0 <= crf <= about.worst:
        raise Usage(f"--crf {crf}: outside 0 .. {about.worst}.")
    (width, height), (widest, tallest) = geometry.target, about.most
    if min(width, height) < about.least or width > widest or height > tallest:
        raise Usage(
            f"{width}x{height} px: {codec} takes sides from {about.least} px on, and at most "
            f"{widest}x{tallest} px; take another size or another --codec."
        )
    effort = task.preset
    if effort == "auto":
        effort = "veryfast" if workers[0].startswith("cpu") else "faster"
    threads = 4 if width * height <= 1 << 20 else 6 if width * height <= 1 << 22 else 8
    asm = "avx2" if "avx2" in machine.flags else "sse2"
    if about.software:
        asm = machine.gpus[0].name if machine.gpus else ""
    return Encoder(
        codec=codec,  # type: ignore[arg-type]
        crf=crf or 0 if about.crf is not None else 0,
        preset=about.efforts.get(effort, ""),
        threads=threads // 2 if codec == "av1" else threads,  # its memory grows with them
        asm=asm,
    )


def numerics_here(plan: Plan, machine: Machine, engine: Engine) -> Numerics:
    """The numerics that the plan's devices would have on this machine."""
    return devices.numerics(plan.placement.devices, machine, engine, plan.recipe.knobs)


def _disk(geometry: Geometry, recipe: Recipe, info: VideoInfo) -> Disk:
    film = footprint.output_bytes(geometry, recipe.output, recipe.encoder)
    pictures = recipe.encoder.codec in ("png", "tiff")  # moved into place, not copied
    return Disk(parts=film, target=0 if pictures else film + info.size)


def _cut(frames: int, length: int, grid: Grid, cuts: Sequence[int]) -> tuple[Segment, ...]:
    return segments.cut(frames, length, grid.lead, grid.tail, cuts, grid.align)


def _fit(plan: Plan, crafts: Crafts, machine: Machine, limits: Limits) -> Plan | None:
    """The plan on the first rung that fits, or None."""
    return fit.first(plan, _ladder(plan, crafts, limits), crafts.engine, machine, limits)


def _ladder(plan: Plan, crafts: Crafts, limits: Limits) -> list[Placement]:
    grid = crafts.engine.grid(plan.recipe.knobs)
    return ladder.held(fit.rungs(plan, crafts.engine), grid, limits.place)


def _misfit(plan: Plan, crafts: Crafts, machine: Machine, limits: Limits) -> str:
    """The binding limit in numbers, and the nearest change that fits."""
    placements = _ladder(plan, crafts, limits)
    nearest = fit.nearest(plan, placements, crafts.engine, machine, limits)
    lines = [fit.lacking(nearest, machine, limits)]
    for scale in (Fraction(3), Fraction(2), Fraction(3, 2)):
        if scale < plan.geometry.scale:
            task = replace(plan.task, scale=scale, height=None)
            reading = (plan.recipe.reading.matrix, plan.recipe.reading.full_range)
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
