"""Nets of a container take turns on the device: one is there, the others wait on the host.

The container says whose turn it is: its attribute `bring` is called with a net's name before that
net works. Weights do not change, so nothing is copied back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from longtake.offload import _locked

if TYPE_CHECKING:
    from torch import Tensor, nn


class Guest(Protocol):
    """A net that is on the device for a time."""

    def enter(self) -> None: ...
    def leave(self) -> None: ...


class Waiting:
    """The weights of a net: on the host for good, on the device while it is there."""

    def __init__(self, tensors: Iterable[Tensor], device: str) -> None:
        self._tensors = list(tensors)
        self._device = device
        self._laid = _locked.layout(t.nbytes for t in self._tensors)
        self._host = _locked.blocks(self._laid, locked=device.startswith("cuda"))
        for tensor, place in zip(self._tensors, self._laid.places, strict=True):
            kept = _locked.view(self._host, place, tensor)
            kept.copy_(tensor.data)
            tensor.data = kept

    def enter(self) -> None:
        parts = zip(self._host, self._laid.used, strict=True)
        self._become([x[:used].to(self._device, non_blocking=True, copy=True) for x, used in parts])

    def leave(self) -> None:
        self._become(self._host)

    def _become(self, memory: list[Tensor]) -> None:
        for tensor, place in zip(self._tensors, self._laid.places, strict=True):
            tensor.data = _locked.view(memory, place, tensor)


class _Turns:
    def __init__(self, guests: Mapping[str, Guest], stay: Collection[str]) -> None:
        self._guests, self._stay = guests, stay
        self._there: str | None = None
        self._staying: list[str] = []

    def bring(self, name: str) -> None:
        """Put a net on the device, in place of the one before."""
        import torch

        if name != self._there:
            with torch.inference_mode(False), torch.no_grad():
                self._leave()
                if name not in self._staying:
                    self._guests[name].enter()
                if name not in self._stay:
                    self._there = name
                elif name not in self._staying:
                    self._staying.append(name)

    def end(self) -> None:
        self._leave()
        while self._staying:
            self._guests[self._staying.pop()].leave()

    def _leave(self) -> None:
        if self._there is not None:
            there, self._there = self._there, None
            self._guests[there].leave()


@contextmanager
def turns(
    model: nn.Module, guests: Mapping[str, Guest], stay: Collection[str] = ()
) -> Iterator[None]:
    """Let the container's nets take turns; those named in `stay` do not leave when theirs is over.
    On exit none is on the device."""
    import torch

    container: Any = model
    before: Callable[[str], None] = container.bring
    taken = _Turns(guests, stay)
    container.bring = taken.bring
    try:
        yield
    finally:
        container.bring = before
        with torch.inference_mode(False), torch.no_grad():
            taken.end()
