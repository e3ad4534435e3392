"""Who gets which step next. The statements are built once: building them costs more than the
database takes to answer them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import (
    Connection,
    and_,
    bindparam,
    case,
    func,
    insert,
    or_,
    select,
    update,
)

from longtake.service.database import SECOND, Database
from longtake.service.quotas import month_of
from longtake.service.reaping import lapsed, take_back
from longtake.service.tables import JOB_GOING, attempt, job, paused_queue, step, usage, user
from longtake.service.transitions import Claim, again, becomes, tell_step

_CANDIDATES: Final = 4

# A step that may be claimed. Parameters: now, queues, numerics (None: of no segment).
_READY: Final = and_(
    step.c.state == "ready",
    step.c.not_before <= bindparam("now"),
    step.c.queue.in_(bindparam("queues", expanding=True)),
    step.c.queue.not_in(select(paused_queue.c.queue)),
    or_(
        step.c.kind != "segment", job.c.numerics.is_(None), job.c.mixed == 1,
        job.c.numerics == bindparam("numerics"),
    ),
)  # fmt: skip

_SPENT: Final = (
    select(usage.c.device_time)
    .where(usage.c.owner == user.c.id, usage.c.month == bindparam("month"))
    .scalar_subquery()
)

# A job whose steps may be claimed. Parameter: month.
_GOING: Final = and_(
    job.c.state.in_(JOB_GOING),
    job.c.wish == "run",
    or_(
        user.c.quota_seconds.is_(None),
        func.coalesce(_SPENT, 0) < user.c.quota_seconds * SECOND,
    ),
)

# The best jobs first: several, because others may be taking the first one's steps. Jobs are put in
# order and not their steps: there are a hundred times as many of those.
_JOBS: Final = (
    select(job.c.id)
    .join(user, user.c.id == job.c.owner)
    .where(_GOING, select(step.c.job).where(step.c.job == job.c.id, _READY).exists())
    .order_by(
        job.c.priority.desc(), user.c.turn,
        case((job.c.id == bindparam("last"), 0), else_=1), job.c.created,
    )
    .limit(_CANDIDATES)
)  # fmt: skip

_planner: Final = step.alias()
_STEP: Final = (
    select(
        step, job.c.owner, job.c.task, job.c.limits, job.c.plan, job.c.state.label("now"),
        select(_planner.c.fence).where(_planner.c.job == job.c.id, _planner.c.number == -1)
        .scalar_subquery().label("planner"),
    )
    .join(job, job.c.id == step.c.job)
    .join(user, user.c.id == job.c.owner)
    .where(step.c.job == bindparam("job"), _READY, _GOING)
    .order_by(step.c.number)
    .limit(1)
    .with_for_update(of=step, skip_locked=True)
)  # fmt: skip

_TAKE: Final = (
    update(step)
    .where(step.c.job == bindparam("of_job"), step.c.number == bindparam("of_number"))
    .values(state="leased", frames_done=0)
)
_ATTEMPT: Final = insert(attempt)
_TURN: Final = update(user).where(user.c.id == bindparam("owner"))


@again
def claim(
    database: Database, who: str, queues: Sequence[str], lease: float,
    *, last: str | None = None, numerics: str | None = None,
) -> Claim | None:  # fmt: skip
    """Take the next step for `lease` seconds: that of the highest priority, then of the owner who
    was served longest ago, then of job `last`, then of the oldest job. None if there is none.

    Segments go only to workers with the numerics of the job's first committed segment. Owners whose
    device time is used up wait. A look that finds nothing only reads: it holds up nobody.
    """
    with database.read() as connection:
        now = database.now(connection)
        asked = {
            "now": now, "queues": list(queues), "numerics": numerics, "month": month_of(now),
        }  # fmt: skip
        lost = lapsed(connection, now)
        names = () if lost else _best(connection, asked, last)
    if not lost and not names:
        return None
    with database.write() as connection:
        asked["now"] = now = database.now(connection)
        if lost:
            take_back(connection, now)
            names = _best(connection, asked, last)
        for name in names:
            found = connection.execute(_STEP, {**asked, "job": name}).first()
            if found is not None:
                return _claimed(connection, found, who, now, lease)
        return None


def _best(connection: Connection, asked: dict[str, Any], last: str | None) -> Sequence[str]:
    return connection.execute(_JOBS, {**asked, "last": last or ""}).scalars().all()


def _claimed(connection: Connection, row: Any, who: str, now: int, lease: float) -> Claim:
    fence, attempts = row.fence + 1, row.attempts + 1
    connection.execute(
        _TAKE,
        {"of_job": row.job, "of_number": row.number, "worker": who, "fence": fence,
         "attempts": attempts, "lease": now + int(lease * SECOND), "began": now},
    )  # fmt: skip
    connection.execute(
        _ATTEMPT,
        {"job": row.job, "number": row.number, "fence": fence, "worker": who, "began": now},
    )
    connection.execute(_TURN, {"owner": row.owner, "turn": now})
    state = {"plan": "planning", "join": "joining"}.get(row.kind)
    if state and state != row.now:
        becomes(connection, row.job, state, now, started=now)
    tell_step(connection, now, row.owner, row, "leased", who)
    return Claim(
        job=row.job, number=row.number, kind=row.kind, queue=row.queue, fence=fence,
        attempts=attempts, planner=fence if row.number == -1 else row.planner,
        owner=row.owner, task=row.task, limits=row.limits, plan=row.plan, frames=row.frames,
    )  # fmt: skip
