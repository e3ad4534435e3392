"""On a GPU: the same bits whichever is faster, computing or copying, and no byte kept.

The order of the calls is tested without one in test_copies.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from longtake.offload import _attach, _host
from longtake.offload._copies import CudaCopies
from longtake.offload._flat import flat, tensors_of
from longtake.offload._partition import partition
from longtake.offload._phases import phases
from longtake.offload._stalls import stalls
from longtake.offload.disk import plugin as disk
from longtake.offload.resident import plugin as resident
from longtake.offload.ring import plugin as ring
from tests.offload.toys import on_disk

pytestmark = pytest.mark.gpu
WIDE, LAYERS, CARD = 2048, 9, "cuda:0"
SIZES = ("block", "phase")


class Block(nn.Module):
    phases: ClassVar = {"growing": ("grow",), "shrinking": ("shrink", "grow.bias")}

    def __init__(self) -> None:
        super().__init__()
        self.grow = nn.Linear(WIDE, 4 * WIDE, dtype=torch.bfloat16)
        self.shrink = nn.Linear(4 * WIDE, WIDE, dtype=torch.bfloat16)

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        return (getattr(self, name) for name in self.phases)

    def forward(self, x: Any) -> Any:
        for phase in self:
            x = phase(x)
        return x

    def growing(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, torch.nn.functional.gelu(self.grow(x))

    def shrinking(self, both: tuple[Tensor, Tensor]) -> Tensor:
        made: Tensor = both[0] + self.shrink(both[1] + self.grow.bias)
        return made


class Wide(nn.Module):
    """67 MB a block, half of it a phase."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.leave = nn.Linear(WIDE, WIDE, dtype=torch.bfloat16)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        made: Tensor = self.leave(x)
        return made


@pytest.fixture(autouse=True)
def _cleared() -> Iterator[None]:
    yield
    torch.cuda.synchronize()
    torch.cuda.empty_cache()


def asked(rows: int) -> Tensor:
    return torch.randn(rows, WIDE, generator=torch.Generator().manual_seed(1)).bfloat16().to(CARD)


@pytest.mark.parametrize("rows", [1, 512, 16384])
@pytest.mark.parametrize("slots", [2, 3])
@pytest.mark.parametrize("stays", [0, 3])
@pytest.mark.parametrize("kind", ["ring", "disk"])
@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_equal_to_resident(kind: str, stays: int, slots: int, rows: int, size: str):
    """With few rows copying is slower, with many computing; passes overlap."""
    net, x = Wide(), asked(rows)
    with resident.attach(net, CARD):
        wanted = net(x)
    net.to("cpu")
    strategy: Any = replace(ring, resident_blocks=stays, slots=slots, granularity=size)
    if kind == "disk":
        on_disk(net)
        strategy = replace(
            disk, resident_blocks=stays, slots=slots, host_blocks=2, granularity=size
        )
    with strategy.attach(net, CARD), torch.inference_mode():
        found = [net(x) for _ in range(4)]
        next(iter(net.blocks))(x)  # a pass that is left
        found.append(net(x))
        for block in net.blocks:  # and one that is left within a block
            next(iter(block))(x)
            break
        found.append(net(x))
        assert all(torch.equal(y, wanted) for y in found)
    assert {p.device.type for p in net.parameters()} <= {"cpu", "meta"}


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_bytes_on_the_device_are_those_foretold(size: str):
    net, x = Wide(), asked(64)
    laid, rest = flat(tensors_of(net.blocks[0])).slab, flat(tensors_of(net.leave)).slab.bytes
    parts = [phase.slab.bytes for phase in phases(laid, Block.phases)]
    where = partition(LAYERS, resident=2, phases=2 if size == "phase" else 1)
    foretold = where.device_bytes(laid.bytes, rest, phase=max(parts))
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated(CARD)
    with replace(ring, resident_blocks=2, granularity=size).attach(net, CARD):
        found = torch.cuda.memory_allocated(CARD) - before
        assert foretold <= found <= foretold + 512 * (LAYERS + 1)
        net(x)
    del x
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated(CARD) <= before


@torch.no_grad()
def test_blocks_over_several_locked_pieces(monkeypatch: pytest.MonkeyPatch):
    net, x = Wide(), asked(64)
    with resident.attach(net, CARD):
        wanted = net(x)
    net.to("cpu")
    monkeypatch.setattr(_host, "PIECE", 10 << 20)
    for size in SIZES:
        with replace(ring, resident_blocks=2, granularity=size).attach(net, CARD):
            assert all(torch.equal(net(x), wanted) for _ in range(2))


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_stalls_are_where_copies_are_slower(size: str):
    """With few rows nearly all the time, with many hardly any; to ask costs no wait before."""
    net, shares = Wide(), []
    for rows in (1, 65536):
        x = asked(rows)
        with replace(ring, slots=3, granularity=size).attach(net, CARD), torch.inference_mode():
            for _ in range(4):
                net(x)
            found = stalls(net)
        assert found.on_reads == 0
        assert found.copied >= 4 * LAYERS * 4 * WIDE * WIDE * 2 * 2
        assert 1e9 < found.copied / found.copying < 1e12
        shares.append(found.on_copies / found.seconds)
    assert shares[0] > 0.6
    assert shares[1] < 0.1


@torch.no_grad()
def test_a_ring_that_does_not_wait_is_seen(monkeypatch: pytest.MonkeyPatch):
    """The test of equality can fail: without the events, blocks compute with others' weights."""
    net, x = Wide(), asked(1)
    with resident.attach(net, CARD):
        wanted = net(x)
    net.to("cpu")

    class Hasty(CudaCopies):
        def wait(self, slot: int) -> None: ...

    monkeypatch.setattr(_attach, "copies_for", Hasty)
    with ring.attach(net, CARD):
        assert not all(torch.equal(net(x), wanted) for _ in range(4))
        torch.cuda.synchronize()


def test_memory_that_was_locked_can_be_locked_again():
    copies = CudaCopies(CARD)
    host = copies.host(1 << 20)
    for _ in range(2):
        copies.give_back(host)
        for address, size in host.pieces():
            assert int(torch.cuda.cudart().cudaHostRegister(address, size, 0)) == 0
    copies.give_back(host)
