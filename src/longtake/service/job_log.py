"""The log of a job, for its owner: who had which step, what was noted, and what went wrong.

Workers write it from a thread, as well as it can be done: no step waits for it or fails by it. Its
length is bounded, and what is routine leaves room for warnings.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import Connection, func, insert, select
from sqlalchemy.exc import SQLAlchemyError

from longtake.service import events, order
from longtake.service.database import SECOND, Database, DatabaseAway
from longtake.service.tables import job, job_log
from longtake.service.transitions import Claim

MOST: Final = 2000  # lines of a job
ROUTINE: Final = 1500  # lines after which only warnings and errors are kept
LONGEST: Final = 2000  # characters of a line
_WAITING: Final = 1000  # lines that wait to be written
_PAUSE: Final = 0.5  # s between two batches
_AWAY: Final = 2.0  # s between two attempts while the database is away
_END: Final = 5.0  # s for the last one
_log = logging.getLogger(__name__)

Level = Literal["info", "warning", "error"]
_LEVELS: Final = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    level: Level
    text: str
    number: int | None = None
    """Of the step."""
    fence: int | None = None
    worker: str | None = None
    age: float = 0.0
    """Seconds since it was said."""


def append(connection: Connection, now: int, name: str, lines: Sequence[Line]) -> None:
    """Add to the log of a job, and tell it to who looks on, in the caller's transaction."""
    order.enter(connection, job_log)
    owner = connection.execute(select(job.c.owner).where(job.c.id == name)).scalar()
    if owner is None:
        return
    there = connection.execute(select(func.count()).where(job_log.c.job == name)).scalar_one()
    told = []
    for line in _bounded(there, lines):
        row = {
            "at": now - int(line.age * SECOND), "level": line.level, "worker": line.worker,
            "number": line.number, "fence": line.fence, "text": line.text[:LONGEST],
        }  # fmt: skip
        made = connection.execute(insert(job_log).values(job=name, **row).returning(job_log.c.id))
        told.append({"id": made.scalar_one(), **row})
    if told:
        events.append(connection, now, owner, "job.log", {"lines": told}, name)


def _bounded(there: int, lines: Sequence[Line]) -> list[Line]:
    """Those for which there is room, and a line where the log begins to leave lines out."""
    kept: list[Line] = []
    for line in lines:
        if there > MOST or (there > ROUTINE and line.level == "info"):
            continue
        kept.append(line)
        there += 1
        if there == ROUTINE:
            words = f"{ROUTINE:,} lines: from here on only warnings and errors are kept."
            kept.append(Line(level="warning", text=words))
            there += 1
        elif there == MOST:
            kept.append(Line(level="warning", text=f"{MOST:,} lines: nothing more is kept."))
            there += 1
    return kept


def after(database: Database, owner: str, name: str, last: int, most: int) -> list[Any] | None:
    """Lines of a job behind number `last`, oldest first. None where the owner has no such job."""
    with database.read() as connection:
        own = select(job.c.id).where(job.c.id == name, job.c.owner == owner)
        if connection.execute(own).first() is None:
            return None
        end = order.settled(connection, job_log)
        lines = (job_log.c.job == name, job_log.c.id > last, job_log.c.id <= end)
        wanted = select(job_log).where(*lines)
        return list(connection.execute(wanted.order_by(job_log.c.id).limit(most)).mappings())


@dataclass(frozen=True, slots=True)
class _Said:
    held: Claim
    level: Level
    text: str
    at: float  # s, of the monotonic clock


class JobLog:
    """Takes the lines of a worker, and writes them from a thread while the context lasts."""

    def __init__(self, database: Database, worker: str) -> None:
        self._database, self._worker = database, worker
        self._waiting: deque[_Said] = deque(maxlen=_WAITING)
        self._more, self._ended = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> JobLog:
        self._ended.clear()
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._write,), daemon=True, name="job log"
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._thread is not None
        self._ended.set()
        self._more.set()
        self._thread.join(_END)

    def say(self, held: Claim, level: Level, text: str) -> None:
        """About a step: to the log of its job and to the worker's own."""
        _log.log(_LEVELS[level], "%s", text)
        self._waiting.append(_Said(held, level, text, time.monotonic()))
        self._more.set()

    def _write(self) -> None:
        while not self._ended.is_set():
            self._more.wait()
            self._more.clear()
            while not self._batch() and not self._ended.is_set():
                self._ended.wait(_AWAY)
            self._ended.wait(_PAUSE)
        self._batch()

    def _batch(self) -> bool:
        """Write what waits. False: the database is away, it waits on."""
        said: list[_Said] = []
        while self._waiting:
            said.append(self._waiting.popleft())
        for name in dict.fromkeys(one.held.job for one in said):
            mine = [one for one in said if one.held.job == name]
            try:
                self._put(name, mine)
            except DatabaseAway:
                self._waiting.extendleft(reversed(mine))
                return False
            except SQLAlchemyError as error:  # the job is gone
                _log.warning("%d lines of the log of job %s are lost: %s", len(mine), name, error)
        return True

    def _put(self, name: str, said: Sequence[_Said]) -> None:
        now = time.monotonic()
        lines = [
            Line(level=one.level, text=one.text, number=one.held.number, fence=one.held.fence,
                 worker=self._worker, age=now - one.at)
            for one in said
        ]  # fmt: skip
        with self._database.write() as connection:
            append(connection, self._database.now(connection), name, lines)
