"""Which way a job goes when memory ran out: never to more of what is short."""

from __future__ import annotations

import pytest

from longtake.core.errors import HostMemoryShort, OutOfMemory
from longtake.runtime.recover import Moved, Recovery, downgraded
from tests.runtime.toy import on_a_gpu


class OutOfMemoryError(RuntimeError):
    """As torch names its own."""


@pytest.fixture
def job():
    return on_a_gpu


@pytest.mark.parametrize(
    ("here", "error", "there"),
    [
        ("resident", OutOfMemoryError("CUDA out of memory"), "swap"),
        ("swap", OutOfMemoryError("CUDA out of memory"), "ring"),
        ("swap", MemoryError(), "swap"),  # a shorter queue is less of the host's memory
        ("swap", HostMemoryShort("page-locked"), "swap"),
        ("resident", HostMemoryShort("page-locked"), "resident"),
        ("ring", OSError(12, "no memory"), "ring"),
    ],
)
def test_the_next_rung_needs_less_of_what_ran_out(job, here, error, there) -> None:
    plan, engine = job(here)
    lower = downgraded(plan, engine, error)
    assert lower.placement.offload == there
    if isinstance(error, OutOfMemoryError):
        assert lower.memory.vram < plan.memory.vram
    else:
        assert lower.memory.ram < plan.memory.ram
        assert lower.memory.vram <= plan.memory.vram
    assert lower.identity == plan.identity


@pytest.mark.parametrize("error", [MemoryError(), HostMemoryShort("page-locked")])
def test_memory_of_the_host_never_chooses_more_of_it(job, error) -> None:
    """All the way down; then there is an end that says so."""
    plan, engine = job("resident")
    seen = [plan.memory.ram]
    with pytest.raises(OutOfMemory, match="most frugal"):
        for _ in range(20):
            plan = downgraded(plan, engine, error)
            seen.append(plan.memory.ram)
    assert seen == sorted(seen, reverse=True)
    assert len(set(seen)) == len(seen)


def test_where_a_job_was_moved_from_is_remembered(job) -> None:
    plan, engine = job("swap")
    recovery = Recovery(plan=plan, engine=engine)
    lower = downgraded(plan, engine, MemoryError())
    event = recovery.after(Moved(lower, "because"), plan.segments[0])
    assert event.reason == "because"
    assert recovery.plan == lower
    assert recovery.left == {plan.placement}
