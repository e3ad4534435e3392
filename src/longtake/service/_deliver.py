"""Send webhooks' deliveries that are due. See webhooks.py."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Select, func, or_, select, tuple_, update

from longtake.core.errors import LongtakeError, Usage
from longtake.service.database import SECOND, Database
from longtake.service.outbound import Answer
from longtake.service.tables import delivery, event, webhook

DELAYS: Final = (5.0, 30.0, 120.0, 600.0, 3600.0, 21_600.0, 86_400.0)  # s before each further one
LEASE: Final = 60.0  # s that a sender has; more than outbound.SECONDS
MOST: Final = 20  # deliveries that one call of `deliver` sends
SECRET = "whsec_"  # and base64
_SECRET_BYTES = range(24, 65)
_SNIPPET = 1000  # characters of an answer that are kept

Send = Callable[[str, bytes, Mapping[str, str]], Answer]
"""Address, body, headers; raises LongtakeError or OSError where there is no answer."""


def sign(secret: str, name: str, at: int, body: bytes) -> str:
    """What stands in webhook-signature; `at` in seconds."""
    signed = hmac.new(key_of(secret), f"{name}.{at}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(signed).decode()


def key_of(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(SECRET), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(SECRET) or len(key) not in _SECRET_BYTES:
        raise Usage("secret: give whsec_ and base64 of 24 to 64 random bytes, or leave it out.")
    return key


def deliver(
    database: Database, send: Send, worker: str, *, delays: Sequence[float] = DELAYS,
    lease: float = LEASE,
) -> int:  # fmt: skip
    """Send what is due, one after the other, at most 20; returns how many were tried.

    A receiver that hangs holds up the caller, but no other one: let some threads deliver. `delays`
    and `lease` are seconds; after the last delay a delivery has failed.
    """
    for tried in range(MOST):
        taken = _take(database, worker, lease)
        if taken is None:
            return tried
        status, text = None, "The sender died each time."
        if taken.attempts <= len(delays):
            status, text = _send(taken, send)
        with database.write() as connection:
            now = database.now(connection)
            if status == 410:
                _disable(connection, taken)
            again = delays[taken.attempts : taken.attempts + 1]
            after = {"status": status, "answer": text, **_outcome(status, again, now)}
            connection.execute(
                update(delivery)
                .where(delivery.c.id == taken.id, delivery.c.lease == taken.lease,
                       delivery.c.worker == worker)
                .values(lease=None, worker=None, **after)
            )  # fmt: skip
    return MOST


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    id: str
    webhook: str
    url: str
    secret: str
    body: bytes
    attempts: int  # before this one
    now: int
    lease: int


def _take(database: Database, worker: str, lease: float) -> _Taken | None:
    """Hold the delivery that has been due the longest."""
    with database.read() as connection:
        if connection.execute(_due(database.now(connection))).first() is None:
            return None
    with database.write() as connection:
        now = database.now(connection)
        row = connection.execute(_due(now).with_for_update(of=delivery, skip_locked=True)).first()
        if row is None:
            return None
        until = now + round(lease * SECOND)
        connection.execute(
            update(delivery).where(delivery.c.id == row.id)
            .values(worker=worker, lease=until, attempts=row.attempts + 1)
        )  # fmt: skip
        return _Taken(
            id=row.id, webhook=row.webhook, url=row.url, secret=row.secret,
            body=row.body.encode(), attempts=row.attempts, now=now, lease=until,
        )  # fmt: skip


def _due(now: int) -> Select[Any]:
    """The delivery to send next: the first of its job that waits, of a webhook to which nobody
    sends at this moment."""
    waits, sent = delivery.alias(), delivery.alias()
    first = (
        select(waits.c.webhook, func.min(waits.c.event))
        .outerjoin(event, event.c.id == waits.c.event)
        .where(waits.c.state == "waiting")
        .group_by(waits.c.webhook, func.coalesce(event.c.job, waits.c.id))
    )
    busy = select(sent.c.webhook).where(sent.c.state == "waiting", sent.c.lease > now)
    return (
        select(delivery, webhook.c.url, webhook.c.secret)
        .join(webhook, webhook.c.id == delivery.c.webhook)
        .where(
            delivery.c.state == "waiting",
            delivery.c.next <= now,
            or_(delivery.c.lease.is_(None), delivery.c.lease <= now),
            webhook.c.disabled.is_(None),
            delivery.c.webhook.not_in(busy),
            tuple_(delivery.c.webhook, delivery.c.event).in_(first),
        )
        .order_by(delivery.c.next, delivery.c.event)
        .limit(1)
    )


def _send(taken: _Taken, send: Send) -> tuple[int | None, str]:
    """Status of the answer and its beginning; or why there was none."""
    at = taken.now // SECOND
    headers = {
        "Content-Type": "application/json",
        "webhook-id": taken.id,
        "webhook-timestamp": str(at),
        "webhook-signature": sign(taken.secret, taken.id, at, taken.body),
    }
    try:
        answer = send(taken.url, taken.body, headers)
    except (LongtakeError, OSError) as error:
        return None, str(error)[:_SNIPPET]
    return answer.status, answer.text[:_SNIPPET].replace("\0", "\ufffd")


def _outcome(status: int | None, again: Sequence[float], now: int) -> dict[str, Any]:
    if status is not None and 200 <= status < 300:
        return {"state": "sent"}
    if status == 410 or not again:
        return {"state": "failed"}
    return {"state": "waiting", "next": now + round(again[0] * SECOND)}


def _disable(connection: Connection, taken: _Taken) -> None:
    """The receiver wants nothing any more: what waits beside this one has failed."""
    connection.execute(
        update(webhook)
        .where(webhook.c.id == taken.webhook)
        .values(disabled="The receiver answered 410.")
    )
    connection.execute(
        update(delivery)
        .where(delivery.c.webhook == taken.webhook, delivery.c.state == "waiting",
               delivery.c.id != taken.id)
        .values(state="failed", lease=None, answer="The webhook was disabled before.")
    )  # fmt: skip
