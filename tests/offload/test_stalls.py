"""How long blocks were not there: sums of known times, passes that do not count, whose fault."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from longtake.offload._stalls import Copied, Meter, Stalls, stalls
from longtake.offload.disk import plugin as disk
from longtake.offload.ring import plugin as ring
from tests.offload.toys import Container, Counted, Net, PhasedNet, counted, inputs, on_disk


class Clock:
    """Marks are seconds; the device has come as far as `now`."""

    now = 0.0

    def between(self, first: float, second: float, wait: bool) -> float | None:
        return second - first if wait or second <= self.now else None


def copied(began: float, came: float, read: bool = False) -> Copied:
    return Copied(began, came, 10, read)


def test_times_are_added_up():
    meter = Meter((clock := Clock()).between)
    meter.begin(0.0)
    meter.waited(1.0, 1.0, copied(0.0, 0.5))  # it was there
    meter.waited(2.0, 3.0, copied(0.5, 3.0))  # it was on its way
    meter.waited(4.0, 7.0, copied(6.0, 7.0, read=True))  # it was read until 6
    meter.waited(8.0, 9.0, copied(7.5, 9.0, read=True))  # was late, but its read was not
    meter.waited(10.0, 12.0, copied(11.0, 12.0))  # behind others
    meter.end(14.0)
    clock.now = 14.0
    assert meter.stalls() == Stalls(
        seconds=14, on_reads=2, on_copies=1 + 1 + 1 + 2, copying=0.5 + 2.5 + 1 + 1.5 + 1, copied=50
    )
    assert str(meter.stalls()) == "stalled on disk 14.3%, on copies 35.7% of 14 s, 0.0 GB/s"


def test_a_pass_that_is_left_does_not_count():
    meter = Meter(Clock().between)
    meter.waited(0.0, 1.0, copied(0.0, 1.0))
    meter.begin(0.0)
    meter.waited(1.0, 9.0, copied(0.0, 9.0))
    meter.begin(10.0)
    meter.end(11.0)
    meter.end(12.0)
    assert meter.stalls() == Stalls(seconds=1)


def test_what_is_kept_does_not_grow_and_nobody_waits():
    clock = Clock()
    asked: list[bool] = []

    def between(first: float, second: float, wait: bool) -> float | None:
        asked.append(wait and second > clock.now)
        return clock.between(first, second, wait)

    meter = Meter(between)
    for number in range(100):
        meter.begin(float(number))
        meter.waited(number + 0.25, number + 0.5, copied(number, number + 0.5))
        meter.end(number + 1.0)
        clock.now = number - 1.0  # the device is behind
        assert len(meter._ended) <= 4
    assert not any(asked)
    clock.now = 100.0
    assert meter.stalls() == Stalls(seconds=100, on_copies=25, copying=50, copied=1000)


def test_nothing_is_nothing():
    assert stalls(Net(2)) == Stalls()
    assert str(Stalls()) == "stalled on disk 0.0%, on copies 0.0% of 0 s"


class Slow(Counted):
    def copy(self, slot: Tensor, runs: Sequence[Tensor]) -> None:
        time.sleep(0.01)
        super().copy(slot, runs)


@torch.no_grad()
@pytest.mark.parametrize("size", ["block", "phase"])
def test_slow_copies_are_what_a_ring_waits_for(monkeypatch: pytest.MonkeyPatch, size: str):
    counted(monkeypatch, Slow)
    net, x = PhasedNet(6), inputs()
    units = 6 * (3 if size == "phase" else 1)
    with replace(ring, granularity=size).attach(net, "cpu"):
        for _ in range(3):
            net(x)
        found = stalls(net)
    assert found.on_reads == 0
    assert 0.5 * found.seconds < found.on_copies <= found.seconds
    assert found.copying >= 3 * units * 0.01


@torch.no_grad()
def test_slow_reads_are_what_a_disk_waits_for():
    model, x = Container({"text": Net(4, seed=3), "deep": PhasedNet(6, seed=4)}), inputs()
    on_disk(model["deep"], lambda number, block: time.sleep(0.01))
    strategy = replace(disk, disk_workers=1, granularity="phase")
    with strategy.attach(model, "cpu"):
        for _ in range(2):
            model(x)
        found = stalls(model)
    assert 0.5 * found.seconds < found.on_reads <= found.seconds
    assert found.on_copies < found.on_reads
