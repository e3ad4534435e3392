"""Workers and queues as an admin sees them: who is there, who shall rest, what waits."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from longtake.service import audit
from longtake.service.database import SECOND, Database
from longtake.service.jobs import NotFound
from longtake.service.tables import JOB_ENDED, job, paused_queue, step, worker

QUEUES: Final = ("gpu", "cpu")
SILENT: Final = 15 * SECOND  # after which a worker is not there


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    name: str
    paused: int | None
    """Since when; microseconds."""
    ready: int
    """Steps that a worker may claim."""
    leased: int
    oldest: float | None
    """Seconds that the step has waited which could be claimed longest."""


# --- workers -------------------------------------------------------------------------------------


def report(database: Database, who: str, *, began: bool = False, **about: Any) -> None:
    """A worker says that it is there, and what changed about it; `began`: it has just started."""
    with database.write() as connection:
        now = database.now(connection)
        values = {**about, "beat": now} | ({"began": now} if began else {})
        row = worker.c.id == who
        if connection.execute(update(worker).where(row).values(values)).rowcount == 0:
            connection.execute(insert(worker).values({"id": who, "began": now, **values}))


def drained(database: Database, who: str) -> bool:
    """Whether a worker of that name shall take no more."""
    with database.read() as connection:
        since = connection.execute(select(worker.c.drained).where(worker.c.id == who)).scalar()
    return since is not None


def drain(database: Database, actor: str, who: str) -> None:
    """The worker gives its step back and takes no more. Raises NotFound."""
    with database.write() as connection:
        now = database.now(connection)
        since = func.coalesce(worker.c.drained, now)
        _change(connection, who, drained=since, state="draining")
        audit.note(connection, now, actor, "worker.drain", who)


def undrain(database: Database, actor: str, who: str) -> None:
    """It may take steps again: one of `longtake serve` is started again. Raises NotFound."""
    with database.write() as connection:
        now = database.now(connection)
        beat = connection.execute(select(worker.c.beat).where(worker.c.id == who)).scalar()
        state = "idle" if beat is not None and beat > now - SILENT else "gone"
        _change(connection, who, drained=None, state=state)
        audit.note(connection, now, actor, "worker.undrain", who)


def _change(connection: Connection, who: str, **about: Any) -> None:
    if connection.execute(update(worker).where(worker.c.id == who).values(about)).rowcount == 0:
        raise NotFound(f"Worker {who}.")


# --- queues --------------------------------------------------------------------------------------


def queues(database: Database) -> list[Queue]:
    """Of all owners together."""
    with database.read() as connection:
        now = database.now(connection)
        paused = {row.queue: row.at for row in connection.execute(select(paused_queue))}
        counted = {
            (row.queue, row.state): row
            for row in connection.execute(
                select(step.c.queue, step.c.state, func.count().label("steps"),
                       func.min(step.c.not_before).label("oldest"))
                .join(job, job.c.id == step.c.job)
                .where(step.c.state.in_(("ready", "leased")), job.c.state.not_in(JOB_ENDED))
                .where((step.c.state == "leased") | (job.c.wish == "run"))
                .where((step.c.state == "leased") | (step.c.not_before <= now))
                .group_by(step.c.queue, step.c.state)
            )
        }  # fmt: skip
    found = []
    for name in QUEUES:
        ready, leased = counted.get((name, "ready")), counted.get((name, "leased"))
        found.append(
            Queue(
                name=name, paused=paused.get(name), ready=ready.steps if ready else 0,
                leased=leased.steps if leased else 0,
                oldest=(now - ready.oldest) / SECOND if ready else None,
            )
        )  # fmt: skip
    return found


def pause(database: Database, actor: str, name: str) -> None:
    """Let no worker claim from it; what is in hand is finished."""
    with contextlib.suppress(IntegrityError), database.write() as connection:  # it is paused
        now = database.now(connection)
        connection.execute(insert(paused_queue).values(queue=name, at=now))
        audit.note(connection, now, actor, "queue.pause", name)


def resume(database: Database, actor: str, name: str) -> None:
    with database.write() as connection:
        gone = connection.execute(delete(paused_queue).where(paused_queue.c.queue == name))
        if gone.rowcount:
            audit.note(connection, database.now(connection), actor, "queue.resume", name)
