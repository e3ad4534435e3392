"""Webhooks: every event once, in order, under one id, whatever dies and whatever is answered."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update
from standardwebhooks.webhooks import Webhook

from longtake.core.errors import Usage
from longtake.service import events, outbound, tables, webhooks
from longtake.service.database import SECOND, Database
from longtake.service.jobs import Conflict, NotFound
from longtake.service.outbound import Answer, Refused

HANG = 0
SOON = (0.02,) * 7  # s


class Receiver:
    """A real one: gives the statuses in turn, the last one for ever, and keeps what came."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.got: list[tuple[int, dict[str, str], bytes]] = []
        self.going = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                left = receiver.statuses
                status = left.pop(0) if len(left) > 1 else left[0]
                receiver.got.append((status, dict(self.headers.items()), body))
                if status == HANG:
                    receiver.going.wait(5)
                    return
                self.send_response(status)
                self.end_headers()
                self.wfile.write(b"so\0so")

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def told(self) -> list[tuple[str, int]]:
        """Job and number of what was accepted, as it came."""
        all_ = [json.loads(body)["data"] for status, _, body in self.got if status == 200]
        return [(data.get("job"), data["n"]) for data in all_]

    def close(self) -> None:
        self.going.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def receive() -> Iterator[Callable[..., Receiver]]:
    made: list[Receiver] = []

    def make(*statuses: int) -> Receiver:
        made.append(Receiver(*statuses))
        return made[-1]

    yield make
    for receiver in made:
        receiver.close()


@pytest.fixture
def house(database) -> Database:
    """Two owners; jobs a1, a2 of ann and b1 of bob."""
    with database.write() as connection:
        for owner in ("ann", "bob"):
            connection.execute(insert(tables.user).values(id=owner, name=owner, created=1))
            for name in (f"{owner[0]}1", f"{owner[0]}2"):
                connection.execute(
                    insert(tables.job).values(
                        id=name, owner=owner, kind="upscale", task="{}", limits="{}",
                        state="running", created=1,
                    )
                )  # fmt: skip
    return database


def happen(database: Database, n: int, job: str | None = "a1", kind: str = "job.progress",
           owner: str = "ann", **more: Any) -> None:  # fmt: skip
    with database.write() as connection:
        events.append(connection, database.now(connection), owner, kind, {"n": n, **more}, job)


SEND = partial(outbound.post, allow=frozenset({"127.0.0.1"}), seconds=0.4)


def spread(database: Database) -> int:
    return webhooks.spread(database, first=0)


def waiting(database: Database) -> int:
    with database.read() as connection:
        rows = connection.execute(
            select(tables.delivery.c.id).where(tables.delivery.c.state == "waiting")
        ).all()
    return len(rows)


def finish(database: Database, worker: str = "w", send: Any = SEND, **more: Any) -> int:
    """Deliver until nothing waits; how many times something was sent."""
    tried, until = 0, time.monotonic() + 10
    while waiting(database):
        assert time.monotonic() < until
        tried += (now := webhooks.deliver(database, send, worker, **{"delays": SOON, **more}))
        if not now:
            time.sleep(0.01)
    return tried


def test_one_id_a_true_signature_and_the_order_of_a_job(house, receive) -> None:
    receiver = receive(404, 409, 500, HANG, 302, 200)
    name, secret = webhooks.create(house, "ann", receiver.url, ["*"])
    for n in range(6):
        happen(house, n, job=("a1", "a2")[n % 2])
    assert spread(house) == 6
    assert finish(house) == 6 + 5
    for _, headers, body in receiver.got:
        assert Webhook(secret).verify(body, headers)["type"] == "job.progress"
        assert headers["Content-Type"] == "application/json"
    assert sorted(receiver.told(), key=lambda told: told[0]) == [
        ("a1", 0), ("a1", 2), ("a1", 4), ("a2", 1), ("a2", 3), ("a2", 5)
    ]  # fmt: skip
    ids = {
        body: {h["webhook-id"] for _, h, b in receiver.got if b == body}
        for *_, body in receiver.got
    }
    assert all(len(of_one) == 1 for of_one in ids.values())
    assert len(set.union(*ids.values())) == 6
    listed = webhooks.deliveries(house, "ann", name)
    assert {(one.state, one.status, one.answer) for one in listed} == {("sent", 200, "so\ufffdso")}
    assert sum(one.attempts for one in listed) == 11


def test_a_later_one_waits_until_the_earlier_one_has_ended(house, receive) -> None:
    receiver = receive(500, 500, 200)
    webhooks.create(house, "ann", receiver.url, ["job.progress"])
    happen(house, 0)
    happen(house, 1)
    happen(house, 2, "a2")
    spread(house)
    assert webhooks.deliver(house, SEND, "w", delays=(60.0,)) == 2  # 0 of a1 and 2 of a2
    assert webhooks.deliver(house, SEND, "w", delays=(60.0,)) == 0
    with house.write() as connection:
        connection.execute(
            update(tables.delivery).where(tables.delivery.c.event > 0).values(next=1)
        )
    assert webhooks.deliver(house, SEND, "w", delays=(60.0,)) == 3
    told = receiver.told()
    assert sorted(told) == [("a1", 0), ("a1", 1), ("a2", 2)]
    assert told.index(("a1", 0)) < told.index(("a1", 1))


class Died(BaseException):
    """Stands for a kill: nothing of ours catches it."""


def test_what_a_dead_sender_had_is_sent_again_under_its_id(house, receive) -> None:
    receiver = receive(200)
    webhooks.create(house, "ann", receiver.url, ["*"])
    happen(house, 0)
    happen(house, 1)

    def dies(*args: Any) -> Answer:
        SEND(*args)
        raise Died

    spread(house)
    with pytest.raises(Died):
        webhooks.deliver(house, dies, "first", lease=0.3)
    after = Database(house.url)  # the process that comes after
    assert spread(after) == 0
    assert webhooks.deliver(after, SEND, "second") == 0  # the lease runs
    assert finish(after, "second") == 2
    after.close()
    assert receiver.told() == [("a1", 0), ("a1", 0), ("a1", 1)]
    ids = [headers["webhook-id"] for _, headers, _ in receiver.got]
    assert ids[0] == ids[1] != ids[2]


def test_a_sender_that_always_dies_comes_to_an_end(house) -> None:
    name, _ = webhooks.create(house, "ann", "https://example.com/", ["*"])
    happen(house, 0)
    spread(house)

    def dies(*_: Any) -> Answer:
        raise Died

    for _ in range(3):
        with pytest.raises(Died):
            webhooks.deliver(house, dies, "w", delays=(0.0, 0.0), lease=0)
    assert webhooks.deliver(house, dies, "w", delays=(0.0, 0.0), lease=0) == 1
    assert webhooks.deliveries(house, "ann", name)[0].state == "failed"


def test_many_at_once_neither_miss_nor_double(house) -> None:
    """Events are written, spread and delivered by all at once, each with a database of its own."""
    made = [
        webhooks.create(house, "ann", f"https://example.com/{n}", words)[0]
        for n, words in enumerate((["*"], ["job.progress"], ["asset.state"]))
    ]
    sent: list[tuple[str, str, int]] = []
    stop = threading.Event()

    def write(job: str | None) -> None:
        own = Database(house.url)
        for n in range(15):
            happen(own, n, job, "job.progress" if job else "asset.state")
        own.close()

    def send(url: str, body: bytes, headers: Any) -> Answer:
        data = json.loads(body)["data"]
        sent.append((url, data.get("job"), data["n"]))
        return Answer(status=200, text="")

    def work(number: int) -> int:
        own, last = Database(house.url), 0
        while not last:
            last = stop.is_set()
            while spread(own) + webhooks.deliver(own, send, f"w{number}"):
                pass
        own.close()
        return last

    with ThreadPoolExecutor(7) as pool:
        workers = [pool.submit(work, number) for number in range(4)]
        list(pool.map(write, ("a1", "a2", None)))
        stop.set()
        assert all(one.result() for one in workers)
    finish(house, send=send)
    counted = Counter(sent)
    assert set(counted.values()) == {1}
    progress = {(job, n) for job in ("a1", "a2") for n in range(15)}
    asset = {(None, n) for n in range(15)}
    for url, wanted in enumerate((progress | asset, progress, asset)):
        assert {(j, n) for u, j, n in counted if u.endswith(f"/{url}")} == wanted
        for job in ("a1", "a2"):
            of_job = [n for u, j, n in sent if u.endswith(f"/{url}") and j == job]
            assert of_job == sorted(of_job)
    assert [len(webhooks.deliveries(house, "ann", name, 1000)) for name in made] == [45, 30, 15]


def test_who_is_told_what(house, monkeypatch) -> None:
    monkeypatch.setattr(events, "MOST", 2)  # that are read at a time
    happen(house, 0)
    happen(house, 1, "a2")
    url = "https://example.com/"
    asked = {
        name: webhooks.create(house, owner, url, words, job)[0]
        for name, owner, words, job in (
            ("all", "ann", ["*"], None),
            ("one job", "ann", ["*"], "a1"),
            ("ends", "ann", ["job.succeeded", "job.failed"], None),
            ("bob's", "bob", ["*"], None),
        )
    }
    happen(house, 2, kind="job.state", state="running")
    happen(house, 3, kind="job.state", state="succeeded")
    happen(house, 4, "b1", owner="bob")
    assert spread(house) == 3 + 2 + 1 + 1
    assert spread(house) == 0
    happen(house, 5, None, "asset.state")
    assert spread(house) == 1

    def told(name: str, owner: str = "ann") -> list[int]:
        with house.read() as connection:
            rows = connection.execute(
                select(tables.delivery.c.body)
                .where(tables.delivery.c.webhook == asked[name], tables.delivery.c.event > 0)
                .order_by(tables.delivery.c.event)
            ).scalars()
            return [json.loads(body)["data"]["n"] for body in rows]

    assert told("all") == [2, 3, 5]
    assert told("one job") == [0, 2, 3]  # what came before its webhook was made as well
    assert told("ends") == [3]
    assert told("bob's") == [4]


def test_pruning_neither_loses_nor_doubles(house) -> None:
    name, _ = webhooks.create(house, "ann", "https://example.com/", ["*"])
    happen(house, 0)
    spread(house)
    assert finish(house, send=lambda *_: Answer(status=200, text="")) == 1
    happen(house, 1)
    assert webhooks.prune(house, 1 << 60) == 1
    assert spread(house) == 1
    with house.write() as connection:  # events go as well
        connection.execute(delete(tables.event))
    happen(house, 2)
    assert spread(house) == 1
    assert len(webhooks.deliveries(house, "ann", name)) == 2


def test_the_first_waits_and_the_others_wait_longer_and_longer(house) -> None:
    name, _ = webhooks.create(house, "ann", "https://example.com/", ["*"])
    happen(house, 0)
    assert webhooks.spread(house) == 1

    def bad(*_: Any) -> Answer:
        raise Refused("It leads inside.")

    with house.read() as connection:
        at = connection.execute(select(tables.event.c.at)).scalar_one()
    assert webhooks.deliveries(house, "ann", name)[0].next == at + 2 * SECOND
    assert webhooks.deliver(house, bad, "w") == 0
    waits = []
    for _ in range(8):
        with house.write() as connection:
            now = house.now(connection)
            connection.execute(
                update(tables.delivery).where(tables.delivery.c.event > 0).values(next=now)
            )
        assert webhooks.deliver(house, bad, "w") == 1
        one = webhooks.deliveries(house, "ann", name)[0]
        waits.append(round((one.next - now) / SECOND))
    assert waits == [5, 30, 120, 600, 3600, 21_600, 86_400, 0]
    assert (one.state, one.attempts, one.status) == ("failed", 8, None)
    assert str(one.answer).endswith("It leads inside.")
    webhooks.redeliver(house, "ann", name, one.id)
    assert webhooks.deliver(house, lambda *_: Answer(status=204, text=""), "w") == 1
    again = webhooks.deliveries(house, "ann", name)[0]
    assert (again.id, again.state, again.attempts) == (one.id, "sent", 1)


def test_gone_disables(house, receive) -> None:
    receiver = receive(410)
    name, _ = webhooks.create(house, "ann", receiver.url, ["*"])
    happen(house, 0)
    happen(house, 1)
    spread(house)
    assert finish(house) == 1
    assert [one.state for one in webhooks.deliveries(house, "ann", name)] == ["failed"] * 2
    assert webhooks.hooks(house, "ann")[0].disabled == "The receiver answered 410."
    happen(house, 2)
    assert spread(house) == 0
    with pytest.raises(Conflict, match="410"):
        webhooks.test(house, "ann", name)


def test_a_webhook_is_its_owners_alone(house, receive) -> None:
    receiver = receive(200)
    name, secret = webhooks.create(house, "ann", receiver.url, ["*"])
    happen(house, 0)
    spread(house)
    which = webhooks.deliveries(house, "ann", name)[0].id
    assert webhooks.hooks(house, "bob") == []
    other, _ = webhooks.create(house, "bob", "https://example.com", ["*"])
    for call in (
        lambda: webhooks.remove(house, "bob", name),
        lambda: webhooks.deliveries(house, "bob", name),
        lambda: webhooks.test(house, "bob", name),
        lambda: webhooks.redeliver(house, "bob", name, which),
        lambda: webhooks.redeliver(house, "bob", other, which),
        lambda: webhooks.create(house, "bob", "https://example.com", ["*"], job="a1"),
    ):
        with pytest.raises(NotFound):
            call()
    first, second = webhooks.test(house, "ann", name), webhooks.test(house, "ann", name)
    assert finish(house) == 3
    tests = [h for _, h, body in receiver.got if json.loads(body)["type"] == "webhook.test"]
    assert {headers["webhook-id"] for headers in tests} == {first, second}
    assert secret not in repr(webhooks.hooks(house, "ann"))
    webhooks.remove(house, "ann", name)
    assert webhooks.hooks(house, "ann") == []
    assert spread(house) == 0


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_is_no_webhook_is_refused(house) -> None:
    good = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert webhooks.create(house, "ann", "https://example.com/", ["*"], None, good)[1] == good
    for url in ("ftp://example.com", "https://ann:x@example.com", "nonsense"):
        with pytest.raises(Refused):
            webhooks.create(house, "ann", url, ["*"])
    for words, secret in (([], None), (["job state"], None), ([""], None), (["*"], "word"),
                          (["*"], "whsec_c2hvcnQ="), (["*"], "whsec_!")):  # fmt: skip
        with pytest.raises(Usage):
            webhooks.create(house, "ann", "https://example.com/", words, secret=secret)
