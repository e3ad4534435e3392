"""The lease of a step while a worker has it: renewed as long as the work advances."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any, Final

from longtake.core.errors import LongtakeError
from longtake.core.media import Clip
from longtake.core.ports import Upscaler
from longtake.service import queue
from longtake.service.database import SECOND, Database, DatabaseAway
from longtake.service.queue import Sampler
from longtake.service.transitions import Claim, LeaseLost

STALLED: Final = 120.0  # s without an advance
_SURE: Final = 0.5  # s of work before its speed is told
_log = logging.getLogger(__name__)


class Stopped(LongtakeError):
    """The step was told to stop."""


@dataclass(slots=True, kw_only=True)
class Beating:
    """Renews the lease of a step from a thread, as long as the step advances."""

    database: Database
    held: Claim
    lease: float
    draining: threading.Event
    stalled: float = STALLED
    frames: int = 0
    wish: str = "run"
    lost: bool = False
    _sampler: Sampler | None = None  # that was not told yet
    _step: tuple[float, int] | None = None  # when the first one was taken, and its number
    _moved: float = field(default_factory=time.monotonic)
    _first: tuple[float, int] | None = None  # when frames came first, and how many
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Beating:
        work = copy_context().run
        self._thread = threading.Thread(target=work, args=(self._beat,), daemon=True, name="lease")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        assert self._thread is not None
        self._thread.join()

    def tick(self, frames: int | None = None) -> None:
        """The step advances. Raises LeaseLost, or Stopped where it shall stop."""
        self._moved = time.monotonic()
        if frames is not None:
            self.frames = frames
            if self._first is None and frames:
                self._first = self._moved, frames
        if self.lost:
            raise LeaseLost(f"Step {self.held.number} of {self.held.job}.")
        if self.wish != "run" or self.draining.is_set():
            raise Stopped

    def sampled(self, done: int, of: int) -> None:
        """A tick: so many steps of the sampler are taken."""
        self.tick()
        first, before = self._step = self._step or (self._moved, done)
        took = int((self._moved - first) / (done - before) * SECOND) if done > before else None
        self._sampler = Sampler(done=done, of=of, step_time=took)

    @contextmanager
    def patient(self, seconds: float) -> Iterator[None]:
        """What is done in here is one piece of work that may take so long without a tick."""
        usual, self.stalled = self.stalled, max(self.stalled, seconds)
        try:
            yield
        finally:
            self._moved, self.stalled = time.monotonic(), usual

    def through(self, items: Iterable[Any]) -> Iterator[Any]:
        """The same items, each a tick."""
        for item in items:
            self.tick()
            yield item
            del item  # clips are large: not held while the next is made

    @property
    def fps(self) -> float | None:
        """Frames per second since the first ones came: without what had to be loaded before."""
        if self._first is None:
            return None
        began, before = self._first
        took = self._moved - began
        return (self.frames - before) / took if took > _SURE and self.frames > before else None

    def _beat(self) -> None:
        while not self._ended.wait(min(self.lease / 6, 1.0)):
            if time.monotonic() - self._moved > self.stalled:
                continue  # nobody is at work: let the lease end
            sampler = self._sampler
            try:
                self.wish = queue.beat(
                    self.database, self.held, self.lease, self.frames, fps=self.fps, sampler=sampler
                )
                if self._sampler is sampler:
                    self._sampler = None
            except LeaseLost:
                self.lost = True
                return
            except DatabaseAway as error:  # it may come back before the lease ends
                _log.warning("database: %s", error)


@dataclass(frozen=True, slots=True)
class Ticking:
    """An engine whose every clip is a tick, also those of the warm-up that leave no frames."""

    inner: Upscaler
    beating: Beating

    def upscale(self, clips: Iterable[Clip]) -> Iterator[Clip]:
        yield from self.beating.through(self.inner.upscale(self.beating.through(clips)))
