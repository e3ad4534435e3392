"""What happened, in order: rows that pages, scripts and webhooks read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select

from longtake.service import order
from longtake.service.database import SECOND, Database
from longtake.service.tables import event

_INSERT: Final = insert(event)
MOST = 500  # events read at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    id: int
    owner: str
    job: str | None
    type: str
    """job.state, job.progress, job.step, segment.state, asset.state, worker.state, weights.state,
    weights.progress."""
    data: dict[str, Any]
    at: int  # microseconds


def append(
    connection: Connection, at: int, owner: str, kind: str, data: Mapping[str, Any],
    job: str | None = None,
) -> None:  # fmt: skip
    """Add an event in the caller's transaction: it is there if and only if what it tells is."""
    order.enter(connection, event)
    row = {"owner": owner, "job": job, "type": kind, "data": json.dumps(dict(data)), "at": at}
    connection.execute(_INSERT, row)


def after(database: Database, last: int, *, owner: str | None = None, job: str | None = None,
          most: int = MOST) -> list[Told]:  # fmt: skip
    """Events behind number `last`, oldest first; of one owner and one job, where they are named."""
    wanted = select(event).order_by(event.c.id).limit(most)
    if owner is not None:
        wanted = wanted.where(event.c.owner == owner)
    if job is not None:
        wanted = wanted.where(event.c.job == job)
    with database.read() as connection:
        end = order.settled(connection, event)
        wanted = wanted.where(event.c.id > last, event.c.id <= end)
        rows = connection.execute(wanted).mappings().all()
    return [
        Told(
            id=row["id"], owner=row["owner"], job=row["job"], type=row["type"],
            data=json.loads(row["data"]), at=row["at"],
        )
        for row in rows
    ]  # fmt: skip


def prune(database: Database, days: float = 7) -> int:
    """Remove what is older; returns how many."""
    with database.write() as connection:
        before = database.now(connection) - int(days * 86_400 * SECOND)
        return int(connection.execute(delete(event).where(event.c.at < before)).rowcount)


def newest(database: Database) -> int:
    """Number of the last event that can be followed without missing one, 0 where there is none."""
    with database.read() as connection:
        return order.settled(connection, event)
