"""Two threads beside the engine: one reads ahead, one writes behind, both through bounded queues.

libav and torch let go of the interpreter lock while they work, so the three overlap.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Generic, TypeVar

from longtake.core import faults

T = TypeVar("T")
R = TypeVar("R")
_POLL = 0.1  # s between two looks at whether the other side has gone
_END = object()


class Meter:
    """Busy seconds by stage."""

    def __init__(self) -> None:
        self.busy: dict[str, float] = {"decode": 0.0, "compute": 0.0, "encode": 0.0}

    def timed(self, stage: str, items: Iterable[T]) -> Generator[T]:
        """Count the time that `items` takes to give each item."""
        source = iter(items)
        while True:
            try:
                with self.during(stage):
                    item = next(source)
            except StopIteration:
                return
            yield item
            del item  # clips are large: not held while the next is made

    @contextmanager
    def during(self, stage: str) -> Iterator[None]:
        """Count the time spent inside; each stage in one thread only."""
        began = faults.now()
        try:
            yield
        finally:
            self.busy[stage] += faults.now() - began


def ahead(items: Iterable[T], depth: int) -> Generator[T]:
    """The same items, made by a thread that is at most `depth` items ahead.

    An exception of `items` is raised here; closing this generator stops the thread and closes
    `items` in it.
    """
    waiting: queue.Queue[object] = queue.Queue(maxsize=depth)
    gone = threading.Event()
    failure: list[BaseException] = []

    def work() -> None:
        source = iter(items)
        try:
            for item in source:
                if not _put(waiting, item, gone):
                    break
                del item
        except BaseException as error:  # noqa: BLE001 - carried to the other side
            failure.append(error)
        finally:
            close = getattr(source, "close", None)
            if close is not None:
                close()
            _put(waiting, _END, gone)

    thread = threading.Thread(target=work, name="longtake-read", daemon=True)
    thread.start()
    try:
        while (item := waiting.get()) is not _END:
            yield item  # type: ignore[misc]
            del item
        if failure:
            raise failure[0]
    finally:
        gone.set()
        thread.join()


class Behind(Generic[T, R]):
    """A thread that runs `work` over the items put here, at most `depth` of them waiting.

    `work` is a generator: what it yields comes back to this side. Its items end where `finish` was
    called and, early, where `abandon` was.
    """

    def __init__(self, work: Callable[[Iterator[T]], Iterable[R]], depth: int) -> None:
        self._waiting: queue.Queue[object] = queue.Queue(maxsize=depth)
        self._made: queue.SimpleQueue[R] = queue.SimpleQueue()
        self._gone = threading.Event()
        self._failure: list[BaseException] = []
        self._thread = threading.Thread(
            target=self._run, args=(work,), name="longtake-write", daemon=True
        )
        self._thread.start()

    def put(self, item: T) -> list[R]:
        """Hand an item over, and take what `work` has made so far.

        Raises what went wrong there, once all that was made before it has been taken.
        """
        _put(self._waiting, item, self._gone)
        return self._taken()

    def finish(self) -> Iterator[R]:
        """End the items and wait for `work`; gives what it still makes, as it is made."""
        _put(self._waiting, _END, self._gone)
        while self._thread.is_alive():
            self._thread.join(timeout=_POLL)
            with suppress(queue.Empty):
                yield self._made.get_nowait()
        while rest := self._taken():
            yield from rest

    def abandon(self) -> None:
        """Stop after the item in hand; what waits is dropped."""
        self._gone.set()
        self._thread.join()

    def _taken(self) -> list[R]:
        failed = bool(
            self._failure
        )  # looked at first: what was made before it is then in the queue
        made: list[R] = []
        with suppress(queue.Empty):
            while True:
                made.append(self._made.get_nowait())
        if failed and not made:
            raise self._failure[0]
        return made

    def _items(self) -> Iterator[T]:
        while not self._gone.is_set():
            try:
                item = self._waiting.get(timeout=_POLL)
            except queue.Empty:
                continue
            if item is _END or self._gone.is_set():
                return
            yield item  # type: ignore[misc]
            del item  # not held while the next is awaited

    def _run(self, work: Callable[[Iterator[T]], Iterable[R]]) -> None:
        try:
            for made in work(self._items()):
                self._made.put(made)
        except BaseException as error:  # noqa: BLE001 - carried to the other side
            self._failure.append(error)
        finally:
            self._gone.set()


def _put(waiting: queue.Queue[object], item: object, gone: threading.Event) -> bool:
    """Put unless the other side has gone."""
    while not gone.is_set():
        try:
            waiting.put(item, timeout=_POLL)
        except queue.Full:
            continue
        return True
    return False
