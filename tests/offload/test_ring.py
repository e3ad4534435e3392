"""A net under a ring gives the same bits, takes the bytes foretold, and is given back as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from longtake.core.errors import BadInput, Usage
from longtake.offload._flat import flat, tensors_of
from longtake.offload._host import Host
from longtake.offload._partition import partition
from longtake.offload._phases import phases
from longtake.offload.ring import plugin as ring
from longtake.offload.swap import plugin as swap
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

SIZES = ("block", "phase")
FLOATS = st.sampled_from([torch.float32, torch.bfloat16])
KINDS = st.sampled_from([Net, PhasedNet])
RINGS = st.builds(
    lambda resident, slots, size: replace(
        ring, resident_blocks=resident, slots=slots, granularity=size
    ),
    st.integers(0, 9), st.sampled_from([2, 3]), st.sampled_from(SIZES),
)  # fmt: skip


@contextmanager
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


# --- the same bits -------------------------------------------------------------------------------


@given(layers=st.integers(0, 9), dtype=FLOATS, strategy=RINGS, within=st.booleans(), kind=KINDS)
@settings(max_examples=80, deadline=None)
def test_equal_to_resident(
    layers: int, dtype: torch.dtype, strategy, within: bool, kind: type[Net]
):
    """Whether it is attached within inference mode or around it."""
    net, x = kind(layers, dtype), inputs(dtype)
    with inference():
        wanted, before = net(x), state(net)
    with inference() if within else torch.no_grad():
        with strategy.attach(net, "cpu") as placed:
            assert placed is net
            with inference():
                for _ in range(3):
                    assert torch.equal(net(x), wanted)
        assert same(state(net), before)
        assert torch.equal(net(x), wanted)
    net.requires_grad_()(x).sum().backward()  # it can be trained as before


@pytest.mark.parametrize("name", NETS)
@given(layers=st.integers(3, 6), dtype=FLOATS, strategy=RINGS)
@settings(max_examples=8, deadline=None)
def test_real_nets_are_equal_to_resident(name: str, layers: int, dtype: torch.dtype, strategy):
    net, ask = NETS[name](layers, dtype)
    with inference():
        wanted, before = ask(), state(net)
        assert all(x.isfinite().all() for x in wanted)
        with strategy.attach(net, "cpu"):
            for _ in range(2):
                found = ask()
                assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
        assert same(state(net), before)
        net.blocks = nn.ModuleList(reversed(list(net.blocks)))
        assert not torch.equal(ask()[-1], wanted[-1])  # the test can tell


def test_two_nets_at_once():
    first, second, x = Net(6, seed=1), Net(5, seed=2), inputs()
    with inference():
        wanted = first(x), second(x)
        with ring.attach(first, "cpu"), replace(ring, slots=3).attach(second, "cpu"):
            blocks = iter(first.blocks), iter(second.blocks)
            a, b = first.enter(x), second.enter(x)
            for _ in range(5):
                a, b = next(blocks[0])(a), next(blocks[1])(b)
            assert torch.equal(next(blocks[0])(a) * first.gain, wanted[0])
            assert torch.equal(b * second.gain, wanted[1])
            assert torch.equal(first(x), wanted[0])
            assert torch.equal(second(x), wanted[1])


def test_blocks_from_a_source_are_never_the_nets_own():
    net, x = Net(6), inputs()
    with inference():
        wanted = net(x)
        source = on_disk(net)
        with replace(ring, resident_blocks=2).attach(net, "cpu"):
            assert torch.equal(net(x), wanted)
            assert torch.equal(net(x), wanted)
        assert sorted(source.order) == list(range(6))  # each once, whatever the passes
        assert all(p.is_meta for p in net.blocks.parameters())


# --- bytes ---------------------------------------------------------------------------------------


@given(
    layers=st.integers(1, 9),
    strategy=RINGS,
    passes=st.integers(0, 3),
    turns=st.booleans(),
    kind=KINDS,
)
@settings(max_examples=60, deadline=None)
def test_memory_is_what_was_foretold(
    layers: int, strategy, passes: int, turns: bool, kind: type[Net]
):
    net = kind(layers)
    block = flat(tensors_of(net.blocks[0])).slab.bytes
    rest = flat({k: x for k, x in tensors_of(net).items() if "blocks" not in k}).slab.bytes
    parts = parts_of(net, strategy.granularity)
    where = partition(
        layers, resident=strategy.resident_blocks, slots=strategy.slots, phases=len(parts)
    )
    model: nn.Module = Container({"net": net}) if turns else net
    with pytest.MonkeyPatch.context() as patch, inference():
        (made := counted(patch)).clear()
        with strategy.attach(model, "cpu"):
            for _ in range(passes):
                model(inputs())
            copies = made[0]
            there = passes or not turns
            expected = where.device_bytes(block, rest, phase=max(parts))
            assert copies.held("device") == (expected if there else 0)
            assert copies.held("host") == where.host_bytes(block, rest, keeps=turns)
            assert copies.locked == len(where.host) + (len(where.device) if turns else 0) + 1
            waiting = sum(x.nbytes() for x in storages(net.state_dict()))
            assert waiting <= copies.held("host") + copies.held("device")  # and no other copy
            sent = copies.copied
        ahead = sum((parts * 3)[: where.slots]) if there else 0
        assert sent == passes * where.bytes_copied(sum(parts)) + ahead
        assert copies.locked == 0
    if turns or not where.device:
        assert copies.held("device") == 0
    del net, model
    assert copies.held("device") + copies.held("host") == 0


def parts_of(net: nn.Module, granularity: str) -> tuple[int, ...]:
    """Bytes of what comes at a time."""
    block = net.get_submodule("blocks.0")
    laid = flat(tensors_of(block)).slab
    if granularity == "block" or not isinstance(block, Phased):
        return (laid.bytes,)
    return tuple(phase.slab.bytes for phase in phases(laid, block.phases))


def storages(tensors: dict[str, Tensor]) -> list[torch.UntypedStorage]:
    found = {x.untyped_storage().data_ptr(): x.untyped_storage() for x in tensors.values()}
    return list(found.values())


# --- nets that take turns ------------------------------------------------------------------------


def a_container() -> Container:
    """Two nets with blocks, one without, one twice as deep."""
    plain = nn.Sequential(nn.Linear(24, 24), nn.Tanh())
    return Container({"text": Net(4, seed=3), "plain": plain, "deep": Net(8, seed=4)})


@given(strategy=RINGS)
@settings(max_examples=15, deadline=None)
def test_nets_that_take_turns(strategy):
    model, x = a_container(), inputs()
    bring = model.bring
    with inference():
        wanted, before = model(x), state(model)
        with strategy.attach(model, "cpu"):
            for _ in range(3):
                assert torch.equal(model(x), wanted)
            model.bring("plain")
            with pytest.raises(RuntimeError, match="not its turn"):
                model["deep"](x)
        assert same(state(model), before)
        assert model.bring is bring
        assert torch.equal(model(x), wanted)
        with swap.attach(model, "cpu"):
            assert torch.equal(model(x), wanted)


def test_of_nets_that_take_turns_one_is_on_the_device(monkeypatch: pytest.MonkeyPatch):
    made, model = counted(monkeypatch), a_container()
    with inference(), ring.attach(model, "cpu"):
        assert [x.held("device") for x in made] == [0, 0]
        for name, there in (("text", 0), ("deep", 1), ("plain", None), ("text", 0)):
            model.bring(name)
            assert [x.held("device") > 0 for x in made] == [i == there for i in range(2)]


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("model", [Net(3), a_container()], ids=["net", "container"])
def test_attached_once(model: nn.Module):
    with inference():
        wanted = model(inputs())
        with ring.attach(model, "cpu"):
            with pytest.raises(Usage, match="streamed already"), ring.attach(model, "cpu"):
                pass
            assert torch.equal(model(inputs()), wanted)


@pytest.mark.parametrize("knobs", [{"resident_blocks": -1}, {"slots": 1}, {"slots": 4}])
def test_numbers_out_of_range(knobs: dict[str, int]):
    with pytest.raises(Usage, match="|".join(f"{k}={v}" for k, v in knobs.items())):
        replace(ring, **knobs)


def test_blocks_that_differ_are_refused_and_left_alone(monkeypatch: pytest.MonkeyPatch):
    made, net = counted(monkeypatch), Net(4)
    net.blocks[2].turn.bias = None
    before, blocks = state(net), net.blocks
    with pytest.raises(Usage, match=r"a tensor of block 2\.turn"), ring.attach(net, "cpu"):
        pass
    assert same(state(net), before)
    assert net.blocks is blocks
    assert made[0].locked == 0


def test_blocks_without_values_are_refused():
    net = Net(4)
    net.blocks.to("meta")
    with pytest.raises(Usage, match="no block_source"), ring.attach(net, "cpu"):
        pass


def test_a_net_made_in_inference_mode_is_refused():
    with inference():
        net = Net(4)
        with pytest.raises(RuntimeError, match="inference mode"), ring.attach(net, "cpu"):
            pass
        net(inputs())


def test_stored_blocks_of_another_net_are_refused():
    net = Net(4)
    with torch.no_grad():
        for other in (Net(5), Net(4, torch.bfloat16)):
            net.block_source = Source(other.blocks)
            with pytest.raises(BadInput), ring.attach(net, "cpu"):
                pass


class Scarce(Counted):
    """Gives so much and no more."""

    left: ClassVar[dict[str, int]]

    def host(self, size: int) -> Host:
        self._spend("host")
        return super().host(size)

    def room(self, size: int) -> Tensor:
        self._spend("room")
        return super().room(size)

    def _spend(self, what: str) -> None:
        self.left[what] -= 1
        if self.left[what] < 0:
            raise MemoryError(what)


@pytest.mark.parametrize("turns", [False, True])
@pytest.mark.parametrize("place", ["host", "room"])
def test_memory_that_ends_midway(monkeypatch: pytest.MonkeyPatch, place: str, turns: bool):
    """Wherever it does, all is as before, and with more of it all is well."""
    made, x, refused = counted(monkeypatch, Scarce), inputs(), 0
    net = Net(5)
    model: nn.Module = Container({"net": net}) if turns else net
    with inference():
        wanted, before, blocks = model(x), state(model), net.blocks
        while True:
            Scarce.left = {"host": 99, "room": 99, place: refused}
            try:
                with replace(ring, resident_blocks=2).attach(model, "cpu"):
                    assert torch.equal(model(x), wanted)
                    break
            except MemoryError:
                refused += 1
            finally:
                assert net.blocks is blocks
                assert same(state(model), before)
                assert made[-1].locked == 0
            assert not turns or made[-1].held("device") == 0
    # the rest; on the device 2 blocks and 2 slots, on the host 3 blocks, or all
    assert refused == {"room": 1 + 2 + 2, "host": 1 + (5 if turns else 3)}[place]
