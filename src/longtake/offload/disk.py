"""The blocks of a net lie on the disk, as many as fit on the host and on the device.

As `ring.py`; the blocks that have no place in memory are read anew in every pass, ahead of their
use, by threads, straight into page-locked memory. Which ones is settled beforehand: blocks come
round and round, so a cache of those used last would never have the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from longtake.core.errors import Usage
from longtake.offload._partition import Granularity, check

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """`dataclasses.replace` makes others of it. Raises Usage for numbers out of range."""

    resident_blocks: int = 0
    """Of each net on the device for good; more than it has: all."""
    host_blocks: int = 0
    """Of each net's others, in page-locked memory; more than it has: all."""
    slots: int = 2
    """2 or 3, as of a ring."""
    disk_workers: int = 2
    """Threads that read, a block each."""
    read_ahead: int = 3
    """Blocks that are read before they are used, each with its memory on the host."""

    granularity: Granularity = "block"
    """What has a slot: a block, or a phase of it, where the net's blocks declare phases; those of
    other nets come as a whole."""
    bandwidth: float = 1.0
    """Of what copies and reads could take of bus and disk, above 0: less leaves pauses."""
    stay: tuple[str, ...] = ()
    """Nets of a container that do not leave the device when their turn is over."""

    def __post_init__(self) -> None:
        check(
            resident=self.resident_blocks, host=self.host_blocks, slots=self.slots,
            read_ahead=self.read_ahead, granularity=self.granularity,
        )  # fmt: skip
        if self.disk_workers < 1:
            raise Usage(f"disk_workers={self.disk_workers} must be at least 1.")

    def home(self, device: str) -> str:  # noqa: ARG002 -- as all strategies
        return "cpu"

    @contextmanager
    def attach(self, model: nn.Module, device: str) -> Iterator[nn.Module]:
        """The model's nets with blocks have a `block_source` each, and keep it. Raises Usage for
        those that have none, or blocks that are not alike, BadInput for stored blocks of another
        net, OutOfMemory where the host's memory cannot be locked. What a source raises comes from
        here or from the net's forward."""
        from longtake.offload._attach import Wanted, attached

        wanted = Wanted(
            resident=self.resident_blocks, host=self.host_blocks, slots=self.slots,
            workers=self.disk_workers, read_ahead=self.read_ahead, granularity=self.granularity,
            bandwidth=self.bandwidth, stay=self.stay,
        )  # fmt: skip
        with attached(model, device, wanted) as placed:
            yield placed


plugin = Disk()
