"""The parts of a model take turns on the device; on the host they wait in page-locked memory.

For a model that is a container of nets and says whose turn it is (`_turns.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from longtake.offload._turns import Waiting, turns

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """`dataclasses.replace` makes others of it."""

    stay: tuple[str, ...] = ()
    """Nets that do not leave the device when their turn is over."""

    def home(self, device: str) -> str:  # noqa: ARG002 -- as all strategies
        return "cpu"

    @contextmanager
    def attach(self, model: nn.Module, device: str) -> Iterator[nn.Module]:
        guests = {
            name: Waiting([*net.parameters(), *net.buffers()], device)
            for name, net in model.named_children()
        }
        with turns(model, guests, self.stay):
            yield model


plugin = Swap()
