"""Small nets, sources of blocks and a copy engine that counts, for the tests of the strategies."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from longtake.core.blocks import Slab
from longtake.offload import _attach
from longtake.offload._copies import Sent, ThreadCopies
from longtake.offload._flat import flat, tensors_of
from longtake.offload._host import Host

DIM = 24


class Block(nn.Module):
    """[N, DIM] -> the same; the buffer counts as much as a parameter."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.turn = nn.Linear(DIM, DIM, dtype=dtype)
        self.grow = nn.Linear(DIM, 2 * DIM, bias=False, dtype=dtype)
        self.shrink = nn.Linear(2 * DIM, DIM, dtype=dtype)
        self.register_buffer("shift", torch.randn(DIM, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = x + self.shrink(torch.tanh(self.grow(self.turn(x)))) + self.shift
        return made


class Phased(Block):
    """The same in phases, of which two read the first layer; bytes of the second lie apart."""

    phases: ClassVar[Mapping[str, Sequence[str]]] = {
        "first": ("turn",),
        "second": ("grow", "turn.bias", "shift"),
        "third": ("shrink",),
    }

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        return (getattr(self, name) for name in self.phases)

    def forward(self, x: Tensor) -> Tensor:
        for phase in self:
            x = phase(x)
        return x

    def first(self, x: Tensor) -> Tensor:
        made: Tensor = x + torch.tanh(self.turn(x))
        return made

    def second(self, x: Tensor) -> Tensor:
        made: Tensor = self.grow(x + self.turn.bias)
        return made + torch.cat((self.shift, self.shift))

    def third(self, x: Tensor) -> Tensor:
        made: Tensor = self.shrink(torch.tanh(x))
        return made


class Net(nn.Module):
    block: ClassVar[type[Block]] = Block

    def __init__(self, layers: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.enter = nn.Linear(DIM, DIM, dtype=dtype)
            self.blocks = nn.ModuleList(self.block(dtype) for _ in range(layers))
            self.register_buffer("gain", torch.randn(DIM, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for block in self.blocks:
            x = block(x)
        return x * self.gain


class PhasedNet(Net):
    block = Phased


class Container(nn.ModuleDict):
    """Nets that take turns."""

    def __init__(self, nets: dict[str, nn.Module]) -> None:
        super().__init__(nets)
        self.bring: Callable[[str], None] = lambda name: None

    def forward(self, x: Tensor) -> Tensor:
        for name, net in self.items():
            self.bring(name)
            x = net(x)
        return x


def inputs(dtype: torch.dtype = torch.float32, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(5, DIM, generator=generator).to(dtype)


def state(net: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in net.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[key], b[key]) for key in a)


class Source:
    """The blocks of a net, from memory; every read is noted. `trouble` is called with the number
    of the read and the block before it is read."""

    def __init__(self, blocks: nn.ModuleList, trouble: Any = lambda number, block: None) -> None:
        layout = flat(tensors_of(blocks[0]))
        self.slab: Slab = layout.slab
        self.count = len(blocks)
        self.trouble = trouble
        self.order: list[int] = []
        self.most = self._now = 0
        self._lock = threading.Lock()
        self._bytes = []
        for block in blocks:
            room = torch.zeros(self.slab.bytes, dtype=torch.uint8)
            layout.fill(room, tensors_of(block))
            self._bytes.append(bytes(room.numpy()))

    def read(self, index: int, into: memoryview) -> None:
        with self._lock:
            number = len(self.order)
            self.order.append(index)
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            into[:] = b"\xff" * len(into)  # what is half read is no number
            self.trouble(number, index)
            into[:] = self._bytes[index]
        finally:
            with self._lock:
                self._now -= 1


def on_disk(net: nn.Module, trouble: Any = lambda number, block: None) -> Source:
    """Let the net's blocks come from a source; their own parameters are gone."""
    with torch.no_grad():
        source = Source(net.get_submodule("blocks"), trouble)  # type: ignore[arg-type]
    net.blocks.to("meta")
    net.block_source = source  # type: ignore[assignment]
    return source


class Counted(ThreadCopies):
    """What it gave and what it was asked to do; its copies are late, and `late` at most so."""

    made: list[Counted]
    late = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.given: list[tuple[str, int, weakref.ref[Any]]] = []
        self.log: list[tuple[str, int]] = []
        self.copied = self.locked = 0
        self.made.append(self)

    def host(self, size: int) -> Host:
        host = super().host(size)
        self.given.append(("host", host.size if size else 0, weakref.ref(host._map)))
        self.locked += 1
        return host

    def give_back(self, host: Host) -> None:
        super().give_back(host)
        self.locked -= 1

    def room(self, size: int) -> Tensor:
        host = Host(size)  # as its like does, whose memory could not be followed
        self.given.append(("device", size, weakref.ref(host._map)))
        return host.tensor[:size]

    def put(self, slot: int, runs: Sequence[Tensor]) -> Sent:
        self.log.append(("put", slot))
        self.copied += sum(map(len, runs))
        return super().put(slot, runs)

    def wait(self, slot: int) -> None:
        self.log.append(("wait", slot))
        super().wait(slot)

    def free(self, slot: int) -> None:
        self.log.append(("free", slot))
        super().free(slot)

    def copy(self, slot: Tensor, runs: Sequence[Tensor]) -> None:
        time.sleep(self.late)
        super().copy(slot, runs)

    def held(self, where: str) -> int:
        """Bytes of what it gave that somebody still has."""
        return sum(
            size for place, size, alive in self.given if place == where and alive() is not None
        )


def counted(patch: pytest.MonkeyPatch, engine: type[Counted] = Counted) -> list[Counted]:
    """Let `engine` copy from now on; its instances, in order of their making."""
    made: list[Counted] = []
    engine.made = made
    patch.setattr(_attach, "copies_for", lambda device: engine())
    return made
