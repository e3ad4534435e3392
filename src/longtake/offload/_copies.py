"""What copies blocks to a device while it computes: on a GPU a stream, elsewhere a thread.

The ring (`_stream.py`) is written once against `Copies`. Slots are memory on the device; `put` may
run far ahead of the device, so it says only in which order things happen:

    free(slot) -> put(slot, runs) -> wait(slot) -> the device computes -> free(slot) -> ...

Nothing here makes the host wait for a GPU, but for `give_back`, `seconds` if it is told to, and the
arrivals that `put` and `fill` return.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final, Protocol

import torch
from torch import Tensor

from longtake.core.errors import HostMemoryShort
from longtake.offload import _host
from longtake.offload._host import Host
from longtake.offload._stalls import Mark

POISON: Final = 0xFF
"""A byte; numbers made of it are NaN in every floating-point dtype."""
Arrival = Callable[[], object]
"""Returns once the copy is complete. For other threads: the ring itself never calls it."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A copy on its way."""

    arrival: Arrival
    began: Mark
    came: Mark


class Copies(Protocol):
    def host(self, size: int) -> Host:
        """Memory on the host that `put` may copy from. Raises HostMemoryShort, OSError."""
        ...

    def give_back(self, host: Host) -> None:
        """It is plain memory from now on; nothing copies from it any more."""
        ...

    def room(self, size: int) -> Tensor:
        """Memory on the device, uint8 [size]."""
        ...

    def fill(self, memory: Tensor, block: Tensor) -> Arrival:
        """Begin to copy where nothing computes; what is computed from now on finds it there."""
        ...

    def open(self, slots: Sequence[Tensor]) -> None:
        """Copy into these, uint8, until `close`; all are free."""
        ...

    def put(self, slot: int, runs: Sequence[Tensor]) -> Sent:
        """Begin to copy these, uint8, one behind the other, once the slot is free and what was put
        before has come."""
        ...

    def wait(self, slot: int) -> None:
        """What is computed from now on waits for what was put there last."""
        ...

    def free(self, slot: int) -> None:
        """What was computed up to now was the last to read the slot."""
        ...

    def close(self) -> None:
        """No more copies; the slots may be given back."""
        ...

    def mark(self) -> Mark:
        """The point behind what was computed up to now."""
        ...

    def seconds(self, first: Mark, second: Mark, wait: bool) -> float | None:
        """From one point to another; None where the device is not there, unless told to wait."""
        ...


def copies_for(device: str) -> Copies:
    return CudaCopies(device) if device.startswith("cuda") else ThreadCopies()


class CudaCopies:
    """One stream that copies, ordered with the one that computes by events.

    Slots are never handed to PyTorch's allocator while copies run, so none is recorded with it.
    """

    def __init__(self, device: str) -> None:
        asked = torch.device(device)
        number = torch.cuda.current_device() if asked.index is None else asked.index
        self._device = torch.device("cuda", number)
        self._copying = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        self._slots: list[Tensor] = []
        self._ready: list[Any] = []
        self._free: list[Any] = []

    def host(self, size: int) -> Host:
        host = Host(size)
        host.locked(True)  # before it is: a child made meanwhile would move what is locked
        with ExitStack() as failed, torch.cuda.device(self._device):
            failed.callback(host.locked, False)
            for address, piece in host.pieces():
                try:
                    _checked("cudaHostRegister", address, piece, 0)
                except RuntimeError as error:
                    self._forget()
                    raise HostMemoryShort(
                        f"The system would not lock {host.size} bytes of host memory for the GPU "
                        f"({error}). Leave more blocks to the device or to the disk, or raise the "
                        f"limit of locked memory (ulimit -l)."
                    ) from error
                failed.callback(_checked, "cudaHostUnregister", address)
            failed.pop_all()
        return host

    def give_back(self, host: Host) -> None:
        """Whatever fails, as all does behind a kernel that failed, the rest is unlocked."""
        with torch.cuda.device(self._device), ExitStack() as undo:
            undo.callback(host.locked, False)
            for address, _ in host.pieces():
                undo.callback(_checked, "cudaHostUnregister", address)
            torch.cuda.synchronize(self._device)

    def room(self, size: int) -> Tensor:
        return torch.empty(size, dtype=torch.uint8, device=self._device)

    def fill(self, memory: Tensor, block: Tensor) -> Arrival:
        return self._copy(self._computing(), memory, [block]).arrival

    def open(self, slots: Sequence[Tensor]) -> None:
        self._slots = list(slots)
        self._copying.wait_stream(self._computing())  # who had this memory before may still use it
        start = self._copying.record_event()
        self._ready, self._free = [start] * len(slots), [start] * len(slots)

    def put(self, slot: int, runs: Sequence[Tensor]) -> Sent:
        self._copying.wait_event(self._free[slot])
        sent = self._copy(self._copying, self._slots[slot], runs)
        self._ready[slot] = sent.came
        return sent

    def wait(self, slot: int) -> None:
        self._computing().wait_event(self._ready[slot])

    def free(self, slot: int) -> None:
        self._free[slot] = self._computing().record_event()

    def close(self) -> None:
        self._computing().wait_stream(self._copying)  # who is given this memory next computes there
        self._slots, self._ready, self._free = [], [], []

    def mark(self) -> Mark:
        return self._event(self._computing())

    def seconds(self, first: Mark, second: Mark, wait: bool) -> float | None:
        with torch.cuda.device(self._device):
            if wait:
                second.synchronize()
            elif not second.query():
                return None
            return float(first.elapsed_time(second)) / 1e3

    def _computing(self) -> Any:
        return torch.cuda.current_stream(self._device)

    def _event(self, stream: Any) -> Any:
        """Behind all that the stream has been given. Who waits for it sleeps."""
        event = torch.cuda.Event(enable_timing=True, blocking=True)  # type: ignore[no-untyped-call]
        event.record(stream)
        return event

    def _copy(self, stream: Any, memory: Tensor, runs: Sequence[Tensor]) -> Sent:
        began, at = self._event(stream), 0
        with torch.cuda.stream(stream):
            for run in runs:
                for part in _within_pieces(run):
                    size = part.stop - part.start
                    memory[at : at + size].copy_(run[part], non_blocking=True)
                    at += size
        came = self._event(stream)

        def arrival() -> None:
            with torch.cuda.device(self._device):  # a thread begins with GPU 0, and would open it
                came.synchronize()

        return Sent(arrival, began, came)

    def _forget(self) -> None:
        """A refusal stays the last error of the CUDA runtime, and the next kernel, whichever it is,
        would be blamed for it."""
        with suppress(RuntimeError):
            self.room(1).zero_()


def _within_pieces(block: Tensor) -> Iterator[slice]:
    """Of memory that was locked in pieces: no copy may reach from one into the next."""
    start, stop = block.storage_offset(), block.storage_offset() + len(block)
    first = start - start % _host.PIECE
    for piece in range(first, stop, _host.PIECE):
        yield slice(max(piece, start) - start, min(piece + _host.PIECE, stop) - start)


def _checked(call: str, *arguments: int) -> None:
    """A call of the CUDA runtime, which answers with its enumeration. Raises RuntimeError."""
    runtime: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    code = int(getattr(runtime, call)(*arguments))
    if code != 0:
        said = runtime.cudaGetErrorString(runtime.cudaError(code))
        raise RuntimeError(f"{call}: {said}, error {code}")


class ThreadCopies:
    """The same for a CPU. The thread copies while the caller computes, and a slot that is free is
    filled with POISON: what is read too early or too late is not a number.

    The caller has computed when it says so, thus a slot that is said to be free is free.
    """

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._slots: list[Tensor] = []
        self._ready: list[Future[None]] = []

    def host(self, size: int) -> Host:
        return Host(size)

    def give_back(self, host: Host) -> None:
        """It was never locked."""

    def room(self, size: int) -> Tensor:
        return Host(size).tensor[:size]  # a page's address, as on a GPU: equal values, equal bits

    def fill(self, memory: Tensor, block: Tensor) -> Arrival:
        memory.copy_(block)
        return lambda: None

    def open(self, slots: Sequence[Tensor]) -> None:
        none: Future[None] = Future()
        none.set_result(None)
        self._slots, self._ready = list(slots), [none] * len(slots)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="longtake-copy")
        for slot in self._slots:
            slot.fill_(POISON)

    def put(self, slot: int, runs: Sequence[Tensor]) -> Sent:
        assert self._thread is not None
        began, came = Future[float](), Future[float]()

        def work() -> None:
            began.set_result(perf_counter())
            try:
                self.copy(self._slots[slot], runs)
            finally:
                came.set_result(perf_counter())

        self._ready[slot] = arrived = self._thread.submit(work)
        return Sent(arrived.result, began, came)

    def wait(self, slot: int) -> None:
        self._ready[slot].result()

    def free(self, slot: int) -> None:
        self._slots[slot].fill_(POISON)

    def close(self) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=True)
        for slot in self._slots:
            slot.fill_(POISON)
        self._thread, self._slots, self._ready = None, [], []

    def mark(self) -> Mark:
        now = Future[float]()
        now.set_result(perf_counter())
        return now

    def seconds(self, first: Mark, second: Mark, wait: bool) -> float | None:
        if not (wait or second.done()):
            return None
        return float(second.result() - first.result())

    def copy(self, slot: Tensor, runs: Sequence[Tensor]) -> None:
        """What the thread does, one after the other."""
        memory, at = slot.numpy(), 0
        for run in runs:
            memory[at : at + len(run)] = run.numpy()  # by one core: the others compute
            at += len(run)
