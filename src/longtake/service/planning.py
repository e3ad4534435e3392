"""From what a request asks to a plan: without torch, and without opening the film."""

from __future__ import annotations

import json
import re
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
from longtake.core.task import Generate, Limits, Task, Upscale, options
from longtake.planner.calibration import Calibration
from longtake.planner.survey import survey
from longtake.runtime.filenames import windows_fault
from longtake.runtime.prepare import draft_of, draft_seen, upright
from longtake.service.database import SECOND, Database
from longtake.service.tables import worker

FRESH: Final = 60 * SECOND  # a worker that was heard of since is there
CONTAINERS: Final = ("mp4", "mkv")


LONGEST: Final = 8000  # characters of a prompt: three times of what the models read
_NAME: Final = 40  # characters of a prompt that name its film
_UNSEEN: Final = re.compile("[\0-\x08\x0b-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request, understood."""

    task: Task
    limits: Limits


def understood(source: Path, params: Mapping[str, Any], container: str, name: str) -> Asked:
    """The task that the parameters describe: named and valued as the flags of `longtake upscale`.
    Raises BadInput that names what is wrong."""
    stem = Path(name).stem or "film"
    target = Path(f"{stem}_large.{_known(container)}")
    return _filled(Upscale(source=source, target=target), params)


def from_words(image: Path | None, params: Mapping[str, Any], container: str) -> Asked:
    """The same of the flags of `longtake generate`; the prompt is one of them, the picture is not.
    Raises BadInput."""
    if "image" in params:
        raise BadInput("image: upload the picture, or name its path, at /assets; give the asset.")
    words = {name: _text(name, params.get(name, "")) for name in ("prompt", "negative")}
    if not words["prompt"].strip():
        raise BadInput("prompt: say in `params.prompt` what the film shows.")
    target = Path(f"{_called(words['prompt'])}.{_known(container)}")
    task = Generate(prompt=words["prompt"], target=target, image=image)
    return _filled(task, {k: v for k, v in params.items() if k != "prompt"})


def _text(name: str, value: Any) -> str:
    """Raises BadInput for what is no text that people write."""
    if not isinstance(value, str):
        raise BadInput(f"{name}: a text is needed, not {type(value).__name__}.")
    if len(value) > LONGEST:
        raise BadInput(f"{name}: {len(value):,} characters; at most {LONGEST:,} are taken.")
    odd = _UNSEEN.search(value.replace("\r\n", "\n"))
    if odd:
        raise BadInput(f"{name}: the character U+{ord(odd[0]):04X} cannot be part of it.")
    return value


def _called(prompt: str) -> str:
    """What a film is called by: its prompt's first words."""
    name = ""
    for word in re.findall(r"\w+", prompt):
        longer = f"{name}_{word}" if name else word[:_NAME]
        if len(longer) > _NAME:
            break
        name = longer
    return "film" if not name or windows_fault(name) else name


def _known(container: str) -> str:
    if container not in CONTAINERS:
        raise BadInput(f"container={container}: there are {', '.join(CONTAINERS)}.")
    return container


def _filled(task: Task, params: Mapping[str, Any]) -> Asked:
    """The task with the parameters, and the limits that they set. Raises BadInput."""
    fields = {field.name: option for field, option in options(type(task)) if field.name != "image"}
    bounds = {field.name for field, _ in options(Limits)} - {"devices"}
    unknown = set(params) - set(fields) - bounds
    if unknown:
        known = ", ".join(sorted({*fields, *bounds}))
        raise BadInput(f"There is no parameter {', '.join(sorted(unknown))}; there are {known}.")
    for key, option in fields.items():
        if option.choices and key in params and not _chosen(params[key], option.choices):
            raise BadInput(f"{key}={params[key]}: there are {', '.join(option.choices)}.")
    try:
        asked = Asked(
            task=_with(task, {k: v for k, v in params.items() if k in fields}),
            limits=_with(Limits(), {k: v for k, v in params.items() if k in bounds}),
        )
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise BadInput(f"{error}") from None
    _no_places(asked.task)
    return asked


def _no_places(task: Task) -> None:
    """Nobody names files of a worker from afar."""
    group = "generators" if isinstance(task, Generate) else "engines"
    known = ranges(find(group, task.engine).knobs)
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
    database: Database, asked: Asked, info: VideoInfo | None, calibration: Path
) -> tuple[Plan, Limits, str]:
    """The estimated plan on the machine of the best worker, the limits that stand for it, and the
    queue of its workers. `info`: of the film that is read, or of the picture that one begins with.
    Raises what `longtake plan` raises."""
    machine, device = _machine(database)
    limits = replace(asked.limits, devices=device)
    wanted = replace(limits, devices="cpu" if device == "cpu" else "auto")
    known = Calibration(calibration)
    if isinstance(asked.task, Generate):
        image = None if info is None else upright(info)
        plan, crafts = draft_seen(asked.task, image, wanted, machine, known)
    else:
        assert info is not None
        info = replace(info, path=asked.task.source)
        plan, crafts = draft_of(asked.task, info, wanted, machine, known)
    on_gpu = plan.placement.devices[0].startswith("cuda")
    return plan, limits, "gpu" if on_gpu and "cuda" in crafts.works.devices else "cpu"


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
