"""Blocks that come phase by phase: how they are cut, what is refused, passes that end there."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from longtake.core.blocks import ALIGNED, slab
from longtake.core.errors import Usage
from longtake.nets import umt5_needs
from longtake.nets.umt5 import UmT5
from longtake.nets.wan import needs, sizes
from longtake.nets.wan.dit import DiT
from longtake.offload import _attach
from longtake.offload._copies import Sent
from longtake.offload._flat import flat, tensors_of
from longtake.offload._phases import Declared, phases
from longtake.offload._stream import Streamed
from longtake.offload.disk import plugin as disk
from longtake.offload.ring import plugin as ring
from tests.offload.toys import (
    Container,
    Counted,
    Net,
    Phased,
    PhasedNet,
    Source,
    counted,
    inputs,
)

MIB = 1 << 20
LAYERS = 5
by_phase = replace(ring, granularity="phase")


# --- cut -----------------------------------------------------------------------------------------


@given(
    lengths=st.lists(st.integers(0, 700), min_size=3, max_size=9),
    draws=st.lists(st.sets(st.integers(0, 2), min_size=1), min_size=9, max_size=9),
)
def test_runs_hold_the_tensors_of_a_phase(lengths: list[int], draws: list[set[int]]):
    """Whichever phases read them, and as few runs as there are gaps."""
    sets = [set(range(3)) if i == 0 else draws[i] for i in range(len(lengths))]
    laid = slab((f"t{i}.weight", "uint8", (n,)) for i, n in enumerate(lengths))
    declared = {
        f"p{part}": [f"t{i}" for i, among in enumerate(sets) if part in among] for part in range(3)
    }
    block = np.zeros(laid.bytes, np.uint8)
    for number, field in enumerate(laid.fields):
        block[field.offset : field.offset + field.bytes] = number + 1
    found = phases(laid, declared)
    for part, phase in enumerate(found):
        slot = np.concatenate([block[run] for run in phase.runs])
        assert len(slot) == phase.slab.bytes
        numbers = [i for i, among in enumerate(sets) if part in among]
        assert [field.name for field in phase.slab.fields] == [f"t{i}.weight" for i in numbers]
        for number, field in zip(numbers, phase.slab.fields, strict=True):
            assert field.offset % ALIGNED == 0
            there = slot[field.offset : field.offset + field.bytes]
            assert len(there) == lengths[number]
            assert (there == number + 1).all()
        wide = [i for i in numbers if lengths[i]]
        gaps = sum(any(lengths[k] for k in range(a + 1, b)) for a, b in pairwise(wide))
        assert sum(run.stop > run.start for run in phase.runs) <= gaps + 1


def bytes_of(declared: Declared, tensors: dict[str, int]) -> list[int]:
    """Of each phase, for tensors of these bytes."""
    laid = slab((key, "uint8", (size,)) for key, size in tensors.items())
    return [phase.slab.bytes for phase in phases(laid, declared)]


@pytest.mark.parametrize(
    ("config", "matrices", "largest", "block"),
    [(sizes.T2V_14B, None, 270, 670), (sizes.I2V_14B, None, 300, 770),
     (sizes.T2V_14B, "int8", 135, 335), (sizes.T2V_1_3B, None, 52.5, 88.6)],
)  # fmt: skip
def test_wans_phases(config: sizes.DiTConfig, matrices: str | None, largest: float, block: float):
    """MiB of a slot and of a block; all phases together take hardly more than the block."""
    with torch.device("meta"):
        own = tensors_of(DiT(replace(config, layers=1)).bfloat16().get_submodule("blocks.0"))
    found = bytes_of(
        sizes.PHASES,
        {
            key: x.numel() * (1 if matrices and sizes.matrix(key, tuple(x.shape)) else 2)
            for key, x in own.items()
        },
    )
    assert max(found) / MIB == pytest.approx(largest, rel=0.01)
    assert sum(found) / MIB == pytest.approx(block, rel=0.01)
    assert sum(found) < needs.weights(config, "bfloat16", matrices).block * 1.001


def test_umt5s_phases():
    with torch.device("meta"):
        own = tensors_of(UmT5(umt5_needs.UmT5Config(layers=1)).bfloat16().get_submodule("blocks.0"))
    found = bytes_of(umt5_needs.PHASES, {key: x.nbytes for key, x in own.items()})
    assert [round(x / MIB) for x in found] == [128, 240]


class Forgetful(Phased):
    """Does not say all that it reads."""

    phases: ClassVar = {**Phased.phases, "second": ("grow", "shift")}


class Partial(Phased):
    phases: ClassVar = {**Phased.phases, "third": ("shrink.weight",)}


class Idle(Phased):
    phases: ClassVar = {**Phased.phases, "fourth": ("turned",)}

    def fourth(self, x: Tensor) -> Tensor:
        return x


def net_of(block: type[Phased], layers: int = LAYERS) -> Net:
    return type("Some", (Net,), {"block": block})(layers)


@torch.no_grad()
@pytest.mark.parametrize(
    ("block", "told"), [(Partial, "No phase .* has shrink.bias"), (Idle, "fourth .* no tensor")]
)
def test_phases_that_do_not_add_up_are_refused(block: type[Phased], told: str):
    net = net_of(block)
    with pytest.raises(Usage, match=told), by_phase.attach(net, "cpu"):
        pass
    with ring.attach(net, "cpu"):
        assert net(inputs()).isfinite().all()


@torch.no_grad()
def test_a_tensor_that_no_phase_brought_cannot_be_computed_with():
    net = net_of(Forgetful)
    with by_phase.attach(net, "cpu"), pytest.raises(RuntimeError, match="size"):
        net(inputs())


def test_granularities():
    for strategy in (ring, disk):
        with pytest.raises(Usage, match="granularity=layer must be block or phase"):
            replace(strategy, granularity="layer")


# --- passes --------------------------------------------------------------------------------------


@torch.no_grad()
def test_phases_are_gone_through_once_and_in_full():
    net, x = PhasedNet(LAYERS), inputs()
    wanted = net(x)
    with by_phase.attach(net, "cpu"):
        blocks = iter(net.blocks)
        block = next(blocks)
        for phase in block:
            x = phase(x)
        with pytest.raises(RuntimeError, match="once in a pass"):
            next(iter(block))
        second = iter(next(blocks))
        next(second)
        with pytest.raises(RuntimeError, match="not all phases of block 1"):
            next(blocks)
        assert torch.equal(net(inputs()), wanted)
        with pytest.raises(RuntimeError, match="another pass"):
            next(second)


@given(
    resident=st.integers(0, 3),
    slots=st.sampled_from([2, 3]),
    stops=st.lists(st.tuples(st.integers(0, LAYERS - 1), st.integers(0, 3)), max_size=4),
    host=st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_a_pass_may_end_within_a_block(
    resident: int, slots: int, stops: list[tuple[int, int]], host: int
):
    """And what was read for it is not overwritten before its copies have come."""
    net, x = PhasedNet(LAYERS), inputs()
    strategy = replace(
        disk, resident_blocks=resident, host_blocks=host, slots=slots, granularity="phase"
    )
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        wanted, made = net(x), counted(patch, Watched)
        net.block_source = Watching(net.blocks, made)
        with strategy.attach(net, "cpu"):
            for block_stop, stop in stops:
                for number, block in enumerate(net.blocks):
                    if number < block_stop:
                        block(x)
                        continue
                    for phase, _ in zip(iter(block), range(stop), strict=False):
                        phase(x if phase.__name__ != "third" else torch.cat((x, x), dim=1))
                    break
                assert torch.equal(net(x), wanted)
        assert not net.block_source.overwritten


class Watched(Counted):
    """Knows from where it is yet to copy."""

    late = 0.001

    def __init__(self) -> None:
        super().__init__()
        self.under_way: list[int] = []

    def put(self, slot: int, runs: Sequence[Tensor]) -> Sent:
        self.under_way.append(runs[0].untyped_storage().data_ptr())
        return super().put(slot, runs)

    def copy(self, slot: Tensor, runs: Sequence[Tensor]) -> None:
        super().copy(slot, runs)
        self.under_way.remove(runs[0].untyped_storage().data_ptr())


class Watching(Source):
    def __init__(self, blocks: nn.ModuleList, made: list[Watched]) -> None:
        super().__init__(blocks)
        self._made, self.overwritten = made, 0

    def read(self, index: int, into: memoryview) -> None:
        address = np.frombuffer(into, np.uint8).ctypes.data
        self.overwritten += address in self._made[-1].under_way
        super().read(index, into)


@torch.no_grad()
@pytest.mark.parametrize("slots", [2, 3])
def test_the_next_phases_come_while_one_computes(monkeypatch: pytest.MonkeyPatch, slots: int):
    """A slot is asked for only once it is free, and waited for before it computes."""
    made, net = counted(monkeypatch), PhasedNet(LAYERS)
    with replace(by_phase, slots=slots).attach(net, "cpu"):
        log = made[0].log
        for block in net.blocks:
            x = inputs()
            for phase in block:
                puts = [what for what, _ in log].count("put")
                frees = [what for what, _ in log].count("free")
                assert puts == frees + slots
                x = phase(x)
        net(inputs())
        for slot in range(slots):
            turns = [what for what, where in log if where == slot]
            assert turns[:6] == ["put", "wait", "free"] * 2
            assert set(pairwise(turns)) == {("put", "wait"), ("wait", "free"), ("free", "put")}


class Late(Counted):
    late = 0.002


class NeverWaits(Late):
    def wait(self, slot: int) -> None: ...


class FreesEarly(Streamed):
    def in_phases(self, number, first):
        for phase in self._phases:
            shell = self._arrived()
            self._leave()
            yield getattr(shell, phase.name)


@torch.no_grad()
@pytest.mark.parametrize("broken", [NeverWaits, FreesEarly])
def test_a_broken_ring_is_seen(monkeypatch: pytest.MonkeyPatch, broken: type):
    net = PhasedNet(LAYERS)
    counted(monkeypatch, broken if issubclass(broken, Counted) else Late)
    if issubclass(broken, Streamed):
        monkeypatch.setattr(_attach, "Streamed", broken)
    with by_phase.attach(net, "cpu"):
        assert net(inputs()).isnan().any()


@torch.no_grad()
def test_of_nets_that_take_turns_only_some_have_phases():
    model, x = Container({"text": PhasedNet(6, seed=1), "deep": Net(6, seed=2)}), inputs()
    wanted, threads = model(x), threading.active_count()
    with by_phase.attach(model, "cpu"):
        for _ in range(2):
            assert torch.equal(model(x), wanted)
    deadline = time.monotonic() + 5
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == threads


@torch.no_grad()
def test_a_slot_is_smaller_than_a_block(monkeypatch: pytest.MonkeyPatch):
    made, net = counted(monkeypatch), PhasedNet(8)
    block = flat(tensors_of(net.blocks[0])).slab.bytes
    rest = flat({k: x for k, x in tensors_of(net).items() if "blocks" not in k}).slab.bytes
    with by_phase.attach(net, "cpu"):
        assert made[0].held("device") < rest + 2 * 0.6 * block
        for left in net.blocks:
            phase = next(iter(left))
            phase(inputs())
            break
    assert phase.__self__.turn.weight.numel() == 0
    assert made[0].held("device") == 0
