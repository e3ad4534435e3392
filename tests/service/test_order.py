"""Who follows rows by their ids passes none over, and nobody waits for anybody."""

from __future__ import annotations

import random
import threading
import time
from contextlib import suppress

import pytest
from sqlalchemy import Connection

from longtake.service import events, job_log
from longtake.service.database import Database
from tests.service.jobs import plain_job, someone


class Undone(Exception):
    """A transaction that is rolled back."""


def test_a_reader_waits_behind_who_is_still_writing(database: Database) -> None:
    """The lower number is committed last: neither is shown before it, then both are."""
    if database.is_sqlite:
        pytest.skip("SQLite has one writer at a time")
    owner = someone(database)
    with database.write() as slow:
        events.append(slow, 1, owner, "first", {})
        began = time.monotonic()
        with database.write() as fast:
            events.append(fast, 2, owner, "second", {})
        assert time.monotonic() - began < 5
        assert events.after(database, 0) == []
        assert events.newest(database) == 0
    assert [told.type for told in events.after(database, 0)] == ["first", "second"]
    assert events.newest(database) == 2


def test_a_failed_writer_leaves_nothing_to_wait_for(database: Database) -> None:
    owner = someone(database)
    with pytest.raises(Undone), database.write() as connection:
        events.append(connection, 1, owner, "gone", {})
        raise Undone
    with database.write() as connection:
        events.append(connection, 2, owner, "there", {})
    assert [told.type for told in events.after(database, 0)] == ["there"]


def test_many_events_of_one_transaction_are_one_registration(database: Database) -> None:
    """PostgreSQL has room for some thousands of locks."""
    owner = someone(database)
    with database.write() as connection:
        for n in range(10_000):
            events.append(connection, 1, owner, "many", {"n": n})
    told, last = [], 0
    while found := events.after(database, last):
        told += [one.data["n"] for one in found]
        last = found[-1].id
    assert told == list(range(10_000))


class Rows:
    """Rows of one kind, of one owner's job."""

    def __init__(self, database: Database, kind: str) -> None:
        self.database, self.kind = database, kind
        self.owner = someone(database)
        self.job = plain_job(database, self.owner, 1)
        self.first = events.newest(database) if kind == "event" else 0
        self.committed: set[str] = set()

    def add(self, connection: Connection, text: str) -> None:
        if self.kind == "event":
            events.append(connection, 1, self.owner, text, {})
        else:
            job_log.append(connection, 1, self.job, [job_log.Line(level="info", text=text)])

    def behind(self, last: int) -> list[tuple[int, str]]:
        if self.kind == "event":
            return [(one.id, one.type) for one in events.after(self.database, last, most=7)]
        found = job_log.after(self.database, self.owner, self.job, last, 7)
        return [(row["id"], row["text"]) for row in found or []]

    def write(self, seed: int) -> None:
        """Linger, overtake others, fail now and then."""
        chance = random.Random(seed)
        for n in range(25):
            with suppress(Undone):
                with self.database.write() as connection:
                    self.add(connection, f"{seed}/{n}")
                    if not self.database.is_sqlite:
                        time.sleep(chance.random() * 0.02)
                    if chance.random() < 0.2:
                        raise Undone
                self.committed.add(f"{seed}/{n}")


@pytest.mark.parametrize("kind", ["event", "job_log"])
def test_followers_see_every_committed_row_once(database: Database, kind: str) -> None:
    rows = Rows(database, kind)
    writers = [threading.Thread(target=rows.write, args=(seed,)) for seed in range(4)]
    for thread in writers:
        thread.start()
    seen: list[tuple[int, str]] = []
    ended = False
    while not ended:
        ended = not any(thread.is_alive() for thread in writers)
        while found := rows.behind(seen[-1][0] if seen else rows.first):
            seen += found
    assert [one for one, _ in seen] == sorted({one for one, _ in seen})
    assert sorted(text for _, text in seen) == sorted(rows.committed)
