"""What a job may take of a GPU is asked of torch, which a test stands in for."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from longtake.runtime import measure

GiB = 1 << 30


@pytest.mark.parametrize(
    ("most", "share"), [(8 * GiB, 7 / 24), (None, 1.0), (48 * GiB, 1.0), (GiB // 2, 0.0)]
)
def test_what_was_granted_less_the_context_is_the_limit(monkeypatch, most, share) -> None:
    asked = []
    cuda = SimpleNamespace(
        is_available=lambda: True,
        get_device_properties=lambda device: SimpleNamespace(total_memory=24 * GiB),
        set_per_process_memory_fraction=lambda *given: asked.append(given),
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    measure.keep_within("cpu", most, GiB)
    measure.keep_within("cuda:1", most, GiB)
    assert asked == [(pytest.approx(share), "cuda:1")]
