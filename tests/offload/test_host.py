"""Memory of exact size at a page's address, in pieces, given back with its last view."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longtake.core.blocks import PAGE
from longtake.offload import _host
from longtake.offload._host import Host


@given(size=st.integers(0, 20 * PAGE), pages=st.integers(1, 6))
def test_whole_pages_in_pieces(size: int, pages: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_host, "PIECE", pages * PAGE)
        host = Host(size)
        pieces = list(host.pieces())
    assert host.size == len(host.tensor) == len(host.bytes) == max(-(-size // PAGE), 1) * PAGE
    assert pieces[0][0] == host.tensor.data_ptr()
    assert sum(length for _, length in pieces) == host.size
    for (address, length), (after, _) in pairwise(pieces):
        assert address + length == after
    assert all(not (address | length) % PAGE for address, length in pieces)
    assert all(length <= pages * PAGE for _, length in pieces)


def test_bytes_and_tensor_are_one():
    host = Host(PAGE)
    host.bytes[:3] = b"abc"
    assert host.tensor[:4].tolist() == [97, 98, 99, 0]
    host.locked(True)
    host.tensor[1] = 7
    host.locked(False)
    assert bytes(host.bytes[:3]) == b"a\x07c"


def mapped(address: int) -> bool:
    with open("/proc/self/maps") as lines:
        ranges = (line.split(" ")[0].split("-") for line in lines)
        return any(int(a, 16) <= address < int(b, 16) for a, b in ranges)


def test_a_view_keeps_it_and_nothing_else():
    host = Host(512 * PAGE)
    address = host.tensor.data_ptr()
    view = host.tensor[PAGE : 2 * PAGE].view(torch.float32)[3:]
    del host
    assert view.sum() == 0
    assert mapped(address)
    del view
    assert not mapped(address)
