"""The blocks of a net wait in page-locked memory of the host and come to the device in turn.

While one computes, the next is copied: nothing is lost where copying a block takes no longer than
computing it, else `resident_blocks` of them stay on the device. What they are, bytes and seconds:
`_partition.py`. The nets of a container take turns on the device (`_turns.py`); those of them that
have no `blocks` come as a whole.

Blocks that declare phases (`_phases.py`) may come phase by phase: smaller slots, and more of them
to be hidden.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from longtake.offload._partition import LEAST_AHEAD, Granularity, check

if TYPE_CHECKING:
    from torch import nn

_READERS: Final = 2
"""Threads that fill the host's memory once, where the blocks are not in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """`dataclasses.replace` makes others of it. Raises Usage for numbers out of range."""

    resident_blocks: int = 0
    """Of each net on the device for good; more than it has: all."""
    slots: int = 2
    """2 or 3. With blocks on the device, 3 make up for the uneven distances of the others."""

    granularity: Granularity = "block"
    """What has a slot: a block, or a phase of it, where the net's blocks declare phases; those of
    other nets come as a whole."""
    bandwidth: float = 1.0
    """Of what copies could take of the bus, above 0: less leaves pauses between them."""
    stay: tuple[str, ...] = ()
    """Nets of a container that do not leave the device when their turn is over."""

    def __post_init__(self) -> None:
        check(
            resident=self.resident_blocks, host=None, slots=self.slots, read_ahead=LEAST_AHEAD,
            granularity=self.granularity,
        )  # fmt: skip

    def home(self, device: str) -> str:  # noqa: ARG002 -- as all strategies
        return "cpu"

    @contextmanager
    def attach(self, model: nn.Module, device: str) -> Iterator[nn.Module]:
        """Raises Usage for blocks that are not alike, BadInput for stored blocks of another net,
        OutOfMemory where the host's memory cannot be locked."""
        from longtake.offload._attach import Wanted, attached

        wanted = Wanted(
            resident=self.resident_blocks, host=None, slots=self.slots, workers=_READERS,
            read_ahead=LEAST_AHEAD, granularity=self.granularity, bandwidth=self.bandwidth,
            stay=self.stay,
        )  # fmt: skip
        with attached(model, device, wanted) as placed:
            yield placed


plugin = Ring()
