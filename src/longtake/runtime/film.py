"""The analysed film of a job: count, hash, find the shots; then read."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

from longtake.core import steps
from longtake.core.errors import RecipeChanged
from longtake.core.events import Analysed, Event
from longtake.core.machine import Machine
from longtake.core.plan import Plan, Script
from longtake.core.ports import Film
from longtake.core.task import Generate
from longtake.journal import load_plan
from longtake.media import scenes
from longtake.media.exact import exact_info
from longtake.media.index import FilmIndex, build
from longtake.media.made import MadeFilm
from longtake.media.probe import probe
from longtake.media.source import FileFilm, digest, hashing
from longtake.planner import generating, planner
from longtake.planner.calibration import Calibration
from longtake.planner.choices import Crafts
from longtake.planner.geometry import kept


def freeze(
    plan: Plan, folder: Path, crafts: Crafts, machine: Machine, known: Calibration
) -> Generator[Event, None, Plan]:
    """Analyse the source and return the frozen plan. Raises RecipeChanged where the folder, or a
    frozen plan that is replayed, speaks of other input bytes."""
    if isinstance(plan.task, Generate):
        return _written(plan, plan.task, folder)
    of = plan.info.frames
    source = yield from steps.told(hashing(plan.info), lambda _: Analysed(frames=0, of=of))
    _same_bytes(load_plan(folder), source, folder)
    if plan.stage == "frozen":
        _same_bytes(plan, source, folder)
    deinterlace = plan.recipe.read.deinterlace
    for frames in build(plan.info, folder, plan.task.drop, deinterlace):
        yield Analysed(frames=frames, of=of)
    index = FilmIndex.open(plan.info, folder, deinterlace)
    info = exact_info(plan.info, index)
    timing = index.timing(info)
    first, stop = kept(plan.task, info)
    cuts = scenes.cuts(index, first, stop)
    output = replace(
        plan.recipe.output, rate=timing.rate, time_base=timing.time_base, variable=timing.variable
    )
    plan = replace(plan, info=info, recipe=replace(plan.recipe, source=source, output=output))
    return planner.timed(planner.freeze(plan, cuts, crafts.engine), machine, known)


def _written(plan: Plan, task: Generate, folder: Path) -> Plan:
    """The frozen plan of a film that is generated: nothing is left to be found out but whether the
    picture that it begins with is still the same."""
    image = "" if task.image is None else digest(probe(task.image))
    _same_bytes(load_plan(folder), image, folder)
    if plan.stage == "frozen":
        _same_bytes(plan, image, folder)
    return generating.freeze(plan, image)


def open_film(plan: Plan, folder: Path) -> Film:
    """The film of a frozen plan, from the index in its work folder; or as it will be made."""
    recipe = plan.recipe
    if isinstance(recipe.reading, Script):
        return MadeFilm(plan.info, recipe.output)
    index = FilmIndex.open(plan.info, folder, recipe.read.deinterlace)
    return FileFilm(plan.info, index, recipe.read, recipe.output, plan.geometry.frames)


def _same_bytes(stored: Plan | None, source: str, folder: Path) -> None:
    if stored is not None and stored.recipe.source != source:
        raise RecipeChanged(
            f"{folder}: the bytes of the input changed (sha256 {stored.recipe.source[:12]}... "
            f"-> {source[:12]}...). --restart begins anew."
        )
