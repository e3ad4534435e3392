"""What becomes of jobs and steps: every change of state, inside somebody's transaction."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, ParamSpec, TypeVar

from sqlalchemy import Connection, bindparam, func, select, update
from sqlalchemy.exc import OperationalError

from longtake.core.errors import LongtakeError
from longtake.service import events, quotas
from longtake.service.database import DatabaseAway
from longtake.service.tables import JOB_ENDED, attempt, job, step

MOST_ATTEMPTS: Final = 3  # at a step
_RETRIES: Final = 6  # of a transaction that met another one

Outcome = Literal["done", "lost", "oom", "crash", "error", "cancelled", "released"]
P = ParamSpec("P")
T = TypeVar("T")


# Statements of every claim, beat and commit, built once: that costs more than to carry them out.
_FRAMES: Final = select(func.sum(step.c.frames_done)).where(
    step.c.job == bindparam("name"), step.c.kind == "segment"
)
_HELD: Final = update(step).where(
    step.c.job == bindparam("of_job"), step.c.number == bindparam("of_number"),
    step.c.fence == bindparam("of_fence"), step.c.state == "leased",
)  # fmt: skip
_ATTEMPT: Final = update(attempt).where(
    attempt.c.job == bindparam("of_job"), attempt.c.number == bindparam("of_number"),
    attempt.c.fence == bindparam("of_fence"),
)  # fmt: skip
_ATTEMPT_ENDS: Final = _ATTEMPT.returning(attempt.c.began)
_JOB: Final = select(job).where(job.c.id == bindparam("name"))


class LeaseLost(LongtakeError):
    """Another worker has this step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A step in somebody's hands."""

    job: str
    number: int
    kind: str
    """plan, segment or join."""
    queue: str
    fence: int
    attempts: int
    planner: int
    """The fence of the step that planned the job."""
    owner: str
    task: str
    limits: str
    plan: str | None
    frames: int


def again(work: Callable[P, T]) -> Callable[P, T]:
    """Once more where two transactions stood in each other's way."""

    @functools.wraps(work)
    def tried(*given: P.args, **named: P.kwargs) -> T:
        for left in reversed(range(_RETRIES)):
            try:
                return work(*given, **named)
            except DatabaseAway as error:
                cause = error.__cause__
                clash = isinstance(cause, OperationalError) and "deadlock" in str(cause).lower()
                if not clash or not left:
                    raise
                time.sleep(0.02 * (_RETRIES - left))
        raise AssertionError

    return tried


def settle(connection: Connection, name: str, now: int) -> None:
    """Let a job that shall stop, stop, if nobody is at work on it any more."""
    row = connection.execute(_JOB, {"name": name}).one()
    if row.wish == "run" or row.state in JOB_ENDED:
        return
    states = dict(
        connection.execute(
            select(step.c.number, step.c.state).where(step.c.job == name).order_by(step.c.number)
        ).all()
    )
    if "leased" in states.values():
        return
    if row.wish == "pause":
        if row.state != "paused":
            becomes(connection, name, "paused", now)
        return
    cancelled(connection, row, states.get(0) == "done", now)


def cancelled(connection: Connection, row: Any, some: bool, now: int) -> None:
    """With what is done from the beginning as a film, if there is anything and it is wanted."""
    partly = row.keep == "partial" and some
    left = step.c.job == row.id, step.c.state.in_(("ready", "blocked"))
    connection.execute(update(step).where(*left).values(state="cancelled"))
    if not partly:
        becomes(connection, row.id, "cancelled", now, ended=now)
        orphaned(connection, row.id, now)
        return
    connection.execute(
        update(step).where(step.c.job == row.id, step.c.kind == "join").values(
            state="ready", not_before=now
        )
    )  # fmt: skip
    becomes(connection, row.id, "joining", now, wish="run", error="cancelled")


def fails(connection: Connection, name: str, error: str, detail: str, code: int, now: int) -> None:
    connection.execute(
        update(step).where(step.c.job == name, step.c.state.in_(("ready", "blocked"))).values(
            state="cancelled"
        )
    )  # fmt: skip
    becomes(connection, name, "failed", now, ended=now, error=error, detail=detail, code=code)
    orphaned(connection, name, now)


def orphaned(connection: Connection, name: str, now: int) -> None:
    """Jobs that wait for the film of one that will not make it fail, too."""
    waiting = connection.execute(
        select(job.c.id).where(job.c.parent == name, job.c.state.not_in(JOB_ENDED))
    ).scalars().all()  # fmt: skip
    for child in waiting:
        words = f"Job {name}, whose film is its source, has ended without one."
        fails(connection, child, "ParentFailed", words, 1, now)


def change(connection: Connection, held: Claim, **about: Any) -> bool:
    """Change a step, if it is still in these hands; False: it is not."""
    return connection.execute(_HELD, {**_step_of(held), **about}).rowcount > 0


def _step_of(held: Any) -> dict[str, Any]:
    return {"of_job": held.job, "of_number": held.number, "of_fence": held.fence}


def frames_done(connection: Connection, name: str) -> int:
    """Of all segments."""
    return int(connection.execute(_FRAMES, {"name": name}).scalar() or 0)


def becomes(connection: Connection, name: str, state: str, now: int, **about: Any) -> None:
    if started := about.pop("started", None):
        about["started"] = func.coalesce(job.c.started, started)
    connection.execute(
        update(job).where(job.c.id == name).values(
            state=state, revision=job.c.revision + 1, **about
        )
    )  # fmt: skip
    row = connection.execute(select(job.c.owner, job.c.result).where(job.c.id == name)).one()
    told = {"state": state, **{k: v for k, v in about.items() if k in ("error", "detail", "code")}}
    events.append(connection, now, row.owner, "job.state", told, name)


def attempted(
    connection: Connection, held: Any, outcome: Outcome, now: int, detail: str | None = None
) -> None:
    """An attempt has ended; its time on the device is counted, until its lease ended at most."""
    about = {"outcome": outcome, "ended": now, "detail": detail}
    began = connection.execute(_ATTEMPT_ENDS, {**_step_of(held), **about}).scalar_one()
    until = min(now, held.lease) if outcome == "lost" else now
    quotas.spend(connection, held.owner, now, max(0, until - began))


def pace(connection: Connection, held: Claim, fps: float) -> None:
    """Frames per second of the attempt that is under way, or has just ended."""
    connection.execute(_ATTEMPT, {**_step_of(held), "fps": f"{fps:.4g}"})


def timed(connection: Connection, held: Claim, **took: int | None) -> None:
    """step_time or decode_time of the same attempt, microseconds; None: not measured yet."""
    known = {name: value for name, value in took.items() if value is not None}
    if known:
        connection.execute(_ATTEMPT, {**_step_of(held), **known})


def tell_step(
    connection: Connection, now: int, owner: str, held: Any, state: str, who: str | None
) -> None:
    told = {"number": held.number, "kind": held.kind, "state": state, "worker": who}
    events.append(connection, now, owner, "segment.state", told, held.job)
