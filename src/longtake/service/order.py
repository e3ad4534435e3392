"""Rows that readers follow by their ids: none may appear behind one that was read.

PostgreSQL gives ids before transactions end, so a reader that has seen 8 could miss a 7 that is
committed later. Who writes such rows therefore says so first: a shared advisory lock, held until
its transaction ends, carries the last id that was given before. Readers stop below the oldest of
those. Nobody waits for anybody. SQLite has one writer at a time, whose ids rise with its commits.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, Table, func, select

from longtake.service.database import ENTERED
from longtake.service.tables import event, job_log

_TAG: Final = {event.name: 0x4C54, job_log.name: 0x4C55}  # high 16 bits of the lock's number
_LAST: Final = "CASE WHEN is_called THEN last_value ELSE 0 END"


def enter(connection: Connection, table: Table) -> None:
    """Before rows are inserted, in the same transaction."""
    entered: set[str] = connection.info[ENTERED]
    if connection.dialect.name == "postgresql" and table.name not in entered:
        entered.add(table.name)
        connection.exec_driver_sql(
            f"SELECT pg_advisory_xact_lock_shared({_TAG[table.name] << 48} + {_LAST}) "
            f"FROM {_sequence(table)}"
        )


def settled(connection: Connection, table: Table) -> int:
    """The highest id below which no row can appear any more; rows up to it are to be read by a
    statement after this one."""
    if connection.dialect.name != "postgresql":
        return int(connection.execute(select(func.max(table.c.id))).scalar() or 0)
    # First the last id, then who is writing: who enters in between gets higher ones.
    given = int(connection.exec_driver_sql(f"SELECT {_LAST} FROM {_sequence(table)}").scalar_one())
    oldest = connection.exec_driver_sql(
        "SELECT min(((classid::bigint & 65535) << 32) | objid::bigint) FROM pg_locks "
        "WHERE locktype = 'advisory' AND objsubid = 1 "
        f"AND classid::bigint >> 16 = {_TAG[table.name]} "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    ).scalar()
    return given if oldest is None else min(given, int(oldest))


def _sequence(table: Table) -> str:
    return f"{table.name}_id_seq"
