"""The queue: who does which step of which job, and that no step is counted twice.

A job is a row of steps: one plans, one for each segment, one joins. A worker claims a step for a
lease and gets a fence, a number that grows with every claim. It renews the lease while the work
advances and commits under its fence: if somebody else has claimed the step since, nothing is
changed and `LeaseLost` is raised. So a step has one effect, whoever died or slept meanwhile.
All clocks are the database's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, bindparam, func, insert, select, update

from longtake.core.errors import LongtakeError
from longtake.service import events
from longtake.service.database import SECOND, Database
from longtake.service.tables import JOB_ENDED, asset, job, step
from longtake.service.transitions import (
    MOST_ATTEMPTS,
    Claim,
    LeaseLost,
    Outcome,
    again,
    attempted,
    becomes,
    change,
    fails,
    frames_done,
    pace,
    settle,
    tell_step,
    timed,
)

_PAUSES: Final = (1, 15, 60)  # s, before another attempt

# Statements of every beat and commit, built once.
_HERE: Final = job.c.id == bindparam("name")
_JOB: Final = select(job.c.wish, job.c.state, job.c.frames).where(_HERE)
_HOLD: Final = select(job.c.id).where(_HERE).with_for_update()
_ADVANCE: Final = update(job).where(_HERE).values(
    numerics=func.coalesce(job.c.numerics, bindparam("ours"))
)  # fmt: skip
_UNDONE: Final = (
    select(step.c.number)
    .where(step.c.job == bindparam("name"), step.c.kind == "segment", step.c.state != "done")
    .limit(1)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a committed segment has left."""

    key: str
    bytes: int
    sha256: str
    fps: float | None = None
    """Frames per second at which it was made."""
    steps: int | None = None
    """Of the sampler that were taken for it."""
    decode_time: int | None = None
    """Microseconds from the last of them to the part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampler:
    """How far a sampler is."""

    done: int
    of: int
    step_time: int | None
    """Microseconds that a step takes; None before one was measured."""


@again
def beat(
    database: Database, held: Claim, lease: float, frames: int,
    *, fps: float | None = None, sampler: Sampler | None = None,
) -> str:  # fmt: skip
    """Renew a lease and say how far and how fast the step is; returns what is wished: run, pause or
    cancel. `sampler`: only where it went on since the last beat. Raises LeaseLost."""
    with database.write() as connection:
        now = database.now(connection)
        further = {} if sampler is None else {"sampled": sampler.done, "sampling": sampler.of}
        until = now + int(lease * SECOND)
        if not change(connection, held, lease=until, frames_done=frames, **further):
            raise LeaseLost(f"Step {held.number} of {held.job}.")
        if fps is not None:
            pace(connection, held, fps)
        if sampler is not None:
            timed(connection, held, step_time=sampler.step_time)
            told = {"segment": held.number, "done": sampler.done, "of": sampler.of}
            events.append(connection, now, held.owner, "job.step", told, held.job)
        row = connection.execute(_JOB, {"name": held.job}).one()
        if held.kind == "segment":
            done = frames_done(connection, held.job)
            told = {"frames": done, "of": row.frames, "segment": held.number, "done": frames}
            events.append(connection, now, held.owner, "job.progress", told, held.job)
        return "cancel" if row.state in JOB_ENDED else str(row.wish)


# --- commits -------------------------------------------------------------------------------------


@again
def commit_plan(
    database: Database, held: Claim, plan: str, identity: str, segments: Sequence[int]
) -> None:
    """Store the frozen plan and make its steps ready: a segment for each number of frames. Raises
    LeaseLost."""
    with database.write() as connection:
        now = _done(database, connection, held)
        frames = sum(segments)
        connection.execute(
            update(job).where(job.c.id == held.job).values(
                plan=plan, identity=identity, frames=frames
            )
        )  # fmt: skip
        rows: list[dict[str, Any]] = [
            {"job": held.job, "number": number, "kind": "segment", "queue": held.queue,
             "state": "ready", "not_before": now, "frames": length}
            for number, length in enumerate(segments)
        ]  # fmt: skip
        rows.append(
            {"job": held.job, "number": len(segments), "kind": "join", "queue": held.queue,
             "state": "blocked", "not_before": now, "frames": frames}
        )  # fmt: skip
        connection.execute(insert(step), rows)
        becomes(connection, held.job, "running", now)
        settle(connection, held.job, now)


@again
def commit_segment(database: Database, held: Claim, part: Part, numerics: str) -> None:
    """Count a part whose bytes are on the disk. Raises LeaseLost."""
    with database.write() as connection:
        about: dict[str, Any] = {"key": part.key, "bytes": part.bytes, "sha256": part.sha256}
        if part.steps is not None:
            about |= {"sampled": part.steps, "sampling": part.steps}
        now = _done(database, connection, held, **about, frames_done=held.frames)
        if part.fps is not None:
            pace(connection, held, part.fps)
        if part.decode_time is not None:
            timed(connection, held, decode_time=part.decode_time)
        if part.steps is not None:
            told = {"segment": held.number, "done": part.steps, "of": part.steps}
            events.append(connection, now, held.owner, "job.step", told, held.job)
        done = frames_done(connection, held.job)
        connection.execute(_ADVANCE, {"name": held.job, "ours": numerics, "frames_done": done})
        if connection.execute(_UNDONE, {"name": held.job}).first() is None:
            connection.execute(
                update(step).where(
                    step.c.job == held.job, step.c.kind == "join", step.c.state == "blocked"
                ).values(state="ready", not_before=now)
            )  # fmt: skip
        settle(connection, held.job, now)


@again
def commit_join(database: Database, held: Claim, film: Mapping[str, Any], state: str) -> None:
    """The film is in place: it becomes an asset with these values, and the job has succeeded, or
    partly. Raises LeaseLost."""
    with database.write() as connection:
        now = _done(database, connection, held)
        connection.execute(
            insert(asset).values(**film, owner=held.owner, job=held.job, created=now)
        )
        connection.execute(update(job).where(job.c.id == held.job).values(result=film["id"]))
        becomes(connection, held.job, state, now, ended=now)
        waiting = select(job.c.id).where(job.c.parent == held.job)
        connection.execute(
            update(step).where(
                step.c.job.in_(waiting), step.c.kind == "plan", step.c.state == "blocked"
            ).values(state="ready", not_before=now)
        )  # fmt: skip


def _done(database: Database, connection: Connection, held: Claim, **about: Any) -> int:
    """Mark the step done, once; the job's row is locked from here on. Returns the time."""
    connection.execute(_HOLD, {"name": held.job})
    now = database.now(connection)
    if not change(connection, held, state="done", lease=None, ended=now, **about):
        raise LeaseLost(f"Step {held.number} of {held.job}.")
    attempted(connection, held, "done", now)
    tell_step(connection, now, held.owner, held, "done", None)
    return now


# --- what ends otherwise -------------------------------------------------------------------------


@again
def release(database: Database, held: Claim, outcome: Outcome, pause: float = 0) -> bool:
    """Give a step back that was not the cause: it does not count as an attempt. False: it was lost
    already."""
    with database.write() as connection:
        now = database.now(connection)
        later = now + int(pause * SECOND)
        return _back(connection, held, outcome, (now, later), attempts=held.attempts - 1)


@again
def fail(
    database: Database, held: Claim, error: LongtakeError, outcome: Outcome, *, final: bool
) -> bool:
    """An attempt failed: another follows later, unless it is `final` or was the last; then the job
    has failed. False: the step was lost already."""
    with database.write() as connection:
        connection.execute(_HOLD, {"name": held.job})
        now = database.now(connection)
        if not final and held.attempts < MOST_ATTEMPTS:
            later = now + _PAUSES[min(held.attempts, len(_PAUSES)) - 1] * SECOND
            return _back(connection, held, outcome, (now, later), detail=str(error))
        if not change(connection, held, state="failed", lease=None, ended=now, error=str(error)):
            return False
        attempted(connection, held, outcome, now, str(error))
        fails(connection, held.job, type(error).__name__, str(error), error.exit_code, now)
        return True


def _back(
    connection: Connection, held: Claim, outcome: Outcome, times: tuple[int, int],
    *, attempts: int | None = None, detail: str | None = None,
) -> bool:  # fmt: skip
    """Ready again; `times`: now, and when it may be claimed at the earliest."""
    now, later = times
    left = change(
        connection, held, state="ready", lease=None, not_before=later, frames_done=0, error=detail,
        attempts=held.attempts if attempts is None else attempts,
    )  # fmt: skip
    if not left:
        return False
    attempted(connection, held, outcome, now, detail)
    tell_step(connection, now, held.owner, held, "ready", None)
    settle(connection, held.job, now)
    return True


# --- small ---------------------------------------------------------------------------------------


def parts(database: Database, name: str) -> Iterable[tuple[int, str]]:
    """Number and key of every committed segment, in order."""
    with database.read() as connection:
        rows = connection.execute(
            select(step.c.number, step.c.key)
            .where(step.c.job == name, step.c.kind == "segment", step.c.state == "done")
            .order_by(step.c.number)
        ).all()
    return [(row.number, row.key) for row in rows]
