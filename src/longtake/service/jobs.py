"""Jobs as their owners see them: made, looked at, stopped, taken up again."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select, update

from longtake.core.errors import BadInput, LongtakeError
from longtake.core.plain import to_plain
from longtake.core.plan import Plan
from longtake.core.task import Generate, Limits, Task, as_named_now
from longtake.service import events, quotas, waiting
from longtake.service.audit import note
from longtake.service.database import Database
from longtake.service.paging import Place, page
from longtake.service.progress import pace
from longtake.service.tables import JOB_ENDED, asset, attempt, job, step
from longtake.service.transitions import settle

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"


class NotFound(LongtakeError):
    """There is no such thing, or it is somebody else's."""

    exit_code = 2


class Conflict(LongtakeError):
    """That cannot be done in the state that it is in."""

    exit_code = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What somebody wants done."""

    owner: str
    task: Task
    limits: Limits
    plan: Plan
    """Estimated."""
    source: str | None = None  # asset: a film, or the picture that one begins with
    parent: str | None = None  # job whose result is the source
    priority: int = 0
    keep: str = "partial"  # of what is done, when it is cancelled; or "nothing"
    mixed: bool = False  # workers of other numerics may help, for other bytes
    queue: str = "cpu"  # or "gpu": of the workers that may make it


def identifier() -> str:
    """26 characters that nobody can guess."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(26))


def create(
    database: Database, wish: Wish, also: Callable[[Connection, str], object] | None = None
) -> str:
    """Put a job into the queue and return its id. `also` is done in the same transaction, with that
    id. Raises OverQuota."""
    name = identifier()
    kind = "generate" if isinstance(wish.task, Generate) else "upscale"
    with database.write() as connection:
        now = database.now(connection)
        quotas.demand(connection, wish.owner, now)
        connection.execute(
            insert(job).values(
                id=name, owner=wish.owner, kind=kind, asset=wish.source, parent=wish.parent,
                task=json.dumps(to_plain(wish.task)), limits=json.dumps(to_plain(wish.limits)),
                plan=wish.plan.to_json(), state="queued", keep=wish.keep, priority=wish.priority,
                mixed=int(wish.mixed), frames=wish.plan.geometry.frames,
                pixels=math.prod(wish.plan.geometry.target), created=now,
            )
        )  # fmt: skip
        ready = wish.parent is None or _ended(connection, wish.owner, wish.parent)
        connection.execute(
            insert(step).values(
                job=name, number=-1, kind="plan", queue=wish.queue,
                state="ready" if ready else "blocked", not_before=now,
            )
        )  # fmt: skip
        events.append(connection, now, wish.owner, "job.state", {"state": "queued"}, name)
        if also is not None:
            also(connection, name)
    return name


def _ended(connection: Connection, owner: str, parent: str) -> bool:
    row = _own(connection, owner, parent)
    if row.state in JOB_ENDED and row.result is None:
        raise Conflict(f"Job {parent} has ended without a film.")
    return row.result is not None


# --- looking -------------------------------------------------------------------------------------


def get(database: Database, owner: str, name: str) -> dict[str, Any]:
    """A job with its segments by state. Raises NotFound."""
    with database.read() as connection:
        row = _own(connection, owner, name)
        return _all_shown(database, connection, [row])[0]


def listed(
    database: Database, owner: str, *, states: Collection[str] = (),
    before: Place | None = None, most: int = 50,
) -> list[dict[str, Any]]:  # fmt: skip
    """A page. `states`: only jobs in one of these; none: in any."""
    wanted = select(job).where(job.c.owner == owner)
    if states:
        wanted = wanted.where(job.c.state.in_(states))
    with database.read() as connection:
        rows = connection.execute(page(wanted, job, before, most)).all()
        return _all_shown(database, connection, rows)


def _all_shown(
    database: Database, connection: Connection, rows: Sequence[Any]
) -> list[dict[str, Any]]:
    """Jobs of one owner."""
    now = database.now(connection)
    segments = _segments(connection, [row.id for row in rows])
    why = waiting.reasons(connection, rows, now)
    found = [_shown(row, segments, why) for row in rows]
    for row, shown in zip(rows, found, strict=True):
        shown["progress"] |= pace(connection, row, shown["progress"]["frames"], now)
    return found


def plan_of(database: Database, owner: str, name: str) -> str:
    """The plan as JSON text. Raises NotFound."""
    with database.read() as connection:
        found = _own(connection, owner, name).plan
    if found is None:
        raise NotFound(f"The plan of job {name}.")
    return str(found)


def steps(database: Database, owner: str, name: str) -> list[dict[str, Any]]:
    """Every step with where it stands. Raises NotFound."""
    with database.read() as connection:
        _own(connection, owner, name)
        rows = connection.execute(
            select(step).where(step.c.job == name).order_by(step.c.number)
        ).mappings()
        shown = ("number", "kind", "queue", "state", "worker", "fence", "attempts", "frames",
                 "frames_done", "bytes", "sha256", "error", "began", "ended")  # fmt: skip
        return [
            {
                **{key: row[key] for key in shown},
                "sampler": _sampler(row["sampled"], row["sampling"]),
            }
            for row in rows
        ]


def attempts(database: Database, owner: str, name: str) -> list[dict[str, Any]]:
    """Who tried which step, and how it went. Raises NotFound."""
    with database.read() as connection:
        _own(connection, owner, name)
        rows = connection.execute(
            select(attempt).where(attempt.c.job == name).order_by(attempt.c.began)
        ).mappings()
        return [dict(row) for row in rows]


def _segments(connection: Connection, names: Sequence[str]) -> list[Any]:
    """Job, state, how many segments, how many of their frames are made, and steps of samplers that
    are taken, of how many."""
    return list(
        connection.execute(
            select(step.c.job, step.c.state, func.count(), func.sum(step.c.frames_done),
                   func.sum(step.c.sampled), func.sum(step.c.sampling))
            .where(step.c.job.in_(names), step.c.kind == "segment")
            .group_by(step.c.job, step.c.state)
        ).all()
    )  # fmt: skip


def _sampler(done: int | None, of: int | None) -> dict[str, int] | None:
    """Steps of the sampler; None where none is at work."""
    return {"done": int(done or 0), "of": int(of)} if of else None


def _shown(row: Any, segments: Sequence[Any], why: Mapping[str, Any]) -> dict[str, Any]:
    plain = ("id", "kind", "state", "wish", "priority", "parent", "asset", "result", "identity",
             "created", "started", "ended", "revision")  # fmt: skip
    made = {key: getattr(row, key) for key in plain}
    task = as_named_now(json.loads(row.task))
    made |= {"task": {**task, "kind": row.kind}, "name": Path(task.get("target", "")).name}
    made |= {"on_cancel": row.keep, "mixed": bool(row.mixed)}
    mine = [each for each in segments if each.job == row.id]
    made["progress"] = {
        "frames": sum(int(each[3]) for each in mine), "of": row.frames,
        "segments": {each.state: each[2] for each in mine},
        "sampler": _sampler(sum(each[4] or 0 for each in mine), sum(each[5] or 0 for each in mine)),
    }  # fmt: skip
    made["waiting"] = why.get(row.id)
    failed = row.state == "failed"
    made["error"] = {"error": row.error, "detail": row.detail, "code": row.code} if failed else None
    return made


# --- changing ------------------------------------------------------------------------------------


def cancel(database: Database, owner: str, name: str, keep: str | None = None) -> None:
    """Stop a job; what is done from the film's beginning becomes a film unless `keep` is
    "nothing". Of one that has ended nothing changes. Raises NotFound."""
    with database.write() as connection:
        row = _locked(connection, owner, name)
        if row.state in JOB_ENDED or (row.wish == "cancel" and keep is None):
            return
        _wish(connection, name, "cancel", keep=keep or row.keep)
        now = database.now(connection)
        settle(connection, name, now)
        note(connection, now, owner, "job.cancel", name)


def pause(database: Database, owner: str, name: str) -> None:
    """Stop for now. Raises NotFound, or Conflict for one that has ended or is being cancelled."""
    with database.write() as connection:
        row = _locked(connection, owner, name)
        if row.state in JOB_ENDED or row.wish == "cancel":
            raise Conflict(f"Job {name} is {row.state}.")
        _wish(connection, name, "pause")
        settle(connection, name, database.now(connection))


def resume(database: Database, owner: str, name: str) -> None:
    """Go on after a pause. Raises NotFound or Conflict."""
    with database.write() as connection:
        row = _locked(connection, owner, name)
        if row.state in JOB_ENDED or row.wish == "cancel":
            raise Conflict(f"Job {name} is {row.state}, and not paused.")
        if row.wish == "run":
            return
        _wish(connection, name, "run", state=_standing(connection, name))
        _told(database, connection, row)


def retry(database: Database, owner: str, name: str) -> None:
    """Take up a job that failed or was stopped; segments that are done stay. Raises NotFound or
    Conflict."""
    with database.write() as connection:
        row = _locked(connection, owner, name)
        if row.state not in ("failed", "cancelled", "partial"):
            raise Conflict(
                f"Job {name} is {row.state}; only what failed or was stopped is retried."
            )
        now = database.now(connection)
        quotas.demand(connection, owner, now)
        again = step.c.job == name, step.c.state.in_(("failed", "cancelled"))
        connection.execute(
            update(step).where(*again).values(
                state="ready", attempts=0, not_before=now, error=None, frames_done=0
            )
        )  # fmt: skip
        left = connection.execute(
            select(func.count()).where(
                step.c.job == name, step.c.kind.in_(("plan", "segment")), step.c.state != "done"
            )
        ).scalar_one()
        join = step.c.job == name, step.c.kind == "join"
        connection.execute(
            update(step).where(*join).values(
                state="blocked" if left else "ready", attempts=0, lease=None, not_before=now
            )
        )  # fmt: skip
        _wish(connection, name, "run", state=_standing(connection, name), error=None, detail=None,
              code=None, ended=None, result=None)  # fmt: skip
        _told(database, connection, row)


def prioritise(database: Database, owner: str, name: str, priority: int) -> None:
    """From -10 to 10; higher ones first. Raises NotFound or BadInput."""
    if not -10 <= priority <= 10:
        raise BadInput(f"A priority is from -10 to 10, not {priority}.")
    with database.write() as connection:
        _locked(connection, owner, name)
        connection.execute(
            update(job).where(job.c.id == name).values(
                priority=priority, revision=job.c.revision + 1
            )
        )  # fmt: skip


def forget(database: Database, owner: str, name: str) -> list[str]:
    """Remove a job that has ended; its film stays an asset. Returns the keys of its parts. Raises
    NotFound or Conflict."""
    with database.write() as connection:
        row = _locked(connection, owner, name)
        if row.state not in JOB_ENDED:
            raise Conflict(f"Job {name} is {row.state}; cancel it first.")
        children = select(func.count()).where(job.c.parent == name, job.c.state.not_in(JOB_ENDED))
        if connection.execute(children).scalar_one():
            raise Conflict(f"Other jobs wait for the film of job {name}.")
        keys = connection.execute(
            select(step.c.key).where(step.c.job == name, step.c.key.is_not(None))
        ).scalars().all()  # fmt: skip
        connection.execute(update(job).where(job.c.parent == name).values(parent=None))
        for table in (step, attempt):
            connection.execute(delete(table).where(table.c.job == name))
        connection.execute(delete(job).where(job.c.id == name))
        told, now = {"state": "deleted"}, database.now(connection)
        events.append(connection, now, owner, "job.state", told, name)
        note(connection, now, owner, "job.delete", name)
    return [key for key in keys if key is not None]


def source_of(database: Database, name: str) -> Any:
    """The asset that a job reads: its own, or its parent's result. None for a plain path, and where
    it reads none."""
    with database.read() as connection:
        row = connection.execute(select(job.c.asset, job.c.parent).where(job.c.id == name)).one()
        found = row.asset
        if row.parent is not None:
            found = connection.execute(
                select(job.c.result).where(job.c.id == row.parent)
            ).scalar_one()
        if found is None:
            return None
        return connection.execute(select(asset).where(asset.c.id == found)).one()


# --- small ---------------------------------------------------------------------------------------


def _own(connection: Connection, owner: str, name: str) -> Any:
    row = connection.execute(select(job).where(job.c.id == name, job.c.owner == owner)).first()
    if row is None:
        raise NotFound(f"Job {name}.")
    return row


def _locked(connection: Connection, owner: str, name: str) -> Any:
    row = connection.execute(
        select(job).where(job.c.id == name, job.c.owner == owner).with_for_update()
    ).first()
    if row is None:
        raise NotFound(f"Job {name}.")
    return row


def _wish(connection: Connection, name: str, wish: str, **about: Any) -> None:
    connection.execute(
        update(job).where(job.c.id == name).values(
            wish=wish, revision=job.c.revision + 1, **about
        )
    )  # fmt: skip


def _standing(connection: Connection, name: str) -> str:
    """What state a job is in that goes on, from its steps."""
    found = connection.execute(select(step.c.kind, step.c.state).where(step.c.job == name)).all()
    states = {(kind, state) for kind, state in found}
    if ("plan", "done") not in states:
        return "planning" if ("plan", "leased") in states else "queued"
    joining = ("join", "ready") in states or ("join", "leased") in states
    return "joining" if joining else "running"


def _told(database: Database, connection: Connection, row: Any) -> None:
    state = connection.execute(select(job.c.state).where(job.c.id == row.id)).scalar_one()
    now = database.now(connection)
    events.append(connection, now, row.owner, "job.state", {"state": state}, row.id)
