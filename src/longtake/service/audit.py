"""Who changed what for others or for good: a row for each such action, in its own transaction.

Objects are named by their ids; a row never holds a token, a secret or an address with a password.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from longtake.service.database import Database
from longtake.service.tables import audit, user

address: ContextVar[str | None] = ContextVar("address", default=None)
"""From where the request in hand comes; the shell sets it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    id: int
    actor: str
    name: str | None
    """Of the actor."""
    action: str
    """user.add, user.change, token.issue, token.revoke, session.open, webhook.add, ..."""
    object: str
    address: str | None
    at: int  # microseconds


def note(connection: Connection, now: int, actor: str, action: str, thing: str) -> None:
    connection.execute(
        insert(audit).values(
            actor=actor, action=action, object=thing, address=address.get(), at=now
        )
    )


def noted(database: Database, actor: str, action: str, thing: str) -> None:
    """The same in a transaction of its own, for what has none."""
    with database.write() as connection:
        note(connection, database.now(connection), actor, action, thing)


def entries(database: Database, *, before: int | None = None, most: int = 50) -> list[Entry]:
    """The newest first; `before`: the id of the last one that was listed."""
    wanted = select(audit, user.c.name).outerjoin(user, user.c.id == audit.c.actor)
    if before is not None:
        wanted = wanted.where(audit.c.id < before)
    with database.read() as connection:
        rows = connection.execute(wanted.order_by(audit.c.id.desc()).limit(most)).mappings().all()
    return [Entry(**row) for row in rows]
