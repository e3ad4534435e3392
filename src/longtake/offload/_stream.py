"""What stands in the place of a net's `blocks`: a sequence whose iterator prefetches.

    streamed blocks, in order, round and round:  0  2  3  5  0  2 ...
    slots on the device, in turn:                a  b  a  b  a  b

While one computes, the next is on its way into another slot; behind the last of a pass comes the
first of the next pass. A slot has a shell, a copy of a block whose parameters are views of the slot
for good: nothing of a module changes from block to block. So all that blocks differ in are values
of parameters and buffers (`_flat.differing`), and a net must not tell its blocks by identity.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from torch import Tensor, nn

from longtake.offload._copies import Arrival, Copies


class Feed(Protocol):
    """Streamed blocks on the host, in order, round and round."""

    def ready(self) -> bool:
        """Whether the next one is there."""
        ...

    def wait(self) -> None:
        """Until it is. Raises what went wrong with it."""
        ...

    def next(self) -> Tensor:
        """The next one, uint8, which is there."""
        ...

    def sent(self, arrival: Arrival) -> None:
        """It is on its way to the device; the next one is another."""
        ...

    def restart(self) -> None:
        """From the first again."""
        ...


class Streamed(nn.Module):
    """Blocks, of which some lie on the device and the others come through slots.

    One pass at a time: to begin another one ends it, whether it came to its end or not.
    """

    def __init__(self, count: int, copies: Copies) -> None:
        super().__init__()
        self._count, self._copies = count, copies
        self._there: dict[int, nn.Module] = {}  # unregistered: parameters stay the net's own
        self._shells: tuple[nn.Module, ...] = ()
        self._feed: Feed | None = None
        self._pass = 0
        self._whole = True  # the pass before came to its end
        self._computing: int | None = None  # slot of the block that was given last
        self._put = self._used = 0  # streamed blocks since the last restart
        self.waited = 0.0
        """Seconds in which the host waited for blocks to be read."""

    def open(self, there: Mapping[int, nn.Module], shells: Sequence[nn.Module], feed: Feed) -> None:
        """Begin to bring blocks. `there`: those of the device by number; `shells`: of the slots
        that the copy engine has open; `feed` is at its first block."""
        self._there, self._shells, self._feed = dict(there), tuple(shells), feed
        self._put, self._used, self._whole = 0, 0, True
        self._prefetch()

    def close(self) -> None:
        """The device has none; a pass that goes on will hear of it."""
        self._pass += 1
        self._there, self._shells, self._feed, self._computing = {}, (), None, None

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[nn.Module]:
        number = self._begin()
        for index in range(self._count):
            if index in self._there:
                self._prefetch()
                yield self._there[index]
                self._still(number)
            else:
                yield self._arrived()
                self._still(number)
                self._leave()
        self._whole = True

    def _begin(self) -> int:
        if self._feed is None:
            raise RuntimeError("the net's blocks are not on the device: it is not its turn")
        if not self._whole:
            if self._computing is not None:
                self._copies.free(self._computing)
                self._computing = None
            self._put = self._used = 0
            self._feed.restart()
        self._whole = False
        self._pass += 1
        self._prefetch()
        return self._pass

    def _still(self, number: int) -> None:
        if number != self._pass:
            raise RuntimeError("another pass through the blocks has begun, or they are gone")

    def _arrived(self) -> nn.Module:
        """The next streamed block, once it is there for what is computed from now on."""
        self._prefetch(wanted=True)
        slot = self._used % len(self._shells)
        self._copies.wait(slot)
        self._computing = slot
        return self._shells[slot]

    def _leave(self) -> None:
        """The block that was given last has computed."""
        assert self._computing is not None
        self._copies.free(self._computing)
        self._computing = None
        self._used += 1
        self._prefetch()

    def _prefetch(self, wanted: bool = False) -> None:
        """Send all that are ready to slots that are free. Waits for the very next one if it is
        wanted now; what went wrong with others is told when they are."""
        assert self._feed is not None
        while self._put < self._used + len(self._shells):
            if not self._feed.ready():
                if not (wanted and self._put == self._used):
                    return
                began = time.perf_counter()
                self._feed.wait()
                self.waited += time.perf_counter() - began
            slot = self._put % len(self._shells)
            self._feed.sent(self._copies.put(slot, self._feed.next()))
            self._put += 1
