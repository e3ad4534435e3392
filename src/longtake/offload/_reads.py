"""Blocks read from their source by threads, in the order of use, ahead of it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from torch import Tensor

from longtake.core.blocks import BlockSource
from longtake.offload._copies import Arrival
from longtake.offload._host import Host


class ReadAhead:
    """Round and round through `order`, into each of `rooms` in turn.

    A room is read into again once what was copied from it has come. Nothing waits on anything that
    comes after it, so it cannot come to a standstill, whatever the source does; an error is raised
    where the block is waited for. The methods are those of a `Feed`.
    """

    def __init__(
        self, source: BlockSource, order: Sequence[int], rooms: Sequence[Host], workers: int
    ) -> None:
        self._source, self._order, self._rooms = source, order, rooms
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="longtake-read")
        self._arrivals: list[Arrival | None] = [None] * len(rooms)
        self._reads: list[Future[None]] = []
        self.restart()

    def ready(self) -> bool:
        read = self._reads[self._sent % len(self._rooms)]
        return read.done() and read.exception() is None

    def wait(self) -> None:
        """Raises what the source raised."""
        self._reads[self._sent % len(self._rooms)].result()

    def next(self) -> Tensor:
        return self._rooms[self._sent % len(self._rooms)].tensor

    def sent(self, arrival: Arrival) -> None:
        """Once it has come, the room is free."""
        room = self._sent % len(self._rooms)
        self._arrivals[room] = arrival
        self._reads[room] = self._ask(self._sent + len(self._rooms))
        self._sent += 1

    def restart(self) -> None:
        """What was read further on is dropped."""
        self._cancel()
        self._sent = 0
        self._reads = [self._ask(number) for number in range(len(self._rooms))]

    def close(self) -> None:
        """Waits for reads under way, and until nothing is copied from the rooms any more."""
        self._cancel()
        self._pool.shutdown(wait=True)
        for arrival in self._arrivals:
            if arrival is not None:
                arrival()

    def _cancel(self) -> None:
        for read in self._reads:
            read.cancel()

    def _ask(self, number: int) -> Future[None]:
        """Of all that are read, counted since the last restart."""
        room, block = number % len(self._rooms), self._order[number % len(self._order)]
        before = self._reads[room] if self._reads else None
        return self._pool.submit(self._read, block, room, before, self._arrivals[room])

    def _read(
        self, block: int, room: int, before: Future[None] | None, arrival: Arrival | None
    ) -> None:
        if before is not None:
            wait([before])
        if arrival is not None:
            arrival()
        self._source.read(block, self._rooms[room].bytes[: self._source.slab.bytes])
