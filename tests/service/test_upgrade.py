"""Tables: from nothing and from every revision, on both databases; a newer one is refused."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, insert, select, text
from sqlalchemy.exc import IntegrityError

from longtake.core.errors import Usage
from longtake.core.plain import from_plain
from longtake.core.task import Generate, Upscale
from longtake.service import tables
from longtake.service.database import Database, DatabaseAway
from longtake.service.upgrade import (
    OtherSchema,
    _config,
    check,
    copy,
    newest,
    revision,
    upgrade,
)

TASK = {"is": "Upscale", "source": "a.mp4", "target": "b.mp4", "preset": "slow"}
RENAMED = {k: v for k, v in TASK.items() if k != "preset"} | {"effort": "slow"}
WORDS = {"is": "Generate", "prompt": "a cat \u732b\nwalks", "target": "cat.mkv"}
ROWS: dict[str, dict[str, Any]] = {
    "user_account": {"id": "u", "name": "ann", "role": "admin", "quota_jobs": 3, "created": 1},
    "api_token": {"id": "t", "owner": "u", "name": "t", "prefix": "p", "sha256": "s",
                  "scopes": "admin", "created": 1},
    "asset": {"id": "a", "owner": "u", "kind": "source", "state": "ready", "name": "n",
              "bytes": 5_000_000_000, "created": 1},
    "upload": {"id": "l", "owner": "u", "asset": "a", "length": 9, "received": 4, "about": "",
               "created": 1, "expires": 2},
    "job": {"id": "j", "owner": "u", "kind": "upscale", "asset": "a", "task": json.dumps(TASK),
            "limits": "{}", "state": "running", "created": 1},
    "step": {"job": "j", "number": 0, "kind": "segment", "queue": "cpu", "state": "leased",
             "fence": 7, "lease": 9, "not_before": 1},
    "attempt": {"job": "j", "number": 0, "fence": 7, "worker": "w", "began": 1},
    "event": {"id": 41, "owner": "u", "job": "j", "type": "job", "data": "{}", "at": 1},
    "worker": {"id": "w", "host": "h", "pid": 1, "device": "cpu", "queues": "cpu", "version": "1",
               "state": "busy", "began": 1, "beat": 2},
    "webhook": {"id": "h", "owner": "u", "url": "https://a", "secret": "s", "events": "*",
                "created": 1},
    "webhook_delivery": {"id": "d", "webhook": "h", "event": 41, "type": "job", "body": "{}",
                         "next": 1, "created": 1},
    "idempotency": {"owner": "u", "key": "k", "sha256": "s", "at": 1},
    "audit": {"id": 3, "actor": "u", "action": "user.add", "object": "u", "at": 1},
    "preset": {"id": "p", "owner": "u", "name": "mine", "kind": "upscale", "params": "{}",
               "created": 1},
    "usage": {"owner": "u", "month": "2026-11", "device_time": 5_000_000_000},
    "job_log": {"id": 8, "job": "j", "at": 1, "level": "info", "text": "done"},
    "paused_queue": {"queue": "gpu", "at": 1},
}  # fmt: skip
"""One of each table, with the columns that its first revision had."""


def revisions() -> list[str]:
    """All that were ever committed but the newest, oldest first."""
    walked = ScriptDirectory.from_config(_config()).walk_revisions()
    return [script.revision for script in walked][:0:-1]


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        made = Database(f"sqlite:///{tmp_path / 'old.db'}")
    else:
        server = request.getfixturevalue("postgres")
        made = Database(server.make(f"old{uuid.uuid4().hex}"))
    yield made
    made.close()


def filled(database: Database, old: str) -> MetaData:
    """The tables that it has, with a row in each."""
    found = MetaData()
    task = TASK if old == "0001" else RENAMED
    with database.write() as connection:
        found.reflect(connection)
        for table in found.sorted_tables:
            if table.name in ROWS:
                values = dict(ROWS[table.name])
                if table.name == "job":
                    values["task"] = json.dumps(task)
                connection.execute(insert(table).values(**values))
    return found


def rows(database: Database, found: MetaData) -> dict[str, dict[str, Any]]:
    with database.read() as connection:
        return {
            table.name: dict(connection.execute(select(table)).mappings().one())
            for table in found.sorted_tables
            if table.name in ROWS
        }


def renamed(before: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return before | {"job": before["job"] | {"task": json.dumps(RENAMED)}}


def someone(database: Database, name: str = "ann") -> None:
    with database.write() as connection:
        now = database.now(connection)
        connection.execute(insert(tables.user).values(id=name, name=name, created=now))


def test_tables_are_those_of_the_code(database) -> None:
    assert revision(database) == newest()
    check(database)
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []
    assert upgrade(database) == newest()


def test_an_empty_one_says_what_to_run(tmp_path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'new.db'}")
    with pytest.raises(OtherSchema, match="longtake db upgrade"):
        check(database)
    assert upgrade(database) is None
    check(database)


def test_there_is_a_row_for_every_table() -> None:
    assert set(ROWS) == set(tables.metadata.tables)


@pytest.mark.parametrize("old", revisions())
def test_rows_of_every_revision_are_kept(empty, old) -> None:
    upgrade(empty, old)
    assert revision(empty) == old
    found = filled(empty, old)
    before = rows(empty, found)
    with pytest.raises(OtherSchema, match=f"has revision {old}, {newest()} is needed.*db upgrade"):
        check(empty)
    assert upgrade(empty) == old
    after = rows(empty, found)
    assert after == renamed(before)
    assert from_plain(Upscale, json.loads(after["job"]["task"])).effort == "slow"
    with empty.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []
    with empty.write() as connection:  # and back
        config = _config()
        config.attributes["connection"] = connection
        command.downgrade(config, old)
    assert rows(empty, found) == before
    assert upgrade(empty) == old
    assert rows(empty, found) == after


def generated(database: Database, **about: Any) -> None:
    with database.write() as connection:
        values = {**ROWS["job"], "id": "g", "asset": None, "task": json.dumps(WORDS), **about}
        connection.execute(insert(tables.job).values(values))


@pytest.mark.parametrize("old", [None, *revisions()])
def test_films_from_words_are_a_kind_of_jobs_since_0003(empty, old) -> None:
    """And a database that holds one is not taken back to where there were none."""
    if old is not None:
        upgrade(empty, old)
        filled(empty, old)
    upgrade(empty)
    if old is None:
        someone(empty, "u")
    with pytest.raises(IntegrityError):
        generated(empty, kind="paint")
    generated(empty, kind="generate")
    with empty.write() as connection:
        mine = {"id": "q", "owner": "u", "name": "words", "params": "{}", "created": 1}
        connection.execute(insert(tables.preset).values(**mine, kind="generate"))
    if empty.is_sqlite:
        with empty.read() as connection:
            assert connection.execute(text("PRAGMA integrity_check")).scalars().all() == ["ok"]
            assert connection.execute(text("PRAGMA foreign_key_check")).all() == []
    with (
        pytest.raises((ValueError, IntegrityError, DatabaseAway)),
        empty.write() as connection,
    ):
        config = _config()
        config.attributes["connection"] = connection
        command.downgrade(config, "0002")
    assert revision(empty) == newest()
    with empty.read() as connection:
        kept = connection.execute(select(tables.job.c.task).where(tables.job.c.id == "g"))
        assert from_plain(Generate, json.loads(kept.scalar_one())).prompt == WORDS["prompt"]


def test_the_backup_is_the_database_as_it_was(tmp_path) -> None:
    path, old = tmp_path / "service.db", revisions()[-1]
    database = Database(f"sqlite:///{path}")
    upgrade(database, old)
    found = filled(database, old)
    before = rows(database, found)
    upgrade(database)
    someone(database, "bob")  # later work
    database.close()
    backup = tmp_path / f"service.db.{old}.backup"
    assert backup.stat().st_mode & 0o077 == 0, "others may read the secrets in it"
    for name in ("service.db-wal", "service.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    backup.replace(path)
    restored = Database(f"sqlite:///{path}")
    assert revision(restored) == old
    assert rows(restored, found) == before
    assert upgrade(restored) == old
    restored.close()
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_worker_does_not_start_on_older_or_newer_tables(tmp_path) -> None:
    url = f"sqlite:///{tmp_path / 'service.db'}"
    database = Database(url)
    upgrade(database, revisions()[-1])
    for words in ("Run: longtake db upgrade", "made by a newer one"):
        ended = subprocess.run(
            [sys.executable, "-m", "longtake", "worker", "--device", "cpu", "--until-empty"],
            env={"LONGTAKE_DB": url, "LONGTAKE_DATA": str(tmp_path), "PATH": ""},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ended.returncode == 2
        assert words in ended.stderr
        assert "Traceback" not in ended.stderr
        with database.write() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = 'later'"))
    database.close()


def test_a_newer_one_is_refused(database) -> None:
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'from-the-future'"))
    for ask in (check, upgrade):
        with pytest.raises(OtherSchema, match="newer"):
            ask(database)


def test_a_copy_has_all_rows_and_counts_on(database, tmp_path) -> None:
    source = Database(f"sqlite:///{tmp_path / 'source.db'}")
    upgrade(source)
    someone(source)
    generated(source, kind="generate", owner="ann")
    with source.write() as connection:
        for _ in range(3):
            connection.execute(
                insert(tables.event).values(owner="ann", type="job", data="{}", at=1)
            )
    assert copy(source, database) == 5
    with database.read() as connection:
        assert connection.execute(select(tables.job.c.task)).scalar_one() == json.dumps(WORDS)
    with database.write() as connection:
        connection.execute(insert(tables.event).values(owner="ann", type="job", data="{}", at=2))
        ids = connection.execute(select(tables.event.c.id).order_by("id")).scalars().all()
    assert ids == [1, 2, 3, 4]
    with pytest.raises(Usage, match="empty database"):
        copy(source, database)


def test_states_and_names_are_checked_by_the_database(database) -> None:
    someone(database)
    with pytest.raises(IntegrityError), database.write() as connection:
        connection.execute(
            insert(tables.asset).values(
                id="a", owner="ann", kind="source", state="odd", name="a", created=1
            )
        )
    with pytest.raises(IntegrityError):
        someone(database)


def test_a_transaction_is_whole_or_not_at_all(database) -> None:
    with pytest.raises(ZeroDivisionError), database.write() as connection:
        connection.execute(insert(tables.user).values(id="b", name="b", created=1))
        raise ZeroDivisionError
    with database.read() as connection:
        assert connection.execute(select(tables.user)).all() == []


def test_the_clock_is_the_database_s(database) -> None:
    import time

    with database.read() as connection:
        assert abs(database.now(connection) / 1e6 - time.time()) < 5
