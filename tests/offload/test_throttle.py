"""Copies and reads take no more than their share, nets stay on the device: the same bits."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from longtake.core.errors import Usage
from longtake.offload import _copies
from longtake.offload._turns import turns
from longtake.offload.disk import plugin as disk
from longtake.offload.ring import plugin as ring
from longtake.offload.swap import plugin as swap
from tests.offload.toys import Container, Net, inputs, on_disk

_COPY = 0.01  # s of a copy, and of a read


class Slow(_copies.ThreadCopies):
    """Says when each copy was under way."""

    spans: list[tuple[float, float]]

    def copy(self, slot: Tensor, block: Tensor) -> None:
        began = time.perf_counter()
        time.sleep(_COPY)
        super().copy(slot, block)
        self.spans.append((began, time.perf_counter()))


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_copies_take_no_more_than_their_share(monkeypatch: pytest.MonkeyPatch, share) -> None:
    spans: list[tuple[float, float]] = []
    slow = Slow()
    slow.spans = spans
    monkeypatch.setattr("longtake.offload._attach.copies_for", lambda _: slow)
    net, x = Net(6, torch.float32), inputs(torch.float32)
    with torch.inference_mode():
        wanted = net(x)
        with replace(ring, bandwidth=share).attach(net, "cpu"):
            assert torch.equal(net(x), wanted)
            assert torch.equal(net(x), wanted)
    busy = sum(stop - start for start, stop in spans[:-1])
    assert busy / (spans[-1][0] - spans[0][0]) <= share * 1.05
    assert len(spans) >= 12


def test_reads_take_no_more_than_their_share() -> None:
    net, x = Net(6, torch.float32), inputs(torch.float32)
    with torch.inference_mode():
        wanted = net(x)
    began: list[float] = []

    def slowly(number: int, block: int) -> None:
        began.append(time.perf_counter())
        time.sleep(_COPY)

    source = on_disk(net, slowly)
    with replace(disk, bandwidth=0.5, disk_workers=3).attach(net, "cpu"), torch.inference_mode():
        assert torch.equal(net(x), wanted)
    assert source.most == 1
    busy = _COPY * (len(began) - 1)
    assert busy / (began[-1] - began[0]) <= 0.5


def test_a_share_above_0_and_at_most_all() -> None:
    for share in (0.0, 1.1):
        strategy = replace(ring, bandwidth=share)
        with pytest.raises(Usage, match="bandwidth"), strategy.attach(Net(3), "cpu"):
            pass


class Guest:
    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def enter(self) -> None:
        self.log.append(f"+{self.name}")

    def leave(self) -> None:
        self.log.append(f"-{self.name}")


def test_who_stays_enters_once_and_leaves_at_the_end() -> None:
    log: list[str] = []
    model = Container({name: Net(2) for name in ("text", "deep", "vae")})
    with turns(model, {name: Guest(name, log) for name in model}, stay=("text",)):
        for name in ("text", "deep", "text", "vae", "vae", "deep"):
            model.bring(name)
    assert log == ["+text", "+deep", "-deep", "+vae", "-vae", "+deep", "-deep", "-text"]


@pytest.mark.parametrize("strategy", [ring, swap])
def test_staying_changes_no_bit(strategy) -> None:
    model, x = Container({"text": Net(4, seed=3), "deep": Net(8, seed=4)}), inputs()
    with torch.inference_mode():
        wanted = model(x)
        with replace(strategy, stay=("text",)).attach(model, "cpu"):
            assert torch.equal(model(x), wanted)
            assert torch.equal(model(x), wanted)
        assert torch.equal(model(x), wanted)
