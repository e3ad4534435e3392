"""Parameters of jobs under a name: those of the engines, those that admins share, one's own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from sqlalchemy import Connection, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from longtake.core.errors import BadInput
from longtake.core.knobs import settle
from longtake.core.plugins import find, names
from longtake.core.task import Generate, Upscale
from longtake.runtime import engines
from longtake.service.audit import note
from longtake.service.database import Database
from longtake.service.jobs import Conflict, NotFound, identifier
from longtake.service.planning import from_words, understood
from longtake.service.tables import preset

MOST: Final = 200  # of an owner
Kind = Literal["upscale", "generate"]
_ENGINE: Final = {
    kind: task.__dataclass_fields__["engine"].default
    for kind, task in (("upscale", Upscale), ("generate", Generate))
}
_BUILT_IN: Final = re.compile(r"([^:]+):([^:]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    id: str
    """Of one that comes with an engine ENGINE:NAME."""
    name: str
    about: str
    origin: Literal["built-in", "shared", "own"]
    kind: Kind
    params: dict[str, Any]
    created: int | None


def listed(database: Database, owner: str) -> list[Preset]:
    """Those of the engines, then the shared ones, then the owner's own."""
    wanted = select(preset).where(_seen_by(owner))
    with database.read() as connection:
        rows = connection.execute(wanted.order_by(preset.c.owner.is_not(None), preset.c.name)).all()
    makers = [*names("engines"), *names("generators")]
    return [*(_built_in(name, one.name) for name in makers
              for one in engines.presets(name)), *map(_shown, rows)]  # fmt: skip


def get(database: Database, owner: str, which: str) -> Preset:
    """By id, or ENGINE:NAME. Raises NotFound, Usage."""
    named = _BUILT_IN.fullmatch(which)
    if named is not None:
        return _built_in(*named.groups())
    with database.read() as connection:
        return _shown(_found(connection, preset.c.id == which, _seen_by(owner)))


def filled(
    database: Database, owner: str, which: str | None, params: Mapping[str, Any],
    kind: Kind = "upscale",
) -> dict[str, Any]:  # fmt: skip
    """The parameters with those of a preset where they say nothing themselves; knobs one by one.
    Raises NotFound, and BadInput where they name another engine than the preset is for, or the job
    is of another kind."""
    if which is None:
        return dict(params)
    found = get(database, owner, which)
    if found.kind != kind:
        raise BadInput(f"preset: {found.name} is for jobs that {found.kind}, not {kind}.")
    engine = found.params.get("engine", _ENGINE[kind])
    if params.get("engine", engine) != engine:
        raise BadInput(f"Preset {found.name} is for the engine {engine}, not {params['engine']}.")
    made = {**found.params, **params, "engine": engine}
    for group in ("set", "place"):
        ours, theirs = found.params.get(group), params.get(group)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            made[group] = {**ours, **theirs}
    return made


def create(
    database: Database, by: str, name: str, params: Mapping[str, Any], *, shared: bool = False,
    kind: Kind = "upscale",
) -> Preset:  # fmt: skip
    """A new one of `by`, or for everybody. Raises BadInput, Usage for parameters that no job could
    have, Conflict where the name is taken."""
    text, owner, made = _checked(params, kind), None if shared else by, identifier()
    with _unique(name), database.write() as connection:
        now = database.now(connection)
        own = preset.c.owner.is_(None) if shared else preset.c.owner == by
        if connection.execute(select(func.count()).where(own)).scalar_one() >= MOST:
            raise Conflict(f"There are {MOST} presets already. Delete one that is not needed.")
        connection.execute(
            insert(preset).values(
                id=made, owner=owner, name=name, kind=kind, params=text, created=now
            )
        )
        if shared:
            note(connection, now, by, "preset.add", made)
        return _shown(_found(connection, preset.c.id == made))


def change(
    database: Database, by: str, which: str, name: str, params: Mapping[str, Any], *, admin: bool
) -> Preset:
    """Name and parameters anew; its kind stays. Raises as `create`, and NotFound."""
    with _unique(name), database.write() as connection:
        row = _found(connection, preset.c.id == which, _changed_by(by, admin))
        values = {"name": name, "params": _checked(params, row.kind)}
        connection.execute(update(preset).where(preset.c.id == which).values(**values))
        if row.owner is None:
            note(connection, database.now(connection), by, "preset.change", which)
        return _shown(_found(connection, preset.c.id == which))


def remove(database: Database, by: str, which: str, *, admin: bool) -> None:
    """Jobs that were made with it stay as they are. Raises NotFound."""
    with database.write() as connection:
        row = _found(connection, preset.c.id == which, _changed_by(by, admin))
        connection.execute(delete(preset).where(preset.c.id == which))
        if row.owner is None:
            note(connection, database.now(connection), by, "preset.remove", which)


def _checked(params: Mapping[str, Any], kind: Kind) -> str:
    """As JSON. Raises what a job with these parameters would raise, whatever its film or prompt."""
    if kind == "generate":
        task = from_words(None, {"prompt": "a film", **params}, "mkv").task
        settle(find("generators", task.engine).knobs, task.set)
    else:
        task = understood(Path("film.mkv"), params, "mkv", "film").task
        own = {name: value for name, value in task.set.items() if name != "segment_frames"}
        settle(find("engines", task.engine).knobs, own)
    try:
        return json.dumps(dict(params), allow_nan=False)
    except ValueError as error:
        raise BadInput(f"params: {error}.") from None


def _built_in(engine: str, name: str) -> Preset:
    found = engines.preset(engine, name)
    kind: Kind = "generate" if engine in names("generators") else "upscale"
    params: dict[str, Any] = {"engine": engine, "set": dict(found.knobs)}
    if found.place:
        params["place"] = dict(found.place)
    return Preset(
        id=f"{engine}:{name}", name=name, about=found.about, origin="built-in", kind=kind,
        params=params, created=None,
    )  # fmt: skip


def _shown(row: Any) -> Preset:
    return Preset(
        id=row.id, name=row.name, about="", origin="shared" if row.owner is None else "own",
        kind=row.kind, params=json.loads(row.params), created=row.created,
    )  # fmt: skip


def _seen_by(owner: str) -> Any:
    return or_(preset.c.owner.is_(None), preset.c.owner == owner)


def _changed_by(by: str, admin: bool) -> Any:
    return _seen_by(by) if admin else preset.c.owner == by


def _found(connection: Connection, *such: Any) -> Any:
    row = connection.execute(select(preset).where(*such)).first()
    if row is None:
        raise NotFound("A preset of this id.")
    return row


@contextmanager
def _unique(name: str) -> Iterator[None]:
    """Raises Conflict where the name is taken."""
    try:
        yield
    except IntegrityError:
        raise Conflict(f"There is a preset {name} already.") from None
