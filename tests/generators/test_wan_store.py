"""Files are whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longtake.core.errors import BadInput
from longtake.generators import _wan_store as store

TENSORS = {
    "a": torch.arange(12.0).reshape(3, 4).T,
    "b": torch.arange(5, dtype=torch.bfloat16),
}
FACTS = {"identity": "recipe é", "step": "3"}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "there" / "x.safetensors"
    store.write(path, TENSORS, FACTS)
    tensors, facts = store.read(path)
    assert facts == FACTS
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert [p.name for p in path.parent.iterdir()] == ["x.safetensors"]


@given(place=st.integers(0, 10**6), bit=st.integers(0, 7), cut=st.booleans())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_damage_is_seen(tmp_path: Path, place: int, bit: int, cut: bool) -> None:
    """But for damage to letters of the header that mean nothing, which is none."""
    path = tmp_path / "x.safetensors"
    store.write(path, TENSORS, FACTS)
    payload = bytearray(path.read_bytes())
    place %= len(payload)
    if cut:
        del payload[place:]
    else:
        payload[place] ^= 1 << bit
    path.write_bytes(bytes(payload))
    try:
        tensors, facts = store.read(path)
    except BadInput:
        return
    assert facts == FACTS
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)


def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.safetensors"
    store.write(path, TENSORS, FACTS)

    def full(handle: int) -> None:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        store.write(path, {"a": torch.zeros(1)}, {})
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]
    assert store.read(path)[1] == FACTS


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(FileNotFoundError):
        store.read(path)
    for payload in (b"", b"\0" * 40, b"\xff" * 100):
        path.write_bytes(payload)
        with pytest.raises(BadInput, match="damaged"):
            store.read(path)
