"""Tell other programs what happens, by the rules of https://www.standardwebhooks.com.

`spread` makes a delivery of each event for each webhook that asks for it, `deliver` sends what is
due. Any number of processes may do both at once: what was done is in the database alone. A delivery
is sent at least once, each time under the same webhook-id, and those of one job in their order.

Beside its deliveries a webhook has one row of event 0, which is none: its `next` is the number of
the last event that was spread. Deliveries that only try a webhook out have events below 0.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Row,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from longtake.core.errors import Usage
from longtake.service import events as happened
from longtake.service import order
from longtake.service._deliver import DELAYS, LEASE, SECRET, Send, deliver, key_of, sign
from longtake.service.audit import note
from longtake.service.database import SECOND, Database
from longtake.service.jobs import Conflict, NotFound, identifier
from longtake.service.outbound import check
from longtake.service.tables import delivery, event, job, webhook

__all__ = [
    "DELAYS", "FIRST", "LEASE", "Delivery", "Hook", "Send", "create", "deliver", "deliveries",
    "hooks", "prune", "redeliver", "remove", "sign", "spread", "test",
]  # fmt: skip

FIRST: Final = 2.0  # s between an event and its first delivery: n8n listens a little later
_WORD = re.compile(r"\*|[a-z_]+(\.[a-z_]+)*")
_MARK = 0  # the event of the row that says how far events are spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """A webhook, as its owner sees it: the secret is told once, when it is made."""

    id: str
    url: str
    events: tuple[str, ...]
    job: str | None
    disabled: str | None  # why
    created: int  # microseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    id: str  # the webhook-id
    event: int  # below 0: only to try the webhook out
    type: str
    state: str  # waiting, sent, failed
    attempts: int
    status: int | None  # of the last answer
    answer: str | None  # its beginning, or why there was none
    next: int  # microseconds: not to be sent before
    created: int


def create(
    database: Database, owner: str, url: str, events: Sequence[str], job: str | None = None,
    secret: str | None = None,
) -> tuple[str, str]:  # fmt: skip
    """A new webhook; returns its id and its secret, whsec_ and base64.

    `events` are types, "*", or the ends of jobs by name ("job.succeeded"). One of a single `job` is
    told all of that job, also what came before; another what comes from now on. Whether the
    deployment lets `url` be called is for the caller to ask: `outbound.check(url, allow)`. Raises
    Usage, Refused, NotFound where the owner has no such job.
    """
    check(url, None)
    words = list(dict.fromkeys(events))
    if not words or not all(_WORD.fullmatch(word) for word in words):
        raise Usage('events: give types such as job.state or job.succeeded, or "*".')
    secret = secret or SECRET + base64.b64encode(secrets.token_bytes(32)).decode()
    key_of(secret)
    name = f"wh_{identifier()}"
    with database.write() as connection:
        if job is not None:
            _need_job(connection, owner, job)
        now = database.now(connection)
        connection.execute(
            insert(webhook).values(
                id=name, owner=owner, job=job, url=url, secret=secret, events=" ".join(words),
                created=now,
            )
        )  # fmt: skip
        last = 0 if job is not None else order.settled(connection, event)
        connection.execute(
            insert(delivery).values(**_row(name, _MARK, now), state="sent", next=last)
        )
        note(connection, now, owner, "webhook.add", name)
    return name, secret


def hooks(database: Database, owner: str) -> list[Hook]:
    """Those of an owner, oldest first."""
    wanted = select(webhook).where(webhook.c.owner == owner).order_by(webhook.c.created)
    with database.read() as connection:
        rows = connection.execute(wanted).all()
    return [
        Hook(
            id=row.id, url=row.url, events=tuple(row.events.split()), job=row.job,
            disabled=row.disabled, created=row.created,
        )
        for row in rows
    ]  # fmt: skip


def remove(database: Database, owner: str, name: str) -> None:
    """Delete a webhook and its deliveries. Raises NotFound."""
    with database.write() as connection:
        gone = connection.execute(
            delete(webhook).where(webhook.c.id == name, webhook.c.owner == owner)
        )
        if not gone.rowcount:
            raise NotFound(f"No webhook {name}.")
        note(connection, database.now(connection), owner, "webhook.remove", name)


def deliveries(database: Database, owner: str, name: str, most: int = 100) -> list[Delivery]:
    """The newest of a webhook first. Raises NotFound."""
    wanted = (
        select(delivery)
        .where(delivery.c.webhook == name, delivery.c.event != _MARK)
        .order_by(delivery.c.created.desc(), delivery.c.event.desc())
        .limit(most)
    )
    with database.read() as connection:
        _owned(connection, owner, name)
        rows = connection.execute(wanted).all()
    return [
        Delivery(
            id=row.id, event=row.event, type=row.type, state=row.state, attempts=row.attempts,
            status=row.status, answer=row.answer, next=row.next, created=row.created,
        )
        for row in rows
    ]  # fmt: skip


def redeliver(database: Database, owner: str, name: str, which: str) -> None:
    """Send a delivery again, now and from its first attempt on, under the same webhook-id; one
    that is being sent is left alone. Raises NotFound, Conflict where the webhook is disabled."""
    with database.write() as connection:
        _usable(connection, owner, name)
        now = database.now(connection)
        this = (
            delivery.c.id == which, delivery.c.webhook == name, delivery.c.event != _MARK
        )  # fmt: skip
        if connection.execute(select(delivery.c.id).where(*this)).first() is None:
            raise NotFound(f"Webhook {name} has no delivery {which}.")
        connection.execute(
            update(delivery)
            .where(*this, or_(delivery.c.lease.is_(None), delivery.c.lease <= now))
            .values(state="waiting", attempts=0, next=now, lease=None, worker=None)
        )


def test(database: Database, owner: str, name: str) -> str:
    """Send something now that tells of nothing; returns its webhook-id. Raises NotFound, Conflict
    where the webhook is disabled."""
    with database.write() as connection:
        _usable(connection, owner, name)
        now = database.now(connection)
        lowest = connection.execute(
            select(func.min(delivery.c.event)).where(delivery.c.webhook == name)
        ).scalar()
        row = _row(name, min(lowest or 0, 0) - 1, now)
        row |= {"type": "webhook.test", "body": _body("webhook.test", now, {}), "next": now}
        connection.execute(insert(delivery).values(**row))
    return str(row["id"])


def prune(database: Database, before: int) -> int:
    """Forget deliveries that ended and were made before this time (microseconds); how many."""
    with database.write() as connection:
        return connection.execute(
            delete(delivery).where(
                delivery.c.state != "waiting", delivery.c.event != _MARK,
                delivery.c.created < before,
            )
        ).rowcount  # fmt: skip


def _row(hook: str, number: int, now: int) -> dict[str, Any]:
    return {
        "id": f"msg_{identifier()}", "webhook": hook, "event": number, "type": "", "body": "",
        "created": now,
    }  # fmt: skip


def _body(kind: str, at: int, more: Mapping[str, Any]) -> str:
    when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)
    return json.dumps({"type": kind, "timestamp": when.isoformat(), "data": dict(more)})


def _owned(connection: Connection, owner: str, name: str, *, hold: bool = False) -> Row[Any]:
    wanted = select(webhook).where(webhook.c.id == name, webhook.c.owner == owner)
    row = connection.execute(wanted.with_for_update() if hold else wanted).first()
    if row is None:
        raise NotFound(f"No webhook {name}.")
    return row


def _usable(connection: Connection, owner: str, name: str) -> None:
    """Hold the webhook; raises NotFound, Conflict."""
    row = _owned(connection, owner, name, hold=True)
    if row.disabled is not None:
        raise Conflict(f"Webhook {name} is disabled: {row.disabled} Make a new one.")


def _need_job(connection: Connection, owner: str, name: str) -> None:
    found = select(job.c.id).where(job.c.id == name, job.c.owner == owner)
    if connection.execute(found).first() is None:
        raise NotFound(f"No job {name}.")


# --- from events to deliveries -------------------------------------------------------------------


def spread(database: Database, first: float = FIRST) -> int:
    """Make a delivery of every event that is not spread yet, for every webhook that asks for it;
    returns how many were made. They are due `first` seconds after their events."""
    mark = delivery.alias()
    behind = (
        select(webhook.c.id)
        .join(mark, (mark.c.webhook == webhook.c.id) & (mark.c.event == _MARK))
        .where(
            webhook.c.disabled.is_(None),
            or_(
                webhook.c.job.is_(None)
                & exists().where(event.c.owner == webhook.c.owner, event.c.id > mark.c.next),
                webhook.c.job.is_not(None)
                & exists().where(event.c.job == webhook.c.job, event.c.id > mark.c.next),
            ),
        )
    )
    with database.read() as connection:
        names = connection.execute(behind).scalars().all()
    return sum(_spread(database, name, round(first * SECOND)) for name in names)


def _spread(database: Database, name: str, wait: int) -> int:
    made = 0
    while True:
        with database.write() as connection:
            new, more = _spread_some(connection, name, wait, database.now(connection))
        made += new
        if not more:
            return made


def _spread_some(connection: Connection, name: str, wait: int, now: int) -> tuple[int, bool]:
    """Deliveries made of the next events, and whether there are more. Who holds the row that says
    how far events are spread is the only one to spread them."""
    hook = connection.execute(
        select(webhook, delivery.c.id.label("mark"), delivery.c.next.label("last"))
        .join(delivery, delivery.c.webhook == webhook.c.id)
        .where(webhook.c.id == name, webhook.c.disabled.is_(None), delivery.c.event == _MARK)
        .with_for_update(skip_locked=True)
    ).first()
    if hook is None:
        return 0, False
    end = order.settled(connection, event)
    behind = (event.c.id > hook.last, event.c.id <= end)
    wanted = select(event).where(event.c.owner == hook.owner, *behind)
    if hook.job is not None:
        wanted = wanted.where(event.c.job == hook.job)
    rows = connection.execute(wanted.order_by(event.c.id).limit(happened.MOST)).all()
    words, new = set(hook.events.split()), []
    for row in rows:
        data = json.loads(row.data)
        if words & _words(row.type, data):
            told = data if row.job is None else {"job": row.job, **data}
            due = max(row.at, hook.created) + wait
            new.append(
                _row(name, row.id, now)
                | {"type": row.type, "body": _body(row.type, row.at, told), "next": due}
            )
    if new:
        connection.execute(insert(delivery), new)
    if rows:
        connection.execute(
            update(delivery).where(delivery.c.id == hook.mark).values(next=rows[-1].id)
        )
    return len(new), len(rows) == happened.MOST


def _words(kind: str, data: Mapping[str, Any]) -> set[str]:
    """The words that ask for an event."""
    words = {"*", kind}
    if kind == "job.state":
        words.add(f"job.{data.get('state')}")
    return words
