"""Faults come in the order in which they are written, and the clock that they move is theirs."""

from __future__ import annotations

import time

import pytest

from longtake.core import faults
from longtake.core.errors import OutOfMemory


@pytest.fixture
def armed(monkeypatch):
    def arm(words: str) -> None:
        monkeypatch.setenv("LONGTAKE_FAULT", words)
        faults._armed.cache_clear()
        faults._ticking.cache_clear()

    yield arm
    monkeypatch.undo()
    faults._armed.cache_clear()
    faults._ticking.cache_clear()


def test_faults_come_in_order(armed) -> None:
    armed("short:host:2,oom:host,swapping:host,nan:values")
    assert [faults.strike("host") for _ in range(2)] == ["short", "short"]
    with pytest.raises(OutOfMemory, match="host"):
        faults.strike("host")
    assert faults.strike("host") == "swapping"
    assert faults.strike("host") is None
    assert faults.strike("values") == "nan"


def test_a_clock_that_only_faults_move(armed) -> None:
    armed("tick:compute:2,slow:compute,tick:encode")
    began, real = faults.now(), time.perf_counter()
    moved = []
    for place in ("compute", "compute", "compute", "compute", "encode", "nowhere"):
        faults.strike(place)
        moved.append(faults.now() - began)
    assert moved == [1, 2, 12, 12, 13, 13]
    assert time.perf_counter() - real < 0.5


def test_without_ticks_time_is_time(armed) -> None:
    armed("slow:compute")
    began = faults.now()
    faults.strike("compute")
    assert faults.now() - began >= 1
