"""One way to speak to both databases: transactions that write, transactions that read, one clock.

SQLite is in WAL mode with `synchronous=FULL`: what is committed survives a power cut. A transaction
that writes takes the lock at its beginning, because one that is upgraded later may be refused.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError

from longtake.core.errors import LongtakeError, Usage

SECOND: Final = 1_000_000
ENTERED: Final = "entered"  # in a connection's info: see `order`
_PATIENCE: Final = 30.0  # s, for others who write to SQLite
_LOOK: Final = 0.001
_NETWORKED: Final = {"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "fuse.glusterfs"}
_CLOCK: Final = {
    "sqlite": "SELECT CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)",
    "postgresql": "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)",
}


class DatabaseAway(LongtakeError):
    """The database cannot be reached."""


class Database:
    """Connections to one database, from any thread. `url`: sqlite:///PATH or postgresql://..."""

    def __init__(self, url: str) -> None:
        self.url = _driver(url)
        # As many connections as there are threads; a few are kept, because closing SQLite's last
        # one empties its log to the disk.
        self.engine: Engine = create_engine(
            self.url, max_overflow=-1, pool_pre_ping=not self.url.startswith("sqlite")
        )
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        if self.is_sqlite:
            _prepare_sqlite(self.engine)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may write: all of it or nothing. Raises DatabaseAway."""
        with self._connection() as connection, connection.begin():
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with self._connection(reads=True) as connection, connection.begin():
            yield connection

    @contextmanager
    def _connection(self, reads: bool = False) -> Iterator[Connection]:
        try:
            with self.engine.connect() as connection:
                connection.info["reads"] = reads
                connection.info[ENTERED] = set()
                yield connection
        except OperationalError as error:
            raise DatabaseAway(f"{_first_line(error)}") from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise DatabaseAway(f"{_first_line(error)}") from error
            raise

    def now(self, connection: Connection) -> int:
        """Microseconds since 1970 by the database's clock."""
        clock = _CLOCK[self.engine.dialect.name]
        return int(connection.exec_driver_sql(clock).scalar_one())

    def close(self) -> None:
        self.engine.dispose()


def _driver(url: str) -> str:
    if url.startswith(("postgresql://", "postgres://")):
        return "postgresql+psycopg://" + url.partition("://")[2]
    if url.startswith(("postgresql+psycopg://", "sqlite:///")):
        return url
    raise Usage(f"{url.partition('://')[0]}: give sqlite:///PATH or postgresql://USER@HOST/NAME.")


def _prepare_sqlite(engine: Engine) -> None:
    path = Path(str(engine.url.database)).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = _file_system(path.parent)
    if kind in _NETWORKED:
        raise Usage(f"{path} lies on {kind}, where SQLite loses data; use a local disk.")

    @event.listens_for(engine, "connect")
    def _connected(raw: Any, _: Any) -> None:
        raw.isolation_level = None  # transactions are begun below
        wait = f"busy_timeout={_PATIENCE * 1000:.0f}"
        for pragma in (wait, "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            raw.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        if connection.info.get("reads", False):
            connection.exec_driver_sql("BEGIN")
        else:
            _begin_alone(connection)


def _begin_alone(connection: Connection) -> None:
    """Take the lock of the one who writes. SQLite's own waiting sleeps the longer the longer it has
    waited, up to 100 ms, so that who comes last is served first and the lock lies idle."""
    end = time.monotonic() + _PATIENCE
    connection.exec_driver_sql("PRAGMA busy_timeout=0")
    try:
        while True:
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                return
            except OperationalError as error:
                busy = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() > end:
                    raise
            time.sleep(_LOOK)
    finally:
        connection.exec_driver_sql(f"PRAGMA busy_timeout={_PATIENCE * 1000:.0f}")


def _file_system(folder: Path) -> str:
    """Of the mount that holds the folder; "" where the system does not say."""
    best, kind = "", ""
    try:
        lines = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    for line in lines:
        _, where, name, *_ = line.split(" ")
        inside = str(folder) == where or str(folder).startswith(where.rstrip("/") + "/")
        if inside and len(where) >= len(best):
            best, kind = where, name
    return kind


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", error)).strip().splitlines()[0]
