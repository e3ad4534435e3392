"""On a GPU: the same bits whichever is faster, computing or copying, and no byte kept.

The order of the calls is tested without one in test_copies.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from longtake.offload import _attach
from longtake.offload._copies import CudaCopies
from longtake.offload._flat import flat, tensors_of
from longtake.offload._partition import partition
from longtake.offload.disk import plugin as disk
from longtake.offload.resident import plugin as resident
from longtake.offload.ring import plugin as ring
from tests.offload.toys import on_disk

pytestmark = pytest.mark.gpu
WIDE, LAYERS, CARD = 2048, 9, "cuda:0"


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.grow = nn.Linear(WIDE, 4 * WIDE, dtype=torch.bfloat16)
        self.shrink = nn.Linear(4 * WIDE, WIDE, dtype=torch.bfloat16)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = x + self.shrink(torch.nn.functional.gelu(self.grow(x)))
        return made


class Wide(nn.Module):
    """33 MB a block."""

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
@torch.no_grad()
def test_equal_to_resident(kind: str, stays: int, slots: int, rows: int):
    """With few rows copying is slower, with many computing; passes overlap."""
    net, x = Wide(), asked(rows)
    with resident.attach(net, CARD):
        wanted = net(x)
    net.to("cpu")
    strategy: Any = replace(ring, resident_blocks=stays, slots=slots)
    if kind == "disk":
        on_disk(net)
        strategy = replace(disk, resident_blocks=stays, slots=slots, host_blocks=2)
    with strategy.attach(net, CARD), torch.inference_mode():
        found = [net(x) for _ in range(4)]
        next(iter(net.blocks))(x)  # a pass that is left
        found.append(net(x))
        assert all(torch.equal(y, wanted) for y in found)
    assert {p.device.type for p in net.parameters()} <= {"cpu", "meta"}


@torch.no_grad()
def test_bytes_on_the_device_are_those_foretold():
    net, x = Wide(), asked(64)
    block = flat(tensors_of(net.blocks[0])).slab.bytes
    rest = flat(tensors_of(net.leave)).slab.bytes
    foretold = partition(LAYERS, resident=2).device_bytes(block, rest)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated(CARD)
    with replace(ring, resident_blocks=2).attach(net, CARD):
        found = torch.cuda.memory_allocated(CARD) - before
        assert foretold <= found <= foretold + 512 * (LAYERS + 1)
        net(x)
    del x
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated(CARD) <= before


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
