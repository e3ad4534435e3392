"""What stands in the place of a net's `blocks`: a sequence whose iterator prefetches.

    streamed blocks, in order, round and round:  0  2  3  5  0  2 ...
    slots on the device, in turn:                a  b  a  b  a  b

While one computes, the next is on its way into another slot; behind the last of a pass comes the
first of the next pass. A slot has a shell, a copy of a block whose parameters are views of the slot
for good: nothing of a module changes from block to block. So all that blocks differ in are values
of parameters and buffers (`_flat.differing`), and a net must not tell its blocks by identity.

Where blocks come phase by phase (`_phases.py`), these take the places of blocks above: slots hold
one each, and have a shell for each that may come; of its other tensors it has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Protocol

from torch import Tensor, nn

from longtake.offload._copies import Arrival, Copies, Sent
from longtake.offload._flat import empty
from longtake.offload._phases import Phase
from longtake.offload._stalls import Copied, Meter, Stalls


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
    """Blocks, of which some lie on the device and the others come through slots, in one or phase by
    phase.

    One pass at a time: to begin another one ends it, whether it came to its end or not.
    """

    def __init__(self, count: int, copies: Copies, phases: Sequence[Phase]) -> None:
        super().__init__()
        self._count, self._copies, self._phases = count, copies, tuple(phases)
        self._there: dict[int, nn.Module] = {}  # unregistered: parameters stay the net's own
        self._shells: tuple[tuple[nn.Module, ...], ...] = ()
        self._feed: Feed | None = None
        self._pass = 0
        self._whole = True  # the pass before came to its end
        self._computing: int | None = None  # slot of what was given last
        self._put = self._used = 0  # phases since the last restart
        self._block: Tensor | None = None  # of which phases were put last
        self._sent: dict[int, tuple[Sent, Copied]] = {}  # by slot
        self._late = False  # the next could have been sent, but was not there
        self._meter = Meter(copies.seconds)

    def open(
        self, there: Mapping[int, nn.Module], shells: Sequence[Sequence[nn.Module]], feed: Feed
    ) -> None:
        """Begin to bring blocks. `there`: those of the device by number; `shells`: of the slots
        that the copy engine has open, one for each phase; `feed` is at its first block."""
        self._there, self._feed = dict(there), feed
        self._shells = tuple(tuple(each) for each in shells)
        self._put, self._used, self._whole = 0, 0, True
        self._prefetch()

    def close(self) -> None:
        """The device has none; a pass that goes on will hear of it. Who still has a block, as the
        traceback of an error, has no weights."""
        self._pass += 1
        for block in (*self._there.values(), *chain(*self._shells)):
            empty(block)
        self._there, self._shells, self._feed, self._computing = {}, (), None, None
        self._block, self._sent = None, {}

    def stalls(self) -> Stalls:
        """How long the device has waited for blocks until now; waits for the device."""
        return self._meter.stalls()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[nn.Module | InPhases]:
        number = self._begin()
        for index in range(self._count):
            if index in self._there:
                self._prefetch()
                yield self._there[index]
                self._still(number)
            elif len(self._phases) == 1:
                yield self._arrived()
                self._still(number)
                self._leave()
            else:
                first = self._used
                yield InPhases(self, number, first, self._shells[0][0])
                self._still(number)
                if self._used != first + len(self._phases):
                    raise RuntimeError(f"not all phases of block {index} have been gone through")
        self._whole = True
        self._meter.end(self._copies.mark())

    def in_phases(self, number: int, first: int) -> Iterator[Callable[..., Any]]:
        """The phases of a block, in the pass of that number; `first`: used before it."""
        for part, phase in enumerate(self._phases):
            self._still(number)
            if self._used != first + part:
                raise RuntimeError("the phases of a block can be gone through once in a pass")
            yield getattr(self._arrived(), phase.name)
            self._still(number)
            self._leave()

    def _begin(self) -> int:
        if self._feed is None:
            raise RuntimeError("the net's blocks are not on the device: it is not its turn")
        if not self._whole:
            if self._computing is not None:
                self._copies.free(self._computing)
                self._computing = None
            if self._put % len(self._phases):  # a block of which some are still to be sent
                self._feed.sent(self._sent[(self._put - 1) % len(self._shells)][0].arrival)
            self._put = self._used = 0
            self._feed.restart()
        self._whole = False
        self._pass += 1
        self._meter.begin(self._copies.mark())
        self._prefetch()
        return self._pass

    def _still(self, number: int) -> None:
        if number != self._pass:
            raise RuntimeError("another pass through the blocks has begun, or they are gone")

    def _arrived(self) -> nn.Module:
        """The next of what is streamed, once it is there for what is computed from now on."""
        asked = self._copies.mark()
        self._prefetch(wanted=True)
        slot = self._used % len(self._shells)
        self._copies.wait(slot)
        self._computing = slot
        self._meter.waited(asked, self._copies.mark(), self._sent[slot][1])
        return self._shells[slot][self._used % len(self._phases)]

    def _leave(self) -> None:
        """What was given last has computed."""
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
            part = self._put % len(self._phases)
            if part == 0:
                if not self._feed.ready():
                    self._late = True
                    if not (wanted and self._put == self._used):
                        return
                    self._feed.wait()
                self._block = self._feed.next()
            assert self._block is not None
            slot, block = self._put % len(self._shells), self._block
            runs = [block[run] for run in self._phases[part].runs]
            sent, size = self._copies.put(slot, runs), self._phases[part].slab.bytes
            self._sent[slot] = sent, Copied(sent.began, sent.came, size, self._late)
            self._late = False
            if part == len(self._phases) - 1:
                self._feed.sent(sent.arrival)
            self._put += 1


class InPhases:
    """A block of which every phase is there only while it computes. It can be called, and gone
    through, as the block itself; and once."""

    def __init__(self, blocks: Streamed, number: int, first: int, like: nn.Module) -> None:
        self._blocks, self._number, self._first, self._like = blocks, number, first, like

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        return self._blocks.in_phases(self._number, self._first)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        forward: Callable[..., Any] = type(self._like).forward  # which only iterates
        return forward(self, *args, **kwargs)
