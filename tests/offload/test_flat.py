"""Tensors as one run of bytes: nothing of them is lost; shells; blocks that are not alike."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from longtake.core.blocks import ALIGNED, PAGE
from longtake.core.errors import BadInput
from longtake.offload._flat import (
    become,
    differing,
    flat,
    flat_as_stored,
    shell,
    tensors_of,
)
from tests.offload.toys import Block, Net, inputs

DTYPES = [
    torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.int64,
    torch.int8, torch.bool, torch.complex64, torch.uint16,
]  # fmt: skip


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Any dtype, up to 4 axes in any order."""
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    order = draw(st.permutations(range(len(shape))))
    dtype = draw(st.sampled_from(DTYPES))
    values = torch.randint(0, 2, [shape[i] for i in order]).to(dtype)
    return values.permute([order.index(i) for i in range(len(shape))])


@given(st.lists(tensors(), max_size=6))
def test_values_strides_and_dtypes_stay(given: list[Tensor]):
    named = {f"t{number}": x for number, x in enumerate(given)}
    layout = flat(named)
    memory = torch.full((layout.slab.bytes,), 0xFF, dtype=torch.uint8)
    layout.fill(memory, named)
    assert layout.slab.bytes % PAGE == 0
    for name, view in layout.views(memory).items():
        x = named[name]
        assert (view.dtype, view.shape) == (x.dtype, x.shape)
        assert torch.equal(view, x)
        assert x.numel() < 2 or torch.empty_like(x).stride() == view.stride()
        assert view.storage_offset() * view.element_size() % ALIGNED == 0


def test_gaps_are_closed():
    whole = torch.arange(24.0).view(4, 6)
    named = {"columns": whole[:, :3], "again": whole[:1].expand(5, 6)}
    layout = flat(named)
    assert [field.bytes for field in layout.slab.fields] == [48, 120]
    memory = torch.zeros(layout.slab.bytes, dtype=torch.uint8)
    layout.fill(memory, named)
    assert all(torch.equal(view, named[k]) for k, view in layout.views(memory).items())


def test_a_shell_computes_with_what_lies_in_its_memory():
    net = Net(2)
    a, b = net.blocks
    layout = flat(tensors_of(a))
    memory = torch.zeros(layout.slab.bytes, dtype=torch.uint8)
    made = shell(a, layout.views(memory))
    with torch.no_grad():
        for block in (b, a):
            layout.fill(memory, tensors_of(block))
            assert torch.equal(made(inputs()), block(inputs()))
    start, stop = memory.data_ptr(), memory.data_ptr() + len(memory)
    assert all(start <= x.data_ptr() < stop for x in tensors_of(made).values())
    assert tensors_of(made).keys() == tensors_of(a).keys()
    assert not any(x.requires_grad for x in made.parameters())
    assert all(x.requires_grad for x in a.parameters())


def test_become_keeps_who_they_are():
    block = Block(torch.float32)
    before = dict(block.named_parameters())
    values = {k: x.detach().clone() for k, x in tensors_of(block).items()}
    become(tensors_of(block), values)
    assert dict(block.named_parameters()) == before  # the same objects
    assert all(x.data_ptr() == values[k].data_ptr() for k, x in tensors_of(block).items())
    become(tensors_of(block), torch.Tensor.clone)
    assert all(x.data_ptr() != values[k].data_ptr() for k, x in tensors_of(block).items())


def changed(how: str) -> nn.Module:
    block = Block(torch.float32)
    if how == "wider":
        block.turn = nn.Linear(24, 25)
    elif how == "number":
        block.eps = 1e-3
    elif how == "inner number":
        block.turn.in_features = 3
    elif how == "type":
        block.turn = nn.Identity()
    elif how == "module":
        block.more = nn.Identity()
    elif how == "dtype":
        block.turn = block.turn.double()
    elif how == "strides":
        block.turn.weight.data = block.turn.weight.data.t().contiguous().t()
    elif how == "hook":
        block.register_forward_hook(lambda *_: None)
    return block


HOWS = ["wider", "number", "inner number", "type", "module", "dtype", "strides", "hook"]


@pytest.mark.parametrize("how", HOWS)
def test_blocks_that_are_not_alike(how: str):
    like = [Block(torch.float32) for _ in range(2)]
    assert differing(like) is None
    found = differing([*like, changed(how)])
    assert found is not None
    assert "block 2" in found
    assert differing([copy.deepcopy(changed(how))]) is None


def test_stored_blocks_of_another_net_are_refused():
    named = tensors_of(Block(torch.float32))
    stored = flat(named).slab
    assert flat_as_stored(stored, named) == flat(named)
    with pytest.raises(BadInput, match=r"1 tensors differ, the first is shift: stored nothing"):
        flat_as_stored(replace(stored, fields=stored.fields[:-1]), named)
    with pytest.raises(BadInput, match=r"7 tensors|6 tensors"):
        flat_as_stored(flat(tensors_of(Block(torch.bfloat16))).slab, named)
