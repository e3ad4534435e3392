"""From what a request asks to a plan: without torch, and without opening the film."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from sqlalchemy import select

from longtake.core.errors import BadInput
from longtake.core.knobs import ranges
from longtake.core.machine import Machine
from longtake.core.media import VideoInfo
from longtake.core.plain import from_plain, to_plain
from longtake.core.plan import Plan
from longtake.core.plugins import find
from longtake.core.task import Limits, Upscale, options
from longtake.planner.calibration import Calibration
from longtake.planner.survey import survey
from longtake.runtime.prepare import draft_of
from longtake.service.database import SECOND, Database
from longtake.service.tables import worker

FRESH: Final = 60 * SECOND  # a worker that was heard of since is there
CONTAINERS: Final = ("mp4", "mkv")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request, understood."""

    task: Upscale
    limits: Limits


def understood(source: Path, params: Mapping[str, Any], container: str, name: str) -> Asked:
    """The task that the parameters describe: named and valued as the flags of `longtake upscale`.
    Raises BadInput that names what is wrong."""
    if container not in CONTAINERS:
        raise BadInput(f"container={container}: there are {', '.join(CONTAINERS)}.")
    fields = {field.name: option for field, option in options(Upscale)}
    bounds = {field.name for field, _ in options(Limits)} - {"devices"}
    unknown = set(params) - set(fields) - bounds
    if unknown:
        known = ", ".join(sorted({*fields, *bounds}))
        raise BadInput(f"There is no parameter {', '.join(sorted(unknown))}; there are {known}.")
    for key, option in fields.items():
        if option.choices and key in params and not _chosen(params[key], option.choices):
            raise BadInput(f"{key}={params[key]}: there are {', '.join(option.choices)}.")
    stem = Path(name).stem or "film"
    task = Upscale(source=source, target=Path(f"{stem}_large.{container}"))
    try:
        asked = Asked(
            task=_with(task, {k: v for k, v in params.items() if k in fields}),
            limits=_with(Limits(), {k: v for k, v in params.items() if k in bounds}),
        )
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise BadInput(f"{error}") from None
    _no_places(asked.task)
    return asked


def _no_places(task: Upscale) -> None:
    """Nobody names files of a worker from afar."""
    known = ranges(find("engines", task.engine).knobs)
    named = [name for name in task.set if name in known and known[name][1].local]
    if named:
        raise BadInput(f"{', '.join(named)}: this is set where the workers run, not from here.")


def _chosen(value: Any, choices: tuple[str, ...]) -> bool:
    given = value if isinstance(value, list | tuple) else [value]
    return all(item is None or str(item) in choices for item in given)


def _with(base: Any, changes: Mapping[str, Any]) -> Any:
    plain = to_plain(base)
    plain.update(changes)
    if isinstance(plain.get("scale"), int | float):
        plain["scale"] = str(plain["scale"])
    return from_plain(type(base), plain)


def planned(
    database: Database, asked: Asked, info: VideoInfo, calibration: Path
) -> tuple[Plan, Limits, str]:
    """The estimated plan on the machine of the best worker, the limits that stand for it, and the
    queue of its workers. Raises what `longtake plan` raises."""
    machine, device = _machine(database)
    limits = replace(asked.limits, devices=device)
    wanted = replace(limits, devices="cpu" if device == "cpu" else "auto")
    info = replace(info, path=asked.task.source)
    plan, crafts = draft_of(asked.task, info, wanted, machine, Calibration(calibration))
    on_gpu = plan.placement.devices[0].startswith("cuda")
    return plan, limits, "gpu" if on_gpu and "cuda" in crafts.engine.devices else "cpu"


def _machine(database: Database) -> tuple[Machine, str]:
    """Of the workers that are there one with a GPU, else any; where none is, this machine."""
    with database.read() as connection:
        now = database.now(connection)
        rows = connection.execute(
            select(worker.c.machine, worker.c.device)
            .where(worker.c.state != "gone", worker.c.beat > now - FRESH)
            .where(worker.c.machine.is_not(None))
            .order_by(worker.c.device.desc())  # cuda before cpu
        ).all()
    if not rows:
        here = survey()
        return here, "cuda:0" if here.gpus else "cpu"
    return from_plain(Machine, json.loads(rows[0].machine)), rows[0].device
