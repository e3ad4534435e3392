"""The parts of a model take turns on the device; on the host they wait in page-locked memory.

For a model that is a container of nets and says whose turn it is: its attribute `bring` is called
with a net's name before that net works. Weights do not change, so nothing is copied back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from longtake.offload import _locked

if TYPE_CHECKING:
    from torch import Tensor, nn


class _Waiting:
    """The weights of a net: on the host for good, on the device while it is there."""

    def __init__(self, net: nn.Module, device: str) -> None:
        self._tensors = [*net.parameters(), *net.buffers()]
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
    def __init__(self, model: nn.Module, device: str) -> None:
        self._nets = {name: _Waiting(net, device) for name, net in model.named_children()}
        self._there: str | None = None

    def bring(self, name: str) -> None:
        """Put a net on the device, in place of the one before."""
        import torch

        if name != self._there:
            with torch.inference_mode(False), torch.no_grad():
                self.end()
                self._nets[name].enter()
                self._there = name

    def end(self) -> None:
        if self._there is not None:
            self._nets[self._there].leave()
            self._there = None


class Swap:
    def home(self, device: str) -> str:  # noqa: ARG002 -- as all strategies
        return "cpu"

    @contextmanager
    def attach(self, model: nn.Module, device: str) -> Iterator[nn.Module]:
        container: Any = model
        before: Callable[[str], None] = container.bring
        turns = _Turns(model, device)
        container.bring = turns.bring
        try:
            yield model
        finally:
            container.bring = before
            turns.end()


plugin = Swap()
