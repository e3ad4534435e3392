"""What copies blocks to a device while it computes: on a GPU a stream, elsewhere a thread.

The ring (`_stream.py`) is written once against `Copies`. Slots are memory on the device; `put` may
run far ahead of the device, so it says only in which order things happen:

    free(slot) -> put(slot, block) -> wait(slot) -> the device computes -> free(slot) -> ...

Nothing here makes the host wait for a GPU, but for `give_back` and what `put` returns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from typing import Any, Final, Protocol

import torch
from torch import Tensor

from longtake.core.errors import OutOfMemory
from longtake.offload._host import Host

POISON: Final = 0xFF
"""A byte; numbers made of it are NaN in every floating-point dtype."""
Arrival = Callable[[], object]
"""Returns once the copy is complete. For other threads: the ring itself never calls it."""


class Copies(Protocol):
    def host(self, size: int) -> Host:
        """Memory on the host that `put` may copy from. Raises OutOfMemory, OSError."""
        ...

    def give_back(self, host: Host) -> None:
        """It is plain memory from now on; nothing copies from it any more."""
        ...

    def room(self, size: int) -> Tensor:
        """Memory on the device, uint8 [size]."""
        ...

    def open(self, slots: Sequence[Tensor]) -> None:
        """Copy into these, uint8, until `close`; all are free."""
        ...

    def put(self, slot: int, block: Tensor) -> Arrival:
        """Begin to copy, once the slot is free and what was put before has come."""
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


def copies_for(device: str) -> Copies:
    return CudaCopies(device) if device.startswith("cuda") else ThreadCopies()


class CudaCopies:
    """One stream that copies, ordered with the one that computes by events.

    Slots are never handed to PyTorch's allocator while copies run, so none is recorded with it.
    """

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        self._copying = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        self._slots: list[Tensor] = []
        self._ready: list[Any] = []
        self._free: list[Any] = []

    def host(self, size: int) -> Host:
        host, done = Host(size), 0
        with torch.cuda.device(self._device):
            for address, piece in host.pieces():
                try:
                    _checked("cudaHostRegister", address, piece, 0)
                except RuntimeError as error:
                    self._unlock(host, done)
                    self._forget()
                    raise OutOfMemory(
                        f"The system would not lock {host.size} bytes of host memory for the GPU "
                        f"({error}). Leave more blocks to the device or to the disk, or raise the "
                        f"limit of locked memory (ulimit -l)."
                    ) from error
                done += 1
        host.locked(True)
        return host

    def give_back(self, host: Host) -> None:
        torch.cuda.synchronize(self._device)
        self._unlock(host, sum(1 for _ in host.pieces()))
        host.locked(False)

    def room(self, size: int) -> Tensor:
        return torch.empty(size, dtype=torch.uint8, device=self._device)

    def open(self, slots: Sequence[Tensor]) -> None:
        self._slots = list(slots)
        self._copying.wait_stream(self._computing())  # who had this memory before may still use it
        start = self._copying.record_event()
        self._ready, self._free = [start] * len(slots), [start] * len(slots)

    def put(self, slot: int, block: Tensor) -> Arrival:
        arrived = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(self._copying):
            self._copying.wait_event(self._free[slot])
            self._slots[slot].copy_(block, non_blocking=True)
            arrived.record(self._copying)
        self._ready[slot] = arrived
        return arrived.synchronize

    def wait(self, slot: int) -> None:
        self._computing().wait_event(self._ready[slot])

    def free(self, slot: int) -> None:
        self._free[slot] = self._computing().record_event()

    def close(self) -> None:
        self._computing().wait_stream(self._copying)  # who is given this memory next computes there
        self._slots, self._ready, self._free = [], [], []

    def _computing(self) -> Any:
        return torch.cuda.current_stream(self._device)

    def _unlock(self, host: Host, pieces: int) -> None:
        with torch.cuda.device(self._device):
            for address, _ in islice(host.pieces(), pieces):
                _checked("cudaHostUnregister", address)

    def _forget(self) -> None:
        """A refusal stays the last error of the CUDA runtime, and the next kernel, whichever it is,
        would be blamed for it."""
        with suppress(RuntimeError):
            self.room(1).zero_()


def _checked(call: str, *arguments: int) -> None:
    """A call of the CUDA runtime. Raises RuntimeError."""
    runtime: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    result = getattr(runtime, call)(*arguments)
    if int(result) != 0:
        raise RuntimeError(f"{call}: {runtime.cudaGetErrorString(result)}, error {int(result)}")


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

    def open(self, slots: Sequence[Tensor]) -> None:
        none: Future[None] = Future()
        none.set_result(None)
        self._slots, self._ready = list(slots), [none] * len(slots)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="longtake-copy")
        for slot in self._slots:
            slot.fill_(POISON)

    def put(self, slot: int, block: Tensor) -> Arrival:
        assert self._thread is not None
        arrived = self._thread.submit(self.copy, self._slots[slot], block)
        self._ready[slot] = arrived
        return arrived.result

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

    def copy(self, slot: Tensor, block: Tensor) -> None:
        """What the thread does, one after the other."""
        slot.numpy()[:] = block.numpy()  # by one core: the others compute
