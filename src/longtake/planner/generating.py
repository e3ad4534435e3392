"""From words and a machine to a Plan, by arithmetic alone, as `planner` does for films that are
read: what will be made is known from the beginning, so the plan has no second stage of its own."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Final

from longtake.core.errors import DoesNotFit, Usage
from longtake.core.knobs import settle
from longtake.core.machine import Machine
from longtake.core.media import Color, OutputFormat, VideoInfo
from longtake.core.plan import Geometry, Placement, Plan, Recipe, Script, Segment, Time
from longtake.core.ports import Author, Made
from longtake.core.task import Generate, Limits
from longtake.planner import choices, devices, fit, footprint, wishes
from longtake.planner.calibration import Calibration, key
from longtake.planner.choices import Crafts

_BT709: Final = Color(matrix=1, primaries=1, transfer=1, full_range=False)


def estimate(
    task: Generate,
    image: tuple[int, int] | None,
    crafts: Crafts,
    machine: Machine,
    limits: Limits,
    known: Calibration,
) -> Plan:
    """The plan; `image`: (width, height) of the task's picture, upright.

    Raises Usage for what cannot be asked, DoesNotFit with the binding limit and what would fit.
    """
    author, draft = crafts.author, _draft(task, image, crafts, machine, limits)
    placements = _placements(draft, author, limits)
    found = fit.chosen(draft, placements, author, machine, limits)
    if found is None:
        raise DoesNotFit(_misfit(draft, author, machine, limits))
    if limits.place:
        free = replace(limits, place={})
        own = fit.chosen(draft, fit.rungs(draft, author), author, machine, free)
        found = fit.wished(found, own, author, machine, limits)
    return timed(found, author, machine, known)


def freeze(plan: Plan, image: str) -> Plan:
    """`image`: sha256 of the picture that the film begins with, or ""."""
    return replace(plan, stage="frozen", recipe=replace(plan.recipe, source=image))


def timed(plan: Plan, author: Author, machine: Machine, known: Calibration) -> Plan:
    """The plan with the time that it will take: as such films took here, else by arithmetic."""
    took = known.time(key(plan.recipe, plan.placement, machine), plan.geometry)
    looked = author.outlook(plan, machine)
    if took is None and looked.seconds is not None:
        took = Time(decode=0.0, compute=looked.seconds, encode=0.0, total=looked.seconds)
    return replace(plan, time=took, outlook=looked)


def _draft(
    task: Generate,
    image: tuple[int, int] | None,
    crafts: Crafts,
    machine: Machine,
    limits: Limits,
) -> Plan:
    """A plan with the first rung of the ladder, fitting or not."""
    author = crafts.author
    workers, notes = devices.choose(limits.devices, machine, author)
    if len(workers) > 1:
        raise Usage(f"--devices {limits.devices}: a film is generated on one device.")
    knobs, told = author.decide(settle(author.knobs, task.set), machine, workers[0])
    script = Script(prompt=task.prompt, negative=task.negative, image=image)
    film = author.film(knobs, script)
    weights, missing = choices.weights(crafts, knobs)
    info = _info(film, task.bits or 8)
    codec, instead = choices.codec(task, crafts)
    geometry = Geometry(frames=film.frames, source=film.size, target=film.size, scale=Fraction(1))
    recipe = Recipe(
        source="",
        engine=task.engine,
        weights=weights,
        knobs=knobs,
        seed=task.seed,
        segment_frames=film.frames,
        reading=script,
        output=_output(info, crafts.sink.chroma(info, codec)),
        encoder=choices.encoder(task, codec, geometry, workers, machine),
        numerics=devices.numerics(workers, machine, author, knobs),
    )
    grid = author.grid(knobs)
    placement = Placement(
        devices=workers, offload="resident", step=grid.steps[0], queue=wishes.QUEUES[0],
        threads=max(1, machine.cores) if workers[0].startswith("cpu") else 1,
    )  # fmt: skip
    draft = Plan(
        stage="estimate",
        task=task,
        info=info,
        geometry=geometry,
        recipe=recipe,
        placement=placement,
        segments=(Segment(index=0, lead=0, start=0, stop=film.frames),),
        memory=fit.memory(info, geometry, recipe, placement, author),
        disk=choices.disk(geometry, recipe, 0),
        time=None,
        notes=tuple(dict.fromkeys([*missing, *notes, *told, *film.notes, *instead])),
    )
    return fit.replaced(draft, fit.rungs(draft, author)[0], author)


def _info(film: Made, bits: int) -> VideoInfo:
    """The film as a probe would describe it."""
    width, height = film.size
    return VideoInfo(
        path=Path(), container="none", codec="", width=width, height=height, frames=film.frames,
        exact=True, rate=film.rate, time_base=1 / film.rate, duration=film.frames / film.rate,
        bits=bits, color=_BT709,
    )  # fmt: skip


def _output(info: VideoInfo, chroma: str) -> OutputFormat:
    return OutputFormat(
        width=info.width, height=info.height, rate=info.rate, time_base=info.time_base,
        variable=False, bits=info.bits, chroma=chroma,  # type: ignore[arg-type]
        color=info.color, matrix=info.color.matrix, full_range=False, sar=info.sar,
        rotation=info.rotation,
    )  # fmt: skip


def _placements(plan: Plan, author: Author, limits: Limits) -> list[Placement]:
    grid = author.grid(plan.recipe.knobs)
    return wishes.held(fit.rungs(plan, author), grid, limits.place)


def _misfit(plan: Plan, author: Author, machine: Machine, limits: Limits) -> str:
    """The binding limit in numbers, and the nearest change that fits."""
    placements = _placements(plan, author, limits)
    nearest = fit.nearest(plan, placements, author, machine, limits)
    said = fit.lacking(nearest, machine, limits)
    ways = {way for way, _ in author.grid(plan.recipe.knobs).placements}
    need, have, _ = fit.budget(nearest, machine, limits)["RAM"]
    if need > have and "ring" in ways and "disk" not in ways:
        said += " Block files need less of it (`longtake weights convert`)."
    for change in author.leaner(plan.recipe.knobs, plan.geometry):
        knobs = {**plan.recipe.knobs, **change}
        leaner = _changed(plan, author, knobs)
        if fit.chosen(leaner, placements, author, machine, limits) is not None:
            words = " ".join(f"{name}={value}" for name, value in change.items())
            return f"{said} It fits with --set {words}, which makes another film."
    needed = fit.budget(nearest, machine, limits)
    flags = {"RAM": "--ram", "VRAM": "--vram"}
    least = " ".join(
        f"{flags[kind]} {need / footprint.GiB + 0.005:.2f}G"
        for kind, (need, have, _) in needed.items()
        if need > have
    )
    return f"{said} The least that runs this job: {least}"


def _changed(plan: Plan, author: Author, knobs: dict[str, bool | int | float | str]) -> Plan:
    assert isinstance(plan.recipe.reading, Script)
    film = author.film(knobs, plan.recipe.reading)
    geometry = replace(plan.geometry, frames=film.frames, source=film.size, target=film.size)
    return replace(plan, geometry=geometry, recipe=replace(plan.recipe, knobs=knobs))
