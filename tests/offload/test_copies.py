"""A thread that really copies beside, poison; the calls that a GPU gets, in their order."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.core.blocks import PAGE
from longtake.core.errors import OutOfMemory
from longtake.offload import _host
from longtake.offload._copies import CudaCopies, ThreadCopies, copies_for

FLOATS = [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn]


class Gated(ThreadCopies):
    """Copies when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.let = threading.Semaphore(0)

    def copy(self, slot: Tensor, block: Tensor) -> None:
        self.let.acquire()
        super().copy(slot, block)


def filled(copies: ThreadCopies, value: int) -> Tensor:
    return copies.host(PAGE).tensor.fill_(value)


def test_copies_go_on_beside_the_caller_and_in_order():
    copies = Gated()
    slots = [copies.room(PAGE) for _ in range(2)]
    copies.open(slots)
    arrivals = [copies.put(i % 2, filled(copies, i)) for i in range(3)]
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
    copies.put(0, filled(copies, 0))
    copies.wait(0)
    assert (numbers.float() == 0).all()
    copies.free(0)
    assert numbers.float().isnan().all()
    copies.put(0, filled(copies, 0))
    copies.close()
    assert numbers.float().isnan().all()


def test_closed_it_can_be_opened_again():
    copies = ThreadCopies()
    copies.close()
    for value in (3, 4):
        slot = copies.room(PAGE)
        copies.open([slot])
        copies.put(0, filled(copies, value))
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
        self.refuse, self.events = refuse, 0
        computing = self.stream("computing")
        runtime = SimpleNamespace(
            cudaHostRegister=self.register,
            cudaHostUnregister=self.unregister,
            cudaGetErrorString=lambda code: "out of memory",
        )
        for name, value in {
            "Stream": lambda device: self.stream("copying"),
            "Event": lambda blocking: self.event(),
            "stream": lambda stream: nullcontext(),
            "device": lambda device: nullcontext(),
            "current_stream": lambda device: computing,
            "synchronize": lambda device: self.log.append(("synchronize",)),
            "cudart": lambda: runtime,
        }.items():
            patch.setattr(torch.cuda, name, value)

    def event(self) -> Any:
        number, self.events = self.events, self.events + 1
        return SimpleNamespace(
            number=number,
            record=lambda stream: self.log.append((stream.name, "records", number)),
            synchronize=lambda: self.log.append(("host waits", number)),
        )

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

    def register(self, address: int, size: int, flags: int) -> int:
        if len(self.registered) == self.refuse:
            return 2
        assert flags == 0
        self.registered[address] = size
        return 0

    def unregister(self, address: int) -> int:
        del self.registered[address]
        return 0


def test_events_order_the_streams(monkeypatch: pytest.MonkeyPatch):
    card = Card(monkeypatch)
    copies = CudaCopies("cuda:0")
    slot, block = torch.zeros(4, dtype=torch.uint8), torch.ones(4, dtype=torch.uint8)
    copies.open([slot])
    first = copies.put(0, block)
    copies.wait(0)
    copies.free(0)
    copies.put(0, block)
    copies.wait(0)
    assert card.log == [
        ("copying", "waits for", "computing"),
        ("copying", "records", 0),
        ("copying", "waits", 0),
        ("copying", "records", 1),  # the first copy
        ("computing", "waits", 1),
        ("computing", "records", 2),  # the slot is free
        ("copying", "waits", 2),
        ("copying", "records", 3),
        ("computing", "waits", 3),
    ]  # and never the host
    first()
    copies.close()
    assert card.log[-2:] == [("host waits", 1), ("computing", "waits for", "copying")]
    assert torch.equal(slot, block)


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


def test_where_the_system_refuses_nothing_stays_locked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_host, "PIECE", PAGE)
    card, kernels = Card(monkeypatch, refuse=2), []
    monkeypatch.setattr(
        CudaCopies, "room", lambda self, size: kernels.append(size) or torch.ones(1)
    )
    with pytest.raises(OutOfMemory, match=r"12288 bytes of host memory.*out of memory, error 2"):
        CudaCopies("cuda:0").host(3 * PAGE)
    assert not card.registered
    assert kernels == [1]  # it takes the blame
