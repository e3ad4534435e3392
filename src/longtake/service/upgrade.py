"""The tables of a database: brought up to date, compared with this version's, moved elsewhere."""

from __future__ import annotations

import sqlite3
from functools import cache
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, insert, select, text

from longtake.core.errors import LongtakeError, Usage
from longtake.service.database import Database
from longtake.service.tables import metadata

_FOLDER: Final = Path(__file__).parent / "migrations"
_LOCK: Final = 7_266_231_853_001_001  # of PostgreSQL: two processes may start at once
_PORTION: Final = 500  # rows


class OtherSchema(LongtakeError):
    """The database is of another version of longtake."""

    exit_code = 2


def upgrade(database: Database, to: str = "head") -> str | None:
    """Bring the tables up to date, a copy of an SQLite file being kept beside it where it held any.
    `to`: an older revision, of an empty database only. Returns the revision that it had, None for
    an empty one. Raises OtherSchema for a newer one."""
    before = revision(database)
    if before == newest():
        return before
    _known(before)
    if before is not None:
        _backup(database, before)
    with database.write() as connection:
        if not database.is_sqlite:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, to)
    return before


def check(database: Database) -> None:
    """Raises OtherSchema unless the tables are those of this version."""
    found = revision(database)
    if found != newest():
        _known(found)
        has = f"has revision {found}" if found else "is empty"
        raise OtherSchema(f"It {has}, {newest()} is needed. Run: longtake db upgrade")


def revision(database: Database) -> str | None:
    """What the database has, None where it is empty."""
    with database.read() as connection:
        return MigrationContext.configure(connection).get_current_revision()


@cache
def newest() -> str:
    """The revision of this version."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


def copy(source: Database, target: Database) -> int:
    """All rows of one database into another, which must be empty, in one transaction. Both are at
    rest meanwhile. Returns the number of rows."""
    check(source)
    upgrade(target)
    rows = 0
    with source.read() as reading, target.write() as writing:
        for table in metadata.sorted_tables:
            if writing.execute(select(func.count()).select_from(table)).scalar_one():
                raise Usage(f"{table.name} of the target holds rows; copy into an empty database.")
        for table in metadata.sorted_tables:
            for portion in reading.execute(select(table)).mappings().partitions(_PORTION):
                writing.execute(insert(table), [dict(row) for row in portion])
                rows += len(portion)
        _count_on(target, writing)
    return rows


def _count_on(target: Database, connection: Connection) -> None:
    """PostgreSQL's counters go on behind the ids that were copied."""
    if target.is_sqlite:
        return
    for name in ("event", "audit", "job_log"):
        connection.execute(text(
            f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), "
            f"(SELECT COALESCE(MAX(id), 0) + 1 FROM {name}), false)"
        ))  # fmt: skip


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    return config


def _known(found: str | None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if found is not None and found not in known:
        raise OtherSchema(
            f"It has revision {found}, which this version does not know: it was made by a newer "
            f"one. Install that, or restore a backup."
        )


def _backup(database: Database, before: str) -> None:
    path = database.engine.url.database
    if not database.is_sqlite or not path:
        return
    with sqlite3.connect(path) as raw:
        target = Path(f"{path}.{before}.backup")
        target.unlink(missing_ok=True)
        target.touch(mode=0o600)
        raw.execute("VACUUM INTO ?", (str(target),))
