"""Steps of workers that died or stalled go back to the queue."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, and_, bindparam, select, update

from longtake.service import job_log
from longtake.service.database import Database
from longtake.service.tables import job, step
from longtake.service.transitions import (
    MOST_ATTEMPTS,
    again,
    attempted,
    fails,
    settle,
    tell_step,
)

_LATE: Final = (
    select(step.c.job).where(step.c.state == "leased", step.c.lease < bindparam("now")).limit(1)
)


@again
def reap(database: Database) -> int:
    """Take steps back whose lease has ended; returns how many."""
    with database.read() as connection:
        if not lapsed(connection, database.now(connection)):
            return 0
    with database.write() as connection:
        return take_back(connection, database.now(connection))


def lapsed(connection: Connection, now: int) -> bool:
    """Whether a lease has ended."""
    return connection.execute(_LATE, {"now": now}).first() is not None


def take_back(connection: Connection, now: int) -> int:
    """Every step whose lease has ended; returns how many."""
    lost = connection.execute(
        select(step.c.job, step.c.number, step.c.fence, step.c.kind, step.c.attempts, step.c.worker,
               step.c.lease, job.c.owner)
        .join(job, job.c.id == step.c.job)
        .where(step.c.state == "leased", step.c.lease < now)
        .order_by(job.c.owner, step.c.job)  # rows of owners are locked in one order by everybody
        .with_for_update(of=step, skip_locked=True)
    ).all()  # fmt: skip
    for row in lost:
        here = and_(step.c.job == row.job, step.c.number == row.number)
        last = row.attempts >= MOST_ATTEMPTS
        words = (
            f"{row.attempts} workers died or stalled at step {row.number}, the last {row.worker}."
        )
        connection.execute(
            update(step).where(here).values(
                state="failed" if last else "ready", lease=None, not_before=now, frames_done=0,
                error=words,
            )
        )  # fmt: skip
        attempted(connection, row, "lost", now)
        said = f"The lease of {row.worker} has ended: it died or stalled. "
        said += "The job fails by that." if last else "Another may have the step."
        line = job_log.Line(level="error" if last else "warning", text=said, number=row.number,
                            fence=row.fence, worker=row.worker)  # fmt: skip
        job_log.append(connection, now, row.job, [line])
        tell_step(connection, now, row.owner, row, "failed" if last else "ready", None)
        if last:
            fails(connection, row.job, "WorkerFailed", words, 1, now)
        settle(connection, row.job, now)
    return len(lost)
