"""Databases of their own: SQLite in a file, PostgreSQL started in a temporary folder."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from longtake.service.database import Database
from longtake.service.upgrade import upgrade

_PLACES = ("/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin")


@pytest.fixture(autouse=True, scope="session")
def any_disk() -> Iterator[None]:
    """Workers begin however little of this machine's disk is free; test_disk.py says otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LONGTAKE_LOW_WATER", "0")
        yield


@dataclass(slots=True)
class Postgres:
    """A server of its own, that a test may kill."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    def url(self, name: str) -> str:
        return f"postgresql://longtake@127.0.0.1:{self.port}/{name}"

    def make(self, name: str, template: str = "template1") -> str:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                    sql.Identifier(name), sql.Identifier(template)
                )
            )
        return self.url(name)


def _programs() -> Path | None:
    for place in _PLACES:
        for folder in sorted(Path("/").glob(place.lstrip("/"))):
            if (folder / "initdb").exists():
                return folder
    found = shutil.which("initdb")
    return Path(found).parent if found else None


def start_postgres(folder: Path, port: int | None = None, fsync: str = "off") -> Postgres:
    """A new server in the folder, or the one that was there, on the same port. Without `fsync`:
    processes are killed here, and never the machine."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    who = "postgres" if os.getuid() == 0 else None  # it refuses to run as root
    data = folder / "data"
    if not data.exists():
        folder.mkdir(parents=True, exist_ok=True)
        if who:
            shutil.chown(folder, who)
        for parent in folder.parents:  # temporary folders are closed to other users
            if who and parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o011)
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "longtake", "-A", "trust", "--no-sync",
             "-E", "UTF8", "--locale=C"],
            check=True, stdout=subprocess.DEVNULL, user=who, cwd="/",
        )  # fmt: skip
    port = port or _free_port()
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [programs / "postgres", "-D", data, "-p", str(port), "-k", folder,
             "-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200",
             "-c", f"fsync={fsync}"],
            stdout=subprocess.DEVNULL, stderr=log, user=who, cwd="/",
        )  # fmt: skip
    server = Postgres(folder, port, process)
    _wait(server)
    return server


def _wait(server: Postgres) -> None:
    for _ in range(600):
        try:
            with psycopg.connect(server.url("postgres")):
                return
        except psycopg.OperationalError:
            time.sleep(0.1)
    server.process.kill()
    server.process.wait()
    raise RuntimeError((server.folder / "log").read_text()[-3000:])


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    # Not among pytest's folders: another run of pytest closes them to other users.
    with tempfile.TemporaryDirectory(prefix="longtake-postgres-") as folder:
        server = start_postgres(Path(folder))
        database = Database(server.make("pattern"))
        upgrade(database)
        database.close()
        yield server
        server.process.kill()
        server.process.wait()


@pytest.fixture(scope="session")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with all tables."""
    path = tmp_path_factory.mktemp("sqlite") / "pattern.db"
    database = Database(f"sqlite:///{path}")
    upgrade(database)
    database.close()
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty one with all tables, of each kind."""
    if request.param == "sqlite":
        path = tmp_path / "service.db"
        shutil.copy(request.getfixturevalue("pattern"), path)
        made = Database(f"sqlite:///{path}")
    else:
        server: Postgres = request.getfixturevalue("postgres")
        made = Database(server.make(f"test{uuid.uuid4().hex}", "pattern"))
    yield made
    made.close()
