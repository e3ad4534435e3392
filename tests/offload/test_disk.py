"""Blocks read anew in every pass: the same bits, order, bytes; sources that fail or are slow."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from longtake.core.errors import BadInput, Usage
from longtake.offload._flat import flat, tensors_of
from longtake.offload._partition import partition
from longtake.offload._phases import phases
from longtake.offload._stalls import stalls
from longtake.offload.disk import Disk
from longtake.offload.disk import plugin as disk
from tests.offload.nets import NETS
from tests.offload.toys import (
    Container,
    Counted,
    Net,
    Phased,
    PhasedNet,
    Source,
    counted,
    inputs,
    on_disk,
    same,
    state,
)


@st.composite
def disks(draw: st.DrawFn) -> Disk:
    return replace(
        disk,
        resident_blocks=draw(st.integers(0, 8)),
        host_blocks=draw(st.integers(0, 8)),
        slots=draw(st.sampled_from([2, 3])),
        disk_workers=draw(st.integers(1, 4)),
        read_ahead=draw(st.integers(2, 5)),
        granularity=draw(st.sampled_from(["block", "phase"])),
    )


# --- the same bits -------------------------------------------------------------------------------


@given(
    layers=st.integers(1, 9),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    strategy=disks(),
    stop=st.integers(0, 9),
    jitter=st.integers(0, 5),
    kind=st.sampled_from([Net, PhasedNet]),
)
@settings(max_examples=80, deadline=None)
def test_equal_to_resident(
    layers: int, dtype: torch.dtype, strategy: Disk, stop: int, jitter: int, kind: type[Net]
):
    """However late each read is, and after a pass that was left in the middle."""
    net, x = kind(layers, dtype), inputs(dtype)
    with torch.no_grad():
        wanted = net(x)
        on_disk(net, lambda number, block: time.sleep(0.0002 * (number * 7 % (jitter + 1))))
        with strategy.attach(net, "cpu") as placed, torch.inference_mode():
            assert torch.equal(placed(x), wanted)
            for number, block in enumerate(net.blocks):
                if number == stop:
                    break
                block(x)
            for _ in range(2):
                assert torch.equal(net(x), wanted)
    assert all(p.is_meta for p in net.blocks.parameters())
    assert torch.equal(net.enter.weight, kind(layers, dtype).enter.weight)


@pytest.mark.parametrize("name", [name for name in NETS if name != "lite"])
@given(dtype=st.sampled_from([torch.float32, torch.bfloat16]), strategy=disks())
@settings(max_examples=4, deadline=None)
def test_real_nets_are_equal_to_resident(name: str, dtype: torch.dtype, strategy: Disk):
    net, ask = NETS[name](6, dtype)
    with torch.no_grad():
        wanted = ask()
        on_disk(net)
        with strategy.attach(net, "cpu"), torch.inference_mode():
            for _ in range(2):
                assert all(torch.equal(a, b) for a, b in zip(ask(), wanted, strict=True))


@given(strategy=disks())
@settings(max_examples=10, deadline=None)
def test_nets_that_take_turns(strategy: Disk):
    """One of them in memory as ever."""
    model = Container({"text": Net(4, seed=3), "plain": nn.Linear(24, 24), "deep": Net(8, seed=4)})
    x = inputs()
    with torch.no_grad():
        wanted, before = model(x), state(model["text"])
        on_disk(model["deep"])
        with strategy.attach(model, "cpu"):
            for _ in range(3):
                assert torch.equal(model(x), wanted)
        assert same(state(model["text"]), before)


def test_two_nets_of_one_shape_never_mix():
    """What a known library's disk offload does, quietly."""
    nets, x = [Net(6, seed=seed) for seed in (1, 2)], inputs()
    with torch.no_grad():
        wanted = [net(x) for net in nets]
        for net in nets:
            on_disk(net)
        with disk.attach(nets[0], "cpu"), disk.attach(nets[1], "cpu"):
            for _ in range(2):
                assert all(torch.equal(net(x), y) for net, y in zip(nets, wanted, strict=True))


# --- order and bytes -----------------------------------------------------------------------------


@given(layers=st.integers(1, 9), strategy=disks(), passes=st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_reads_and_memory_are_what_was_foretold(layers: int, strategy: Disk, passes: int):
    strategy = replace(strategy, disk_workers=1)
    net = PhasedNet(layers)
    whole = flat(tensors_of(net.blocks[0])).slab
    parts = phases(whole, Phased.phases) if strategy.granularity == "phase" else [whole]
    block = flat(tensors_of(net.blocks[0])).slab.bytes
    rest = flat({k: x for k, x in tensors_of(net).items() if "blocks" not in k}).slab.bytes
    where = partition(
        layers, resident=strategy.resident_blocks, host=strategy.host_blocks,
        slots=strategy.slots, read_ahead=strategy.read_ahead, phases=len(parts),
    )  # fmt: skip
    source = on_disk(net)
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        made = counted(patch)
        with strategy.attach(net, "cpu"):
            for _ in range(passes):
                net(inputs())
            copies = made[0]
            largest = max(getattr(part, "slab", part).bytes for part in parts)
            assert copies.held("device") == where.device_bytes(block, rest, phase=largest)
            assert copies.held("host") == where.host_bytes(block, rest)
            assert copies.locked == len(where.host) + where.read_ahead + 1
        assert copies.held("device") == copies.locked == 0
        assert copies.held("host") == rest  # the net's own from now on
    first, again = (
        source.order[: layers - len(where.disk)],
        source.order[layers - len(where.disk) :],
    )
    assert sorted(first) == sorted(where.host + where.device)  # once, whatever the passes
    count = len(where.disk)
    assert again == [where.disk[i % count] for i in range(len(again))]
    ahead = where.read_ahead + where.slots
    assert passes * count <= len(again) <= passes * count + ahead


def test_readers_run_ahead_and_together():
    together = threading.Barrier(3)

    def trouble(number: int, block: int) -> None:
        if number < 3:
            together.wait(10)  # breaks if fewer than three read at once

    net = Net(6)
    with torch.no_grad():
        wanted = net(inputs())
        source = on_disk(net, trouble)
        with replace(disk, disk_workers=3).attach(net, "cpu"):
            assert torch.equal(net(inputs()), wanted)
    assert source.most == 3


def test_a_slow_source_is_waited_for_and_that_is_counted():
    net = Net(6)
    with torch.no_grad():
        wanted = net(inputs())
        on_disk(net, lambda number, block: time.sleep(0.01))
        with replace(disk, host_blocks=2, disk_workers=1).attach(net, "cpu"):
            began = time.perf_counter()
            assert torch.equal(net(inputs()), wanted)
            passed = time.perf_counter() - began
            slow = stalls(net)
            assert 0.01 <= slow.on_reads <= slow.seconds <= passed
        source = Source.__new__(Source)
        source.__dict__.update(net.block_source.__dict__, trouble=lambda number, block: None)
        net.block_source = source
        with replace(disk, host_blocks=2, disk_workers=1).attach(net, "cpu"):
            assert torch.equal(net(inputs()), wanted)
            assert stalls(net).on_reads < slow.on_reads


# --- sources that fail ---------------------------------------------------------------------------


@given(fails=st.integers(0, 20), resident=st.integers(0, 2), host=st.integers(0, 2))
@settings(max_examples=30, deadline=None)
def test_an_error_comes_out_of_the_forward_and_all_goes_on(fails: int, resident: int, host: int):
    error, net, x = BadInput("the stored block is damaged"), Net(6), inputs()
    failed = []

    def trouble(number: int, block: int) -> None:
        if number == fails:
            failed.append(block)
            raise error

    strategy = replace(disk, resident_blocks=resident, host_blocks=host, disk_workers=2)
    with torch.no_grad():
        wanted = net(x)
        on_disk(net, trouble)
        if fails < resident + host:  # these are read when it is attached
            with pytest.raises(BadInput) as told, strategy.attach(net, "cpu"):
                pass
            assert told.value is error
        with strategy.attach(net, "cpu"):
            told_of = []
            for _ in range(5):
                try:
                    assert torch.equal(net(x), wanted)
                except BadInput as found:
                    told_of.append(found)
            assert told_of in ([], [error])
            if 0 <= fails - resident - host < 4 * (6 - resident - host):
                assert told_of == [error]
        assert len(failed) <= 1


class Broken(Exception):
    pass


def test_a_source_that_is_closed_fails_every_pass_and_nothing_hangs():
    net, gone = Net(6), threading.Event()

    def trouble(number: int, block: int) -> None:
        if gone.is_set():
            raise Broken(f"block {block}: the file is closed")

    with torch.no_grad():
        on_disk(net, trouble)
        with disk.attach(net, "cpu"):
            net(inputs())
            gone.set()
            failures: list[Any] = []
            for _ in range(3):
                try:
                    net(inputs())
                except Broken as error:
                    failures.append(error)
            assert len(failures) >= 2  # what had been read ahead may have been enough for one


def test_left_while_a_block_is_read():
    """By an error in the caller: it comes through at once the read under way has ended."""
    reading, go_on, net = threading.Event(), threading.Event(), Net(6)

    def trouble(number: int, block: int) -> None:
        if number == 4:
            reading.set()
            assert go_on.wait(10)

    with torch.no_grad():
        source = on_disk(net, trouble)
        threading.Timer(0.05, go_on.set).start()
        with pytest.raises(Broken), replace(disk, disk_workers=1).attach(net, "cpu"):
            for _ in net.blocks:
                if reading.is_set():
                    raise Broken
                time.sleep(0.005)
    assert len(source.order) <= 6


class Failing(Counted):
    """As a device on which nothing works any more."""

    def copy(self, slot: Tensor, runs: Sequence[Tensor]) -> None:
        if len(self.log) > 9:
            raise Broken
        super().copy(slot, runs)


def test_where_copies_fail_all_is_given_back(monkeypatch: pytest.MonkeyPatch):
    made, net = counted(monkeypatch, Failing), Net(6)
    with torch.no_grad():
        on_disk(net)
        blocks, before = net.blocks, state(net)
        with pytest.raises(Broken), disk.attach(net, "cpu"):
            net(inputs())
        assert net.blocks is blocks
        assert same({k: x for k, x in before.items() if not x.is_meta}, rest_of(net))
    gc.collect()  # the thread's error knew the slot
    assert made[0].locked == made[0].held("device") == 0


def rest_of(net: nn.Module) -> dict[str, Tensor]:
    return {key: value for key, value in state(net).items() if not value.is_meta}


# --- what is refused -----------------------------------------------------------------------------


def test_a_model_without_a_source():
    for model in (Net(4), Container({"net": Net(4)})):
        with pytest.raises(Usage, match="block_source"), disk.attach(model, "cpu"):
            pass


@pytest.mark.parametrize(
    "knobs",
    [{"resident_blocks": -1}, {"host_blocks": -1}, {"slots": 1}, {"disk_workers": 0},
     {"read_ahead": 1}],
)  # fmt: skip
def test_numbers_out_of_range(knobs: dict[str, int]):
    with pytest.raises(Usage, match="|".join(f"{k}={v}" for k, v in knobs.items())):
        replace(disk, **knobs)


def test_stored_blocks_of_another_net():
    net = Net(4)
    with torch.no_grad():
        on_disk(net)
        for other in (Net(5), Net(4, torch.bfloat16)):
            net.block_source = Source(other.blocks)
            with pytest.raises(BadInput), disk.attach(net, "cpu"):
                pass
