"""The same request twice has one effect: `Idempotency-Key`.

Whoever can insert the row of a key does the work; others wait for its answer. A row whose work died
is taken over after a minute; it has one effect even then, because work stores its answer in the
transaction of its effect: `begin`, then `Turn.keep`, or `Turn.give_up` where it failed.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from longtake.core.errors import LongtakeError
from longtake.service.database import SECOND, Database, DatabaseAway
from longtake.service.problems import Problem
from longtake.service.tables import idempotency as keys

DEAD: Final = 60  # s, after which work without an answer is taken over
_KEPT: Final = 24 * 3600  # s
_WAIT: Final = 20.0  # s, for the answer of work that somebody else does
_LOOK: Final = 0.05  # s
_LONGEST: Final = 255  # characters of a key

Answer = tuple[int, dict[str, Any]]
"""Status and body."""


class TurnLost(LongtakeError):
    """This took so long that another request with the same key has taken it over."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The right to do the work of a key."""

    database: Database
    owner: str
    key: str
    at: int

    def keep(self, connection: Connection, status: int, body: Mapping[str, Any]) -> Answer:
        """Store the answer, in the caller's transaction. Raises TurnLost, which must end it."""
        text = json.dumps(dict(body))
        done = connection.execute(
            update(keys).where(*self._mine()).values(status=status, body=text)
        )
        if done.rowcount != 1:
            raise TurnLost
        return status, json.loads(text)

    def give_up(self) -> None:
        """Let another request with this key try. Does nothing where the answer is stored."""
        with suppress(DatabaseAway), self.database.write() as connection:  # else: after DEAD
            connection.execute(delete(keys).where(*self._mine()))

    def _mine(self) -> tuple[Any, ...]:
        return (
            keys.c.owner == self.owner, keys.c.key == self.key,
            keys.c.at == self.at, keys.c.status.is_(None),
        )  # fmt: skip


def request_sha(route: str, body: Any) -> str:
    """What tells one request from another: where it goes, and its body (as JSON)."""
    text = json.dumps([route, body], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def begin(database: Database, owner: str, key: str, request_sha: str) -> Turn | Answer:
    """The right to do the work, or the stored answer. Raises Problem 422 where the key was used for
    another request, 409 where that one is still being worked on after 20 s."""
    if not 0 < len(key) <= _LONGEST:
        raise Problem(422, detail=f"Idempotency-Key: give 1 to {_LONGEST} characters.")
    end = time.monotonic() + _WAIT
    while True:
        found = _insert(database, owner, key, request_sha) or _look(
            database, owner, key, request_sha
        )
        if found is not None:
            return found
        if time.monotonic() >= end:
            raise Problem(
                409,
                detail="The first request with this key is still being worked on. Ask again later.",
                headers={"Retry-After": str(DEAD)},
            )
        time.sleep(_LOOK)


def _insert(database: Database, owner: str, key: str, sha256: str) -> Turn | None:
    with database.read() as connection:  # a transaction that writes would hold up all others
        known = select(keys.c.at).where(keys.c.owner == owner, keys.c.key == key)
        at = connection.execute(known).scalar()
        if at is not None and at >= database.now(connection) - _KEPT * SECOND:
            return None
    try:
        with database.write() as connection:
            now = database.now(connection)
            connection.execute(delete(keys).where(keys.c.at < now - _KEPT * SECOND))
            connection.execute(insert(keys).values(owner=owner, key=key, sha256=sha256, at=now))
    except IntegrityError:
        return None
    return Turn(database, owner, key, now)


def _look(database: Database, owner: str, key: str, sha256: str) -> Turn | Answer | None:
    """What has become of a key; None where somebody works on it, or it has just gone."""
    row_of_it = (keys.c.owner == owner, keys.c.key == key)
    with database.read() as connection:
        row = connection.execute(select(keys).where(*row_of_it)).one_or_none()
        now = database.now(connection)
    if row is None:
        return None
    if row.sha256 != sha256:
        raise Problem(
            422, detail="This Idempotency-Key was used for another request. Give a new one."
        )
    if row.status is not None:
        return row.status, json.loads(row.body)
    if row.at >= now - DEAD * SECOND:
        return None
    with database.write() as connection:
        now = database.now(connection)
        taken = connection.execute(
            update(keys)
            .where(*row_of_it, keys.c.at == row.at, keys.c.status.is_(None))
            .values(at=now)
        )
    return Turn(database, owner, key, now) if taken.rowcount == 1 else None
