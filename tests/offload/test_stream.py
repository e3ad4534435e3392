"""The ring's logic: order of what it asks for, passes that end early, and rings that are broken."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from longtake.offload import _attach
from longtake.offload._flat import flat, tensors_of
from longtake.offload._stream import Streamed
from longtake.offload.ring import plugin as ring
from tests.offload.toys import Counted, Net, PhasedNet, counted, inputs

LAYERS = 5


class Late(Counted):
    late = 0.003


@torch.no_grad()
def made(net: nn.Module, passes: int = 3) -> list[torch.Tensor]:
    """Of several passes under a ring."""
    with ring.attach(net, "cpu") as placed:
        return [placed(inputs()) for _ in range(passes)]


def test_late_copies_change_nothing(monkeypatch: pytest.MonkeyPatch):
    counted(monkeypatch, Late)
    net = Net(LAYERS)
    with torch.no_grad():
        wanted = net(inputs())
    assert all(torch.equal(x, wanted) for x in made(net))


# --- rings that are broken: poison tells ---------------------------------------------------------


class NeverWaits(Late):
    def wait(self, slot: int) -> None:
        self.log.append(("wait", slot))


class FreesEarly(Streamed):
    """Says that a block has computed before it has."""

    def __iter__(self) -> Iterator[nn.Module]:
        self._begin()
        for _ in range(self._count):
            block = self._arrived()
            self._leave()
            yield block
        self._whole = True


class SendsEarly(Streamed):
    """Sends into the slot that computes."""

    def _prefetch(self, wanted: bool = False) -> None:
        kept, self._used = self._used, self._used + 1
        super()._prefetch()
        self._used = kept


@pytest.mark.parametrize("broken", [NeverWaits, FreesEarly, SendsEarly])
def test_a_broken_ring_is_seen(monkeypatch: pytest.MonkeyPatch, broken: type):
    net = Net(LAYERS)
    with torch.no_grad():
        wanted = net(inputs())
    if issubclass(broken, Streamed):
        counted(monkeypatch, Late)
        monkeypatch.setattr(_attach, "Streamed", broken)
    else:
        counted(monkeypatch, broken)
    found = made(net)
    if broken is SendsEarly:  # copies land in the midst: other numbers, or none
        assert not all(torch.equal(x, wanted) for x in found)
    else:
        assert all(x.isnan().any() for x in found)


# --- passes --------------------------------------------------------------------------------------


@given(
    layers=st.integers(1, 8),
    resident=st.integers(0, 5),
    slots=st.sampled_from([2, 3]),
    stops=st.lists(st.integers(0, 8), max_size=4),
    closes=st.booleans(),
    size=st.sampled_from(["block", "phase"]),
)
@settings(max_examples=60, deadline=None)
def test_a_pass_may_end_anywhere(
    layers: int, resident: int, slots: int, stops: list[int], closes: bool, size: str
):
    net, x = PhasedNet(layers), inputs()
    with torch.no_grad():
        wanted = net(x)
        strategy = replace(ring, resident_blocks=resident, slots=slots, granularity=size)
        with strategy.attach(net, "cpu"):
            left = []
            for stop in stops:
                blocks = iter(net.blocks)
                for _ in range(min(stop, layers)):
                    next(blocks)(x)
                if closes:
                    blocks.close()
                left.append(blocks)
            assert len(net.blocks) == layers
            assert torch.equal(net(x), wanted)
            for blocks, stop in zip(left, stops, strict=True):
                if stop and not closes:  # what has been overtaken does not go on
                    with pytest.raises(RuntimeError, match="another pass"):
                        next(blocks)
            assert torch.equal(net(x), wanted)


def test_an_exception_in_a_pass(monkeypatch: pytest.MonkeyPatch):
    made = counted(monkeypatch)
    net, x = Net(LAYERS), inputs()
    with torch.no_grad(), ring.attach(net, "cpu"):
        wanted = net(x)
        with pytest.raises(ValueError, match="in the middle"):
            for number, block in enumerate(net.blocks):
                block(x)
                if number == 2:
                    raise ValueError("in the middle")
        assert torch.equal(net(x), wanted)
        for slot in (0, 1):  # what was left computing is free before anything is sent there
            turns = [what for what, where in made[0].log if where == slot]
            assert ("wait", "put") not in set(pairwise(turns))
    assert list(block.parameters())  # who still has one has no weights
    assert not made[0].held("device")


def test_the_first_block_comes_while_the_last_ones_compute(monkeypatch: pytest.MonkeyPatch):
    """And a slot is asked for only once it is free, waited for before it computes."""
    made = counted(monkeypatch)
    net = Net(LAYERS)
    with torch.no_grad(), ring.attach(net, "cpu"):
        log = made[0].log
        assert log == [("put", 0), ("put", 1)]
        for _ in range(3):
            net(inputs())
            assert [what for what, _ in log].count("put") % LAYERS == 2  # the next pass's two
        for slot in (0, 1):
            turns = [what for what, where in log if where == slot]
            assert turns[:6] == ["put", "wait", "free"] * 2
            assert set(pairwise(turns)) == {
                ("put", "wait"), ("wait", "free"), ("free", "put"),
            }  # fmt: skip
    block = flat(tensors_of(net.blocks[0])).slab.bytes
    assert made[0].copied == sum(what == "put" for what, _ in log) * block


class Noting(Counted):
    """Notes how many copies have come."""

    def __init__(self) -> None:
        super().__init__()
        self.came = 0

    def copy(self, slot: torch.Tensor, runs: Sequence[torch.Tensor]) -> None:
        super().copy(slot, runs)
        self.came += 1


@pytest.mark.parametrize("slots", [2, 3])
def test_the_next_ones_come_while_one_computes(monkeypatch: pytest.MonkeyPatch, slots: int):
    """Round and round: no block has to end for it."""
    made, net = counted(monkeypatch, Noting), Net(LAYERS)
    with torch.no_grad(), replace(ring, slots=slots).attach(net, "cpu"):
        for number in range(3 * LAYERS):
            if number % LAYERS == 0:
                blocks = iter(net.blocks)
            next(blocks)
            deadline = time.monotonic() + 10
            while made[0].came < number + slots:
                assert time.monotonic() < deadline
                time.sleep(0.0005)
            if number % LAYERS == LAYERS - 1:
                assert next(blocks, None) is None


def test_blocks_that_are_gone_say_so():
    net = Net(LAYERS)
    with torch.no_grad():
        with ring.attach(net, "cpu"):
            blocks = net.blocks
            begun = iter(blocks)
            next(begun)
        with pytest.raises(RuntimeError, match="they are gone"):
            next(begun)
        with pytest.raises(RuntimeError, match="not on the device"):
            next(iter(blocks))
