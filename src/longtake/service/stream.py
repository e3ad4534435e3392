"""Events as they happen, to pages and scripts: Server-Sent Events.

One reader a process follows the table and hands what is new to all streams, in memory; a stream
that begins further back reads its own way up to there first. The number of an event is its id, so
whoever comes back with `Last-Event-ID` misses nothing. A stream whose client is too slow is cut,
and so is every stream after some minutes, because a token may have been revoked meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Annotated, Final, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, Header, Query
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Message, Send

from longtake.service.auth import Caller, needs
from longtake.service.database import Database, DatabaseAway
from longtake.service.events import MOST, Told, after, newest
from longtake.service.problems import RETRY, Problem
from longtake.service.routes.happenings import Event
from longtake.service.routes.shapes import HIGHEST, Name
from longtake.service.tables import job as jobs

T = TypeVar("T")
_AWAY: Final = 1.0  # s, until a database that is away is asked again
_STREAMS: Final = 1000  # of a process
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds, and how many events may wait for a slow client."""

    look: float = 0.2
    ping: float = 15.0
    patience: float = 20.0
    """Until a client that takes nothing is given up."""
    life: float = 600.0
    waiting: int = 1000


@dataclass(slots=True, eq=False)
class _Reader:
    """One stream's share of what happens."""

    owner: str
    job: str | None
    since: int
    """Events behind this number are handed over; the others it must read."""
    most: int
    bell: asyncio.Event = field(default_factory=asyncio.Event)
    events: list[tuple[int, bytes]] = field(default_factory=list)
    over: bool = False

    def give(self, told: Told, text: bytes) -> None:
        if told.owner != self.owner or self.job not in (None, told.job):
            return
        if len(self.events) >= self.most:
            self.events.clear()  # what follows must not come before what was dropped
            self.over = True
        if not self.over:
            self.events.append((told.id, text))
        self.bell.set()

    async def take(self, seconds: float) -> list[tuple[int, bytes]]:
        """What has come; empty after that many seconds without anything."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.bell.wait()
        self.bell.clear()
        taken, self.events = self.events, []
        return taken


class Tailer:
    """Follows the table of events and feeds the streams. Lives in one event loop."""

    def __init__(self, database: Database, pace: Pace | None = None) -> None:
        self.pace = pace or Pace()
        self.last: int | None = None
        """Number of the last event that was handed over; None before the first look."""
        self._database = database
        self._readers: set[_Reader] = set()
        self._bell = asyncio.Event()
        self._started = asyncio.Event()
        self._over = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: CapacityLimiter | None = None

    @property
    def streams(self) -> int:
        return len(self._readers)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follows the table meanwhile."""
        self._loop, self._thread = asyncio.get_running_loop(), CapacityLimiter(1)
        task = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            self.end()
            await task
            self._loop = None

    def wake(self) -> None:
        """Look now: something was written. From any thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has just ended
                self._loop.call_soon_threadsafe(self._bell.set)

    def end(self) -> None:
        """End all streams, once they have told what they hold: a server that ends waits for them.
        To be called in the event loop."""
        self._over = True
        self._bell.set()
        for reader in self._readers:
            reader.over = True
            reader.bell.set()

    async def stream(self, owner: str, job: str | None, last: int | None) -> AsyncGenerator[bytes]:
        """Events of an owner behind number `last` (None: from now on), as the client reads them."""
        reader = await self._join(owner, job)
        try:
            sent = await self._begin(reader.since, last)
            yield f"retry: 1000\nid: {sent}\n\n".encode()
            while sent < reader.since:
                missed = await run_in_threadpool(after, self._database, sent, owner=owner, job=job)
                told = [one for one in missed if one.id <= reader.since]
                sent = told[-1].id if told and len(missed) == MOST else reader.since
                if told:
                    yield b"".join(_text(one) for one in told)
            async for number, text in self._live(reader, sent):
                sent = number
                yield text
        except DatabaseAway:
            _log.warning("a stream of events ends: the database is away")
        finally:
            self._readers.discard(reader)

    async def _live(self, reader: _Reader, sent: int) -> AsyncIterator[tuple[int, bytes]]:
        clock = asyncio.get_running_loop().time
        end = clock() + self.pace.life
        while clock() < end:
            taken = await reader.take(min(self.pace.ping, max(0.0, end - clock())))
            new = [(number, text) for number, text in taken if number > sent]
            if new:
                sent = new[-1][0]
                yield sent, b"".join(text for _, text in new)
            if reader.over:
                return
            if not taken and not reader.events:  # all up to here has been sent or is not theirs
                sent = max(sent, self.last or 0)
                yield sent, f": ping\nid: {sent}\n\n".encode()

    async def _join(self, owner: str, job: str | None) -> _Reader:
        with suppress(TimeoutError):
            async with asyncio.timeout(RETRY if self._loop is not None else 0):
                await self._started.wait()
        if self.last is None or self._over or self.streams >= _STREAMS:
            raise Problem(
                503, detail=f"Events cannot be followed now. Try again in {RETRY} seconds.",
                headers={"Retry-After": str(RETRY)},
            )  # fmt: skip
        reader = _Reader(owner, job, self.last, self.pace.waiting)
        self._readers.add(reader)
        return reader

    async def _begin(self, since: int, last: int | None) -> int:
        if last is None or last <= since:
            return since if last is None else last
        # Another process was quicker, or this number is of another database.
        return min(last, await run_in_threadpool(newest, self._database))

    async def _follow(self) -> None:
        while not self._over:
            try:
                full = await self._look()
            except (DatabaseAway, SQLAlchemyError) as away:
                _log.warning("events cannot be read: %s", away)
                await self._rest(_AWAY)
                continue
            if not full:
                await self._rest(self.pace.look)

    async def _look(self) -> bool:
        """Hands over what is new; True where there is more."""
        if self.last is None:
            self.last = await self._apart(lambda: newest(self._database))
            self._started.set()
            return False
        last = self.last
        told = await self._apart(lambda: after(self._database, last))
        for one in told:
            text = _text(one)
            for reader in self._readers:
                reader.give(one, text)
            self.last = one.id
        return len(told) == MOST

    async def _apart(self, work: Callable[[], T]) -> T:
        return await to_thread.run_sync(work, limiter=self._thread)

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._bell.wait()
        if not self._over:
            self._bell.clear()


class EventStream(StreamingResponse):
    """Gives up a client that takes nothing."""

    media_type = "text/event-stream"

    def __init__(self, texts: AsyncGenerator[bytes], patience: float) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(texts, headers=headers)
        self._texts = texts
        self._patience = patience

    async def stream_response(self, send: Send) -> None:
        async def patient(message: Message) -> None:
            async with asyncio.timeout(self._patience):
                await send(message)

        async with aclosing(self._texts):
            try:
                await super().stream_response(patient)
            except TimeoutError:
                _log.info("a stream of events was cut: its client was too slow")


def router(tailer: Tailer, database: Database) -> APIRouter:
    """The route of the stream."""
    made = APIRouter(tags=["events"])

    @made.get(
        "/events",
        status_code=200,
        response_class=EventStream,
        responses={200: {"model": Event, "description": "Events; `data` of each is one of these"}},
    )
    async def stream_events(
        caller: Annotated[Caller, Depends(needs("jobs:read"))],
        job: Name | None = None,
        last: Annotated[int | None, Query(ge=0, le=HIGHEST)] = None,
        last_event_id: Annotated[int | None, Header(ge=0, le=HIGHEST)] = None,
    ) -> EventStream:
        """What happens to the caller's jobs, or to one of them, behind event `last`.

        `Last-Event-ID`, which browsers send when they come back, stands over `last`.
        """
        if job is not None:
            await run_in_threadpool(_must_own, database, caller.owner, job)
        begin = last if last_event_id is None else last_event_id
        texts = tailer.stream(caller.owner, job, begin)
        return EventStream(await _started(texts), tailer.pace.patience)

    return made


async def _started(texts: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """The same texts; what is wrong at the beginning is raised here, while it can be answered."""
    first = await anext(texts)

    async def all_of_them() -> AsyncGenerator[bytes]:
        async with aclosing(texts):
            yield first
            async for text in texts:
                yield text

    return all_of_them()


def _must_own(database: Database, owner: str, job: str) -> None:
    wanted = select(jobs.c.id).where(jobs.c.id == job, jobs.c.owner == owner)
    with database.read() as connection:
        if connection.execute(wanted).scalar() is None:
            raise Problem(404, detail=f"There is no job {job}.")


def _text(told: Told) -> bytes:
    data = {"type": told.type, "job": told.job, "at": told.at, "data": told.data}
    return f"id: {told.id}\nevent: {told.type}\ndata: {json.dumps(data)}\n\n".encode()
