"""Memory on the host of exact size, at a page's address, that a device may read by itself.

PyTorch's own page-locked memory comes in powers of two, which takes half as much again for the
blocks of large nets. This is mapped by the page; a copy engine locks and unlocks it. It is given
back once no tensor lies in it any more.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import torch
from torch import Tensor

from longtake.core.blocks import PAGE, up

PIECE: Final = 1 << 30
"""Bytes that are locked at once, at most; a multiple of PAGE."""


class Host:
    """Zeros at first, never shared with another process."""

    def __init__(self, size: int) -> None:
        """`size`: bytes, rounded up to whole pages. Raises OSError where there is not enough."""
        self.size = up(max(size, 1), PAGE)
        if sys.platform == "win32":
            self._map = mmap.mmap(-1, self.size)
        else:
            self._map = mmap.mmap(-1, self.size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._advise("MADV_HUGEPAGE")
        self.tensor: Tensor = torch.frombuffer(self._map, dtype=torch.uint8)
        """uint8 [size]; keeps the memory mapped while it or a view of it lives."""

    @property
    def bytes(self) -> memoryview:
        """The same, to read into."""
        return memoryview(self._map)

    def pieces(self) -> Iterator[tuple[int, int]]:
        """Address and bytes of the pieces that are locked one by one."""
        start = self.tensor.data_ptr()
        for offset in range(0, self.size, PIECE):
            yield start + offset, min(PIECE, self.size - offset)

    def locked(self, locked: bool) -> None:
        """Say that a device reads it, or no longer: a child process must not make it move."""
        self._advise("MADV_DONTFORK" if locked else "MADV_DOFORK")

    def _advise(self, advice: str) -> None:
        """Where the system knows it; none of it changes a byte."""
        number = getattr(mmap, advice, None)
        if number is not None:
            with suppress(OSError):  # as of a kernel without huge pages
                self._map.madvise(number)
