"""Pulls of weights that were asked for over HTTP: at most one a model, each in a child process.

A pull ends when this process does; asked for again, it goes on from what has come.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Literal

from starlette.concurrency import run_in_threadpool

from longtake.core.errors import LongtakeError, Usage
from longtake.core.plugins import names
from longtake.service import events
from longtake.service.audit import noted
from longtake.service.database import Database, DatabaseAway
from longtake.service.jobs import Conflict, NotFound
from longtake.weights import listing
from longtake.weights.catalog import MODELS, Model
from longtake.weights.home import home
from longtake.weights.listing import ModelState
from longtake.weights.pull import Source

Origin = Literal["hf", "modelscope"]
State = Literal["running", "done", "failed", "stopped"]
Tell = Callable[[str, Mapping[str, Any]], int]
"""Writes an event of that kind, and returns its time (microseconds)."""
PROGRAM: Final = (sys.executable, "-m", "longtake.service._pull")
EVERY: Final = 1.0  # s between two events of a pull's progress
_END: Final = 1.5  # s, for pulls to end
_WINDOW: Final = 5.0  # s over which the speed is measured
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """How far a pull is."""

    origin: Origin
    began: int  # microseconds
    state: State = "running"
    file: str | None = None
    received: int = 0  # bytes of this file that are here
    of: int | None = None  # bytes; None: not known
    bytes_per_second: float = 0
    note: str | None = None  # what it does other than receive
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A model of the catalogue, or the one that the package carries."""

    model: ModelState
    engines: tuple[str, ...]  # that are known to use it
    pull: Pull | None
    error: str | None = None  # why its files cannot be told


class Pulls:
    """Pulls of this process. `program` is given the model's name, a folder and an origin."""

    def __init__(
        self, database: Database, program: Sequence[str] = PROGRAM, every: float = EVERY
    ) -> None:
        self._database, self._program, self._every = database, tuple(program), every
        self._known: dict[str, _Child] = {}
        self._lock = threading.Lock()
        self._over = False

    def shown(self) -> list[Shown]:
        """All models, with the state of their files and of their last pull."""
        engines = names("engines")
        found = []
        for model in MODELS.values():
            child, error = self._known.get(model.name), None
            try:
                about = listing.look(model, home() / model.name)
            except (LongtakeError, OSError) as reason:
                about, error = _unreadable(model), str(reason)
            found.append(
                Shown(
                    model=about, engines=tuple(e for e in engines if e == model.family),
                    pull=child.shown() if child is not None else None, error=error,
                )
            )  # fmt: skip
        carried = listing.carried()
        own = tuple(e for e in engines if e == carried.name)
        return [*found, Shown(model=carried, engines=own, pull=None)]

    def start(self, owner: str, name: str, origin: Origin = "hf") -> Pull:
        """Begin a pull, or go on with it; the one that is under way, where there is one. Its events
        are the owner's. Raises NotFound, Usage, Conflict."""
        model = _model(name)
        source = Source.of(origin)
        for file in model.files:
            source.of_file(model, file)
        with self._lock:
            if self._over:
                raise Conflict("The service is ending.")
            known = self._known.get(name)
            if known is None or known.shown().state != "running":
                words = (*self._program, name, str(home() / name), origin)
                tell = partial(self._tell, owner, name)
                known = self._known[name] = _Child(words, origin, tell, self._every)
                noted(self._database, owner, "weights.pull", name)
        return known.shown()

    def stop(self, owner: str, name: str) -> Pull:
        """End a pull, whosever it is; what has come is kept. Nothing happens to one that has ended.
        Raises NotFound."""
        _model(name)
        known = self._known.get(name)
        if known is None:
            raise NotFound(f"A pull of {name}.")
        if known.shown().state == "running":
            noted(self._database, owner, "weights.stop", name)
            known.stop()
            known.wait(_END)
        return known.shown()

    def close(self) -> None:
        """End them all."""
        with self._lock:
            self._over = True
        known = list(self._known.values())
        for child in known:
            child.stop()
        end = time.monotonic() + _END
        for child in known:
            child.wait(max(0.0, end - time.monotonic()))

    def _tell(self, owner: str, name: str, what: str, data: Mapping[str, Any]) -> int:
        """Write an event; returns its time."""
        with self._database.write() as connection:
            now = self._database.now(connection)
            told = {"weights": name, **data}
            events.append(connection, now, owner, f"weights.{what}", told)
        return now

    @asynccontextmanager
    async def running(self, _: object = None) -> AsyncIterator[None]:
        """Ends them all afterwards."""
        try:
            yield
        finally:
            await run_in_threadpool(self.close)


def _model(name: str) -> Model:
    if name == listing.carried().name:
        raise Usage(f"The weights {name} come with longtake: there is nothing to pull.")
    found = MODELS.get(name)
    if found is None:
        raise NotFound(f"Weights {name}; there are {', '.join(MODELS)}.")
    return found


def _unreadable(model: Model) -> ModelState:
    return ModelState(
        name=model.name, about=model.about, where=home() / model.name, state="damaged",
        licences=model.licences, files=(),
    )  # fmt: skip


# --- one pull ------------------------------------------------------------------------------------


class _Child:
    """A process that fetches, and the thread that listens to it."""

    def __init__(self, words: Sequence[str], origin: Origin, tell: Tell, every: float) -> None:
        self._tell, self._every = tell, every
        self._lock = threading.Lock()
        self._speed = _Speed()
        self._told = 0.0
        self._stopped = False
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        try:
            self._now = Pull(origin=origin, began=tell("state", {"state": "running"}))
        except BaseException:
            self._process.kill()
            self._process.communicate()
            raise
        self._thread = threading.Thread(target=self._follow, daemon=True, name="weights")
        self._thread.start()

    def shown(self) -> Pull:
        with self._lock:
            speed = self._speed.now() if self._now.state == "running" else 0.0
            return replace(self._now, bytes_per_second=speed)

    def stop(self) -> None:
        self._stopped = True
        self._process.kill()

    def wait(self, seconds: float) -> None:
        self._thread.join(seconds)

    def _follow(self) -> None:
        try:
            with self._process as process:
                assert process.stdout is not None
                for line in process.stdout:
                    if line.endswith("\n"):  # else it was killed while it spoke
                        self._hear(json.loads(line))
        finally:
            self._end(self._process.returncode)

    def _hear(self, event: Mapping[str, Any]) -> None:
        with self._lock:
            self._now = replace(self._now, **_changes(event))
            if event["is"] in ("Begun", "Received"):
                self._speed.add(self._now.received, anew=event["is"] == "Begun")
        if time.monotonic() - self._told >= self._every and self._now.error is None:
            self._told = time.monotonic()
            now = self.shown()
            self._try_to_tell("progress", {
                "file": now.file, "received": now.received, "of": now.of,
                "bytes_per_second": now.bytes_per_second, "note": now.note,
            })  # fmt: skip

    def _end(self, code: int | None) -> None:
        state: State = "done" if code == 0 else "stopped" if self._stopped else "failed"
        error = self._now.error
        if state == "failed" and error is None:
            error = f"The process that fetches them ended with {code}. What has come is kept."
        with self._lock:
            self._now = replace(self._now, state=state, note=None, error=error)
        self._try_to_tell("state", {"state": state, "error": error})

    def _try_to_tell(self, what: str, data: Mapping[str, Any]) -> None:
        try:
            self._tell(what, data)
        except DatabaseAway as away:
            _log.warning("a pull of weights goes on untold: %s", away)


def _changes(event: Mapping[str, Any]) -> dict[str, Any]:
    """What an event of the child changes in what is shown."""
    match event["is"]:
        case "Begun":
            return {"file": event["file"], "received": event["bytes"], "of": event["of"],
                    "note": None}  # fmt: skip
        case "Received":
            return {"received": event["bytes"], "of": event["of"], "note": None}
        case "Hashing":
            return {"file": event["file"], "received": event["bytes"], "of": event["bytes"],
                    "note": "its sha256 is read"}  # fmt: skip
        case "Retried":
            again = f"{event['reason']}; tried again in {event['seconds']:.0f} s"
            return {"received": event["bytes"], "note": again}
        case "Damaged":
            return {"received": 0, "note": f"{event['reason']}: it is fetched again"}
        case "Waiting":
            return {"note": "another process pulls it: its end is waited for"}
        case "Failed":
            return {"error": event["error"]}
    return {}  # Stored: the next one begins


class _Speed:
    """Bytes a second, over the last seconds; not for two threads at once."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, received: int, *, anew: bool) -> None:
        if anew:
            self._seen.clear()
        self._seen.append((time.monotonic(), received))
        self._forget()

    def now(self) -> float:
        self._forget()
        if not self._seen:
            return 0.0
        began, before = self._seen[0]
        seconds = time.monotonic() - began
        return max(0, self._seen[-1][1] - before) / seconds if seconds > 0 else 0.0

    def _forget(self) -> None:
        while self._seen and time.monotonic() - self._seen[0][0] > _WINDOW:
            self._seen.popleft()
