"""Two threads beside the engine: one reads ahead, one writes behind, both through bounded queues.

libav and torch let go of the interpreter lock while they work, so the three overlap.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
_POLL = 0.1  # s between two looks at whether the other side has gone
_END = object()


class Meter:
    """Busy seconds by stage."""

    def __init__(self) -> None:
        self.busy: dict[str, float] = {"decode": 0.0, "compute": 0.0, "encode": 0.0}

    def timed(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """Count the time that `items` takes to give each item."""
        source = iter(items)
        while True:
            began = time.perf_counter()
            try:
                item = next(source)
            except StopIteration:
                return
            finally:
                self.busy[stage] += time.perf_counter() - began
            yield item


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
        if failure:
            raise failure[0]
    finally:
        gone.set()
        thread.join()


class Behind(Generic[T]):
    """A thread that takes items to `consume`; `put` blocks when `depth` of them wait."""

    def __init__(self, consume: Callable[[T], None], depth: int) -> None:
        self._consume = consume
        self._waiting: queue.Queue[object] = queue.Queue(maxsize=depth)
        self._gone = threading.Event()
        self._failure: list[BaseException] = []
        self._thread = threading.Thread(target=self._work, name="longtake-write", daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Hand an item over; raises what consuming an earlier one raised."""
        _put(self._waiting, item, self._gone)
        self._check()

    def finish(self) -> None:
        """Wait until everything is consumed; raises what went wrong."""
        _put(self._waiting, _END, self._gone)
        self._thread.join()
        self._check()

    def abandon(self) -> None:
        """Stop after the item in hand; what waits is dropped."""
        self._gone.set()
        _put(self._waiting, _END, self._gone)
        self._thread.join()

    def _check(self) -> None:
        if self._failure:
            raise self._failure[0]

    def _work(self) -> None:
        try:
            while True:
                try:
                    item = self._waiting.get(timeout=_POLL)
                except queue.Empty:
                    if self._gone.is_set():
                        return
                    continue
                if item is _END or self._gone.is_set():
                    return
                self._consume(item)  # type: ignore[arg-type]
        except BaseException as error:  # noqa: BLE001 - carried to the other side
            self._failure.append(error)
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
