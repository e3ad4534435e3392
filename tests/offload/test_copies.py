"""A thread that really copies beside, poison; the calls that a GPU gets, in their order."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from longtake.core.blocks import PAGE
from longtake.core.errors import OutOfMemory
from longtake.offload import _attach, _copies, _host
from longtake.offload._copies import CudaCopies, ThreadCopies, copies_for
from longtake.offload._stalls import stalls
from longtake.offload.ring import plugin as ring
from tests.offload.toys import PhasedNet, inputs

FLOATS = [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn]


class Gated(ThreadCopies):
    """Copies when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.let = threading.Semaphore(0)

    def copy(self, slot: Tensor, runs: Sequence[Tensor]) -> None:
        self.let.acquire()
        super().copy(slot, runs)


def filled(copies: ThreadCopies, value: int) -> Tensor:
    return copies.host(PAGE).tensor.fill_(value)


def test_copies_go_on_beside_the_caller_and_in_order():
    copies = Gated()
    slots = [copies.room(PAGE) for _ in range(2)]
    copies.open(slots)
    arrivals = [copies.put(i % 2, [filled(copies, i)]).arrival for i in range(3)]
    assert slots[0][0] == 0xFF  # put returned, and nothing has come
    copies.let.release()
    arrivals[0]()
    assert slots[0].unique().tolist() == [0]
    assert slots[1].unique().tolist() == [0xFF]
    copies.let.release(2)
    copies.wait(0)  # for what was put there last
    assert [x.unique().tolist() for x in slots] == [[2], [1]]
    copies.close()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_what_is_free_is_not_a_number(dtype: torch.dtype):
    copies = ThreadCopies()
    slot = copies.room(PAGE)
    numbers = slot.view(dtype)
    copies.open([slot])
    assert numbers.float().isnan().all()
    copies.put(0, [filled(copies, 0)])
    copies.wait(0)
    assert (numbers.float() == 0).all()
    copies.free(0)
    assert numbers.float().isnan().all()
    copies.put(0, [filled(copies, 0)])
    copies.close()
    assert numbers.float().isnan().all()


def test_closed_it_can_be_opened_again():
    copies = ThreadCopies()
    copies.close()
    for value in (3, 4):
        slot = copies.room(PAGE)
        copies.open([slot])
        copies.put(0, [filled(copies, value)])
        copies.wait(0)
        assert slot.unique().tolist() == [value]
        copies.close()
        copies.close()


def test_rooms_have_a_pages_address():
    assert not any(ThreadCopies().room(100).data_ptr() % PAGE for _ in range(3))
    assert isinstance(copies_for("cpu"), ThreadCopies)


# --- on a GPU: what is called --------------------------------------------------------------------


class Card:
    """Stands for torch.cuda and writes down what it is asked."""

    def __init__(self, patch: pytest.MonkeyPatch, refuse: int | None = None) -> None:
        self.log: list[tuple[Any, ...]] = []
        self.registered: dict[int, int] = {}
        self.refuse, self.events, self.current = refuse, 0, 0
        self.broken, self.asked = False, list[int]()
        computing = self.stream("computing")
        runtime = SimpleNamespace(
            cudaHostRegister=self.register,
            cudaHostUnregister=self.unregister,
            cudaError=Code,
            cudaGetErrorString=self.said,
        )
        for name, value in {
            "Stream": lambda device: self.stream("copying"),
            "Event": self.event,
            "stream": lambda stream: nullcontext(),
            "device": self.device,
            "current_device": lambda: 1,
            "current_stream": lambda device: computing,
            "synchronize": self.synchronize,
            "cudart": lambda: runtime,
        }.items():
            patch.setattr(torch.cuda, name, value)

    def event(self, **kind: bool) -> Any:
        number, self.events = self.events, self.events + 1
        return SimpleNamespace(
            number=number,
            record=lambda stream: self.log.append((stream.name, "records", number)),
            synchronize=lambda: self.log.append(("host waits", number, self.current)),
            query=lambda: self.asked.append(self.current) or True,
            elapsed_time=lambda other: 2000.0 * (other.number - number),
        )

    @contextmanager
    def device(self, device: torch.device) -> Iterator[None]:
        before, self.current = self.current, device.index
        yield
        self.current = before

    def synchronize(self, device: torch.device) -> None:
        self.log.append(("synchronize",))
        if self.broken:
            raise RuntimeError("an illegal memory access")

    def stream(self, name: str) -> Any:
        found = SimpleNamespace(name=name)

        def record_event() -> Any:
            event = self.event()
            event.record(found)
            return event

        found.record_event = record_event
        found.wait_event = lambda event: self.log.append((name, "waits", event.number))
        found.wait_stream = lambda other: self.log.append((name, "waits for", other.name))
        return found

    def register(self, address: int, size: int, flags: int) -> Code:
        if len(self.registered) == self.refuse:
            return Code(2)
        assert flags == 0
        self.registered[address] = size
        return Code(0)

    def unregister(self, address: int) -> Code:
        del self.registered[address]
        return Code(0)

    def said(self, code: Code) -> str:
        assert isinstance(code, Code)
        return "out of memory"


class Code:
    """As cudaError_t: a number, and none."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __int__(self) -> int:
        return self.number


def test_events_order_the_streams(monkeypatch: pytest.MonkeyPatch):
    card = Card(monkeypatch)
    copies = CudaCopies("cuda:0")
    slot, block = torch.zeros(4, dtype=torch.uint8), torch.ones(4, dtype=torch.uint8)
    copies.open([slot])
    first = copies.put(0, [block]).arrival
    copies.wait(0)
    copies.free(0)
    copies.put(0, [block[:1], block[1:]])
    copies.wait(0)
    assert card.log == [
        ("copying", "waits for", "computing"),
        ("copying", "records", 0),
        ("copying", "waits", 0),
        ("copying", "records", 1),  # it begins
        ("copying", "records", 2),  # the first copy
        ("computing", "waits", 2),
        ("computing", "records", 3),  # the slot is free
        ("copying", "waits", 3),
        ("copying", "records", 4),
        ("copying", "records", 5),
        ("computing", "waits", 5),
    ]  # and never the host
    first()
    copies.close()
    assert card.log[-2:] == [("host waits", 2, 0), ("computing", "waits for", "copying")]
    assert torch.equal(slot, block)


class OnCard(CudaCopies):
    """With slots that a CPU computes in."""

    def room(self, size: int) -> Tensor:
        return torch.zeros(size, dtype=torch.uint8)


@pytest.mark.parametrize("size", ["block", "phase"])
@pytest.mark.parametrize("slots", [2, 3])
@torch.no_grad()
def test_no_pass_makes_the_host_wait(monkeypatch: pytest.MonkeyPatch, size: str, slots: int):
    """Nor does measuring; and every copy waits for its slot, every phase for its copy."""
    card, net, x = Card(monkeypatch), PhasedNet(5), inputs()
    wanted = net(x)
    monkeypatch.setattr(_attach, "copies_for", OnCard)
    strategy = replace(ring, resident_blocks=1, slots=slots, granularity=size)
    with strategy.attach(net, "cuda:1"):
        for inference in (False, True, True):
            with torch.inference_mode(inference):
                assert torch.equal(net(x), wanted)
        for block in net.blocks:
            next(iter(block))(x)  # and one that is left
            break
        assert torch.equal(net(x), wanted)
        assert not [x for x in card.log if x[0] in ("host waits", "synchronize")]
        assert set(card.asked) == {1}  # on its own device
        waits = {x[2] for x in card.log if x[:2] == ("computing", "waits")}
        copies = {x[2] for x in card.log if x[:2] == ("copying", "records")}
        assert waits <= copies
        found = stalls(net)
        assert card.log[-1][0] == "host waits"
        assert found.on_copies > 0
        assert found.on_reads == 0


def test_seconds_are_those_between_events(monkeypatch: pytest.MonkeyPatch):
    card = Card(monkeypatch)
    copies = CudaCopies("cuda:0")
    first, second = copies.mark(), copies.mark()
    assert copies.seconds(first, second, wait=False) == 2.0
    assert not [x for x in card.log if x[0] == "host waits"]
    monkeypatch.setattr(second, "query", lambda: False)
    assert copies.seconds(first, second, wait=False) is None
    assert copies.seconds(first, second, wait=True) == 2.0
    assert card.log[-1] == ("host waits", second.number, 0)


def test_memory_is_locked_in_pieces_and_unlocked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_host, "PIECE", 2 * PAGE)
    card = Card(monkeypatch)
    copies = CudaCopies("cuda:0")
    host = copies.host(5 * PAGE)
    assert card.registered == dict(host.pieces())
    assert sorted(card.registered.values()) == [PAGE, 2 * PAGE, 2 * PAGE]
    copies.give_back(host)
    assert not card.registered
    assert card.log[-1] == ("synchronize",)  # before: a copy may be under way


def test_after_a_kernel_that_failed_memory_is_unlocked_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
):
    card = Card(monkeypatch)
    copies = CudaCopies("cuda:0")
    host = copies.host(PAGE)
    card.broken = True
    with pytest.raises(RuntimeError, match="illegal memory access"):
        copies.give_back(host)
    assert not card.registered


@pytest.mark.parametrize("device", ["cuda:1", "cuda"])
def test_who_waits_does_so_on_the_device_of_the_copy(monkeypatch: pytest.MonkeyPatch, device: str):
    """A thread begins with GPU 0; to wait there would open GPU 0 and take memory of it."""
    card = Card(monkeypatch)
    copies = CudaCopies(device)  # without a number: the current one
    copies.open([torch.zeros(4, dtype=torch.uint8)])
    copies.put(0, [torch.ones(4, dtype=torch.uint8)]).arrival()
    copies.fill(torch.zeros(4, dtype=torch.uint8), torch.ones(4, dtype=torch.uint8))()
    assert [x[2] for x in card.log if x[0] == "host waits"] == [1, 1]
    assert card.current == 0


@given(st.integers(0, 20), st.integers(0, 20))
def test_no_copy_reaches_from_one_locked_piece_into_the_next(start: int, length: int):
    """Nor is a byte left out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_host, "PIECE", 6)
        block = torch.arange(40)[start : start + length]
        parts = [block[part].tolist() for part in _copies._within_pieces(block)]
    assert [x for part in parts for x in part] == block.tolist()
    assert all(len({x // 6 for x in part}) <= 1 for part in parts)


def test_memory_is_filled_in_the_order_of_computing(monkeypatch: pytest.MonkeyPatch):
    card = Card(monkeypatch)
    memory, block = torch.zeros(4, dtype=torch.uint8), torch.ones(4, dtype=torch.uint8)
    arrival = CudaCopies("cuda:0").fill(memory, block)
    assert card.log == [("computing", "records", 0), ("computing", "records", 1)]
    arrival()
    assert torch.equal(memory, block)


def test_where_the_system_refuses_nothing_stays_locked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_host, "PIECE", PAGE)
    card, kernels, advice = Card(monkeypatch, refuse=2), [], []
    monkeypatch.setattr(_host.Host, "locked", lambda self, locked: advice.append(locked))
    monkeypatch.setattr(
        CudaCopies, "room", lambda self, size: kernels.append(size) or torch.ones(1)
    )
    with pytest.raises(OutOfMemory, match=r"12288 bytes of host memory.*out of memory, error 2"):
        CudaCopies("cuda:0").host(3 * PAGE)
    assert not card.registered
    assert kernels == [1]  # it takes the blame
    assert advice == [True, False]  # and a child may have it again
