"""The analysed film of a job: count, hash, find the shots; then read."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

from longtake.core.errors import RecipeChanged
from longtake.core.events import Analysed, Event
from longtake.core.machine import Machine
from longtake.core.plan import Plan
from longtake.core.ports import Film
from longtake.journal import load_plan
from longtake.media import scenes
from longtake.media.exact import exact_info
from longtake.media.index import FilmIndex, build
from longtake.media.source import FileFilm, digest
from longtake.planner import planner
from longtake.planner.calibration import Calibration
from longtake.planner.geometry import kept
from longtake.planner.planner import Crafts


def freeze(
    plan: Plan, folder: Path, crafts: Crafts, machine: Machine, known: Calibration
) -> Generator[Event, None, Plan]:
    """Analyse the source and return the frozen plan. Raises RecipeChanged where the folder, or a
    frozen plan that is replayed, speaks of other input bytes."""
    source = digest(plan.info)
    _same_bytes(load_plan(folder), source, folder)
    if plan.stage == "frozen":
        _same_bytes(plan, source, folder)
    deinterlace = plan.recipe.reading.deinterlace
    for frames in build(plan.info, folder, plan.task.drop, deinterlace):
        yield Analysed(frames=frames, of=plan.info.frames)
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


def open_film(plan: Plan, folder: Path) -> Film:
    """The film of a frozen plan, from the index in its work folder."""
    recipe = plan.recipe
    index = FilmIndex.open(plan.info, folder, recipe.reading.deinterlace)
    return FileFilm(plan.info, index, recipe.reading, recipe.output, plan.geometry.frames)


def _same_bytes(stored: Plan | None, source: str, folder: Path) -> None:
    if stored is not None and stored.recipe.source != source:
        raise RecipeChanged(
            f"{folder}: the bytes of the input changed (sha256 {stored.recipe.source[:12]}... "
            f"-> {source[:12]}...). --restart begins anew."
        )
