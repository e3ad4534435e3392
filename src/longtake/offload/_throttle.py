"""Copies and reads that leave some of bus and disk to others.

Behind each one comes a pause, in which nothing is on its way. With `share` of the bus a copy that
takes t s alone is followed by t (1 / share - 1) s, counted from the fastest seen. So what is
asked for is never passed; it is less where copies wait for slots anyway.
"""

from __future__ import annotations

import time
from threading import Lock

from torch import Tensor

from longtake.core.blocks import BlockSource
from longtake.offload._copies import Arrival
from longtake.offload._stream import Feed


class ThrottledFeed:
    """A `Feed` whose blocks leave one by one: none before the one before has come and the pause is
    over. It makes the host wait."""

    def __init__(self, feed: Feed, share: float) -> None:
        self._feed, self._share = feed, share
        self._began = 0.0
        self._last: Arrival | None = None
        self._fastest = float("inf")  # s of a copy

    def ready(self) -> bool:
        return self._feed.ready()

    def wait(self) -> None:
        self._feed.wait()

    def next(self) -> Tensor:
        if self._last is not None:
            self._last()
            self._last = None
            self._fastest = min(self._fastest, time.perf_counter() - self._began)
            time.sleep(_pause(self._fastest, self._share))
        self._began = time.perf_counter()  # of the first of its phases
        return self._feed.next()

    def sent(self, arrival: Arrival) -> None:
        self._last = arrival
        self._feed.sent(arrival)

    def restart(self) -> None:
        self._feed.restart()


class ThrottledSource:
    """A `BlockSource` that is read by one thread at a time, with a pause behind each block."""

    def __init__(self, source: BlockSource, share: float) -> None:
        self._source, self._share, self._turn = source, share, Lock()
        self.slab, self.count = source.slab, source.count

    def read(self, index: int, into: memoryview) -> None:
        with self._turn:
            began = time.perf_counter()
            self._source.read(index, into)
            time.sleep(_pause(time.perf_counter() - began, self._share))


def _pause(took: float, share: float) -> float:
    return took * (1 / share - 1)
