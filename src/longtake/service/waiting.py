"""Why a job stands still though nobody stopped it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, Literal, TypedDict

from sqlalchemy import Connection, func, select

from longtake.service import quotas
from longtake.service.database import SECOND
from longtake.service.tables import JOB_ENDED, paused_queue, step, worker

FRESH: Final = 60 * SECOND  # a worker that was heard of since is there


class Waiting(TypedDict):
    reason: Literal["quota", "paused", "worker", "disk", "later"]
    detail: str


def reasons(connection: Connection, rows: Sequence[Any], now: int) -> dict[str, Waiting]:
    """By job, of `rows` of one owner: those with steps that could be done, and that nobody does."""
    names = [row.id for row in rows if row.wish == "run" and row.state not in JOB_ENDED]
    if not names:
        return {}
    found = connection.execute(
        select(step.c.job, step.c.state, step.c.queue, func.min(step.c.not_before).label("after"))
        .where(step.c.job.in_(names), step.c.state.in_(("ready", "leased")))
        .group_by(step.c.job, step.c.state, step.c.queue)
    ).all()
    held = {row.job for row in found if row.state == "leased"}
    standing = {row.job: row for row in found if row.job not in held}
    use = quotas.use(connection, rows[0].owner, now) if standing else None
    if use is not None and use.spent:
        return {name: Waiting(reason="quota", detail=use.words()) for name in standing}
    queues = {
        queue: _queue(connection, queue, now) for queue in {s.queue for s in standing.values()}
    }
    made = {name: queues[row.queue] or _later(row.after, now) for name, row in standing.items()}
    return {name: why for name, why in made.items() if why is not None}


def _queue(connection: Connection, queue: str, now: int) -> Waiting | None:
    paused = select(paused_queue.c.queue).where(paused_queue.c.queue == queue)
    if connection.execute(paused).first() is not None:
        return Waiting(reason="paused", detail=f"The queue {queue} is paused.")
    there = connection.execute(
        select(worker.c.queues, worker.c.telemetry).where(
            worker.c.state.in_(("idle", "busy")), worker.c.beat > now - FRESH
        )
    ).all()
    told = [json.loads(row.telemetry or "{}") for row in there if queue in row.queues.split()]
    if not told:
        return Waiting(reason="worker", detail=f"No worker of the queue {queue} is there.")
    short = [one["waits"] for one in told if one.get("waits")]
    return Waiting(reason="disk", detail=short[0]) if len(short) == len(told) else None


def _later(after: int, now: int) -> Waiting | None:
    if after <= now:
        return None
    return Waiting(reason="later", detail=f"It is tried again in {(after - now) / SECOND:.0f} s.")
