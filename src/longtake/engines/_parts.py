"""The nets of a model in one container, of which one works at a time."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


class Parts(nn.ModuleDict):
    """The nets by name. `bring` is the seam for strategies that let them take turns on the device:
    it is called with the name of the net that is about to work."""

    def __init__(self, nets: dict[str, nn.Module]) -> None:
        super().__init__(nets)
        self.bring: Callable[[str], None] = _stay

    def turn(self, name: str) -> nn.Module:
        """The net, ready on the device until another one's turn."""
        self.bring(name)
        return self[name]


def _stay(name: str) -> None:
    """All nets are on the device."""
