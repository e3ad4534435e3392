"""A net whose blocks come to the device in turn, put on it from outside and taken off again.

    on the host     the streamed blocks, one run of bytes each; of those that lie on the disk only
                    room for a few; all else of the net, one run
    on the device   all else of the net, the resident blocks, the slots

A block's bytes are laid out by `core.blocks`. They come from the block's own parameters, which lie
in them from then on; or, where the net has an attribute `block_source` (`core.blocks.BlockSource`),
from there, and the net's own blocks are only a pattern, on the meta device.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from longtake.core.blocks import BlockSource
from longtake.core.errors import BadInput, Usage
from longtake.offload._copies import Arrival, copies_for
from longtake.offload._flat import (
    Flat,
    become,
    differing,
    flat,
    flat_as_stored,
    shell,
    tensors_of,
)
from longtake.offload._host import Host
from longtake.offload._partition import Granularity, Partition, partition
from longtake.offload._phases import Phase, phases, whole
from longtake.offload._reads import ReadAhead
from longtake.offload._stream import Feed, Streamed
from longtake.offload._throttle import ThrottledFeed, ThrottledSource
from longtake.offload._turns import Guest, Waiting, turns


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Where blocks are to lie; see ring.py and disk.py."""

    resident: int
    host: int | None
    slots: int
    workers: int
    read_ahead: int
    granularity: Granularity = "block"
    bandwidth: float = 1.0
    stay: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.bandwidth <= 1:
            raise Usage(f"bandwidth={self.bandwidth} must be above 0 and at most 1.")

    def of(self, blocks: int, phases: int) -> Partition:
        return partition(
            blocks,
            resident=self.resident,
            host=self.host,
            slots=self.slots,
            read_ahead=self.read_ahead,
            phases=phases,
        )


@contextmanager
def attached(model: nn.Module, device: str, wanted: Wanted) -> Iterator[nn.Module]:
    """Stream the model's blocks; of a container whose nets take turns, those of its nets."""
    nets = dict(model.named_children()) if hasattr(model, "bring") else {"": model}
    if any(isinstance(getattr(net, "blocks", None), Streamed) for net in nets.values()):
        raise Usage("The model's blocks are streamed already: an offload can be attached once.")
    if wanted.host is not None and not any(_source(net) for net in nets.values()):
        raise Usage(
            "Nothing of this model can be read from a disk: none of its nets has a block_source. "
            "Take offload=ring."
        )
    with ExitStack() as undo:
        with _outside():
            if "" in nets:
                guest = _Net(model, device, wanted, undo, keeps=False)
                undo.callback(_outside()(guest.leave))
                guest.enter()
            else:
                guests: dict[str, Guest] = {}
                for name, net in nets.items():
                    if _blocks(net):
                        guests[name] = _Net(net, device, wanted, undo, keeps=True)
                    else:
                        guests[name] = Waiting([*net.parameters(), *net.buffers()], device)
                undo.enter_context(turns(model, guests, wanted.stay))
        yield model


@contextmanager
def _outside() -> Iterator[None]:
    """Of inference mode, whose tensors could not be changed elsewhere, and of gradients."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def _source(net: nn.Module) -> BlockSource | None:
    return getattr(net, "block_source", None)


def _blocks(net: nn.Module) -> list[nn.Module]:
    blocks = getattr(net, "blocks", None)
    return list(blocks) if isinstance(blocks, nn.ModuleList) else []


class _Net:
    """A net with blocks. What its constructor takes, `undo` gives back."""

    def __init__(
        self, net: nn.Module, device: str, wanted: Wanted, undo: ExitStack, *, keeps: bool
    ) -> None:
        """`keeps`: it will enter more than once, so that resident blocks wait on the host too."""
        self._net, self._wanted, self._keeps = net, wanted, keeps
        self._blocks, self._source = _blocks(net), _source(net)
        if self._source is not None and wanted.bandwidth < 1:
            self._source = ThrottledSource(self._source, wanted.bandwidth)
        if self._source is None:
            self._wanted = replace(wanted, host=None)  # they are there already
        self._copies, self._undo = copies_for(device), undo
        self._flat = _layout(self._blocks, self._source)
        self._phases = self._cut()
        self._where = self._wanted.of(len(self._blocks), len(self._phases))
        self._kept = self._fetched() if self._source else self._gathered()
        self._rooms = [self._host(self._flat.slab.bytes) for _ in range(self._where.read_ahead)]
        taken = {id(x) for block in self._blocks for x in tensors_of(block).values()}
        self._rest = {k: x for k, x in tensors_of(net).items() if id(x) not in taken}
        self._rest_flat = flat(self._rest)
        self._rest_host = self._moved(self._rest_flat, self._rest)
        self._reads: ReadAhead | None = None
        self._streamed = Streamed(len(self._blocks), self._copies, self._phases)
        if self._blocks:
            undo.callback(_outside()(partial(self._restore, net.get_submodule("blocks"))))
            net.blocks = self._streamed

    def _restore(self, blocks: nn.Module) -> None:
        self._net.blocks = blocks
        if self._source is None:
            for i in self._where.device:
                become(tensors_of(self._blocks[i]), Tensor.cpu)

    # --- the device --------------------------------------------------------------------------

    def enter(self) -> None:
        with ExitStack() as failed:
            failed.callback(self.leave)
            rest = self._copies.room(self._rest_flat.slab.bytes)
            self._copies.fill(rest, self._rest_host)
            become(self._rest, self._rest_flat.views(rest))
            there = self._residents()
            largest = max(phase.slab.bytes for phase in self._phases)
            slots = [self._copies.room(largest) for _ in range(self._where.slots)]
            self._copies.open(slots)
            self._streamed.open(there, [self._shells(slot) for slot in slots], self._feed())
            failed.pop_all()

    def leave(self) -> None:
        """Whatever fails, the rest of it is done."""
        with ExitStack() as then:  # from the last one up
            then.callback(become, self._rest, self._rest_flat.views(self._rest_host))
            then.callback(self._copies.close)
            if self._reads is not None:
                then.callback(self._reads.close)
                self._reads = None
            self._streamed.close()

    def _residents(self) -> dict[int, nn.Module]:
        """The blocks of the device, there."""
        there: dict[int, nn.Module] = {}
        room = self._rooms[0] if self._rooms else None  # nothing is read ahead yet
        for i in self._where.device:
            memory, own = self._copies.room(self._flat.slab.bytes), tensors_of(self._blocks[i])
            if i in self._kept:
                self._copies.fill(memory, self._kept[i])
            elif self._source is not None:
                room = room or Host(self._flat.slab.bytes)
                self._read(i, room)
                self._copies.fill(memory, room.tensor[: len(memory)])()
            else:
                self._flat.fill(memory, own)
                become(own, self._flat.views(memory))
            there[i] = shell(self._blocks[0], self._flat.views(memory))
        return there

    def _feed(self) -> Feed:
        if self._where.disk and self._source is not None:
            self._reads = ReadAhead(
                self._source, self._where.disk, self._rooms, self._wanted.workers
            )
        fed = _Fed(self._where.streamed, self._kept, self._reads)
        share = self._wanted.bandwidth
        return ThrottledFeed(fed, share) if share < 1 else fed

    def _shells(self, slot: Tensor) -> list[nn.Module]:
        """Of each phase."""
        laid = [self._flat.placed(phase.slab) for phase in self._phases]
        return [shell(self._blocks[0], flat.views(slot)) for flat in laid]

    def _cut(self) -> tuple[Phase, ...]:
        """A block whose class declares no phases comes in one."""
        declared = getattr(type(self._blocks[0]), "phases", None) if self._blocks else None
        if self._wanted.granularity == "block" or declared is None:
            return whole(self._flat.slab)
        return phases(self._flat.slab, declared)

    # --- the host ----------------------------------------------------------------------------

    def _gathered(self) -> dict[int, Tensor]:
        """The net's own blocks, one by one into memory that the device can read."""
        return {i: self._moved(self._flat, tensors_of(self._blocks[i])) for i in self._waiting()}

    def _fetched(self) -> dict[int, Tensor]:
        """The same blocks from the source."""
        found = {i: self._host(self._flat.slab.bytes) for i in self._waiting()}
        with ThreadPoolExecutor(self._wanted.workers, thread_name_prefix="longtake-read") as pool:
            for _ in pool.map(self._read, found.keys(), found.values()):
                pass  # raises what the source raised
        return {i: host.tensor for i, host in found.items()}

    def _waiting(self) -> list[int]:
        """Those that the host has for good. It has those of the device too where they will have to
        come again, unless there is a disk to spare it that."""
        again = self._keeps and self._wanted.host is None
        return sorted(self._where.host + (self._where.device if again else ()))

    def _moved(self, layout: Flat, tensors: Mapping[str, Tensor]) -> Tensor:
        memory = self._host(layout.slab.bytes).tensor[: layout.slab.bytes]
        layout.fill(memory, tensors)
        become(tensors, layout.views(memory))
        return memory

    def _host(self, size: int) -> Host:
        host = self._copies.host(size)
        self._undo.callback(self._copies.give_back, host)
        return host

    def _read(self, block: int, into: Host) -> None:
        assert self._source is not None
        self._source.read(block, into.bytes[: self._flat.slab.bytes])


class _Fed:
    """A `Feed` of blocks that the host has, and of others as they are read."""

    def __init__(
        self, order: Sequence[int], kept: Mapping[int, Tensor], reads: ReadAhead | None
    ) -> None:
        self._order, self._kept, self._reads = order, kept, reads
        self._sent = 0

    def ready(self) -> bool:
        reads = self._reading()
        return reads is None or reads.ready()

    def wait(self) -> None:
        reads = self._reading()
        if reads is not None:
            reads.wait()

    def next(self) -> Tensor:
        reads = self._reading()
        return self._kept[self._block()] if reads is None else reads.next()

    def sent(self, arrival: Arrival) -> None:
        reads = self._reading()
        if reads is not None:
            reads.sent(arrival)
        self._sent += 1

    def restart(self) -> None:
        self._sent = 0
        if self._reads is not None:
            self._reads.restart()

    def _block(self) -> int:
        return self._order[self._sent % len(self._order)]

    def _reading(self) -> ReadAhead | None:
        """Where the next block comes from, if the host has it not."""
        return None if self._block() in self._kept else self._reads


def _layout(blocks: Sequence[nn.Module], source: BlockSource | None) -> Flat:
    if not blocks:
        return flat({})
    found = differing(blocks)
    if found is not None:
        raise Usage(f"The model's blocks cannot be streamed: {found}. Take offload=resident.")
    own = tensors_of(blocks[0])
    if source is None:
        if any(x.is_meta for block in blocks for x in tensors_of(block).values()):
            raise Usage(
                "The model's blocks have no values and it has no block_source to read them from."
            )
        return flat(own)
    if source.count != len(blocks):
        raise BadInput(f"There are {source.count} stored blocks, and the model has {len(blocks)}.")
    return flat_as_stored(source.slab, own)
