"""Keys and values of the last slabs, per block of the net: a ring that is written in place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from longtake.nets.flashvsr.attention import BLOCK, block_means

FIRST_SLABS = 3
"""Slabs of a film's first chunk: 6 latent frames. Later chunks have one."""


@dataclass(frozen=True, slots=True)
class LayerKV:
    """What one block of the net attends to, on the computing device."""

    keys: Tensor
    """[ring slabs, n * 128, dim], after normalisation and rotation."""
    values: Tensor
    """[ring slabs, n * 128, dim]."""
    key_means: Tensor
    """[ring slabs, n, dim]: mean of every key block."""
    newest: tuple[int, ...]
    """Where in the ring the slabs of the current chunk lie."""

    def write(self, slab: int, rows: slice, keys: Tensor, values: Tensor) -> None:
        """Put tokens `rows` [rows, dim] of the chunk's slab `slab` in their place."""
        self.keys[self.newest[slab], rows] = keys
        self.values[self.newest[slab], rows] = values

    def summarise(self) -> None:
        """Take the means of the current chunk's key blocks, once all are written."""
        for place in self.newest:
            self.key_means[place] = block_means(self.keys[place])


class KVState:
    """The state of one stream.

        with state.chunk(slabs):
            for number, block in enumerate(blocks):
                with state.layer(number) as kv: ...

    Slabs are never moved: a new one overwrites the place of one that has been dropped. After a
    chunk one slab is dropped if there are more than `kv_ratio`, so the first chunk's three become
    two at least; with a larger ratio the state grows by a slab a chunk until it is reached. A chunk
    that fails leaves the state as it was.

    A subclass that keeps the slabs elsewhere makes its own `_allocate` (where they lie) and `layer`
    (bring block `number`'s, start on those of `number + 1`, take `newest` back).
    """

    def __init__(
        self,
        *,
        layers: int,
        windows: int,
        dim: int,
        kv_ratio: int = 3,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        """Room for `layers` blocks with slabs of `windows` blocks of 128 tokens. Raises ValueError
        if `kv_ratio` is below 1."""
        if kv_ratio < 1:
            raise ValueError(f"kv_ratio is the number of slabs kept, at least 1, not {kv_ratio}")
        self.kv_ratio = kv_ratio
        self.capacity = ring_slabs(kv_ratio)
        self.windows = windows
        self.device = device
        self.order: tuple[int, ...] = ()
        """Places of the slabs in use, oldest first."""
        self._newest: tuple[int, ...] = ()
        self._allocate(layers, (self.capacity, windows * BLOCK, dim), dtype)
        means = self.capacity, windows, dim
        self._means = [self._empty(means, dtype) for _ in range(layers)]

    def _allocate(self, layers: int, shape: tuple[int, int, int], dtype: torch.dtype) -> None:
        """Room for the slabs of all layers; `shape` is a layer's."""
        self._keys = [self._empty(shape, dtype) for _ in range(layers)]
        self._values = [self._empty(shape, dtype) for _ in range(layers)]

    def _empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=self.device)

    @contextmanager
    def chunk(self, slabs: int) -> Iterator[None]:
        """Give `slabs` new slabs their places, and drop the oldest afterwards. Raises ValueError if
        they do not fit."""
        before = self.order
        free = [place for place in range(self.capacity) if place not in before]
        if not 1 <= slabs <= len(free):
            raise ValueError(
                f"a chunk of {2 * slabs} latent frames does not fit: {len(before)} slabs of 2 are "
                f"kept and there is room for {self.capacity}; give {2 * FIRST_SLABS} frames first, "
                f"then 2 at a time"
            )
        self._newest = tuple(free[:slabs])
        self.order = before + self._newest
        try:
            yield
        except BaseException:
            self.order = before
            raise
        if len(self.order) > self.kv_ratio:
            self.order = self.order[1:]

    @contextmanager
    def layer(self, number: int) -> Iterator[LayerKV]:
        """Keys and values of block `number`, to be read and written while the context lasts."""
        yield LayerKV(self._keys[number], self._values[number], self._means[number], self._newest)


def ring_slabs(kv_ratio: int) -> int:
    """Slabs that a ring has room for: those kept and a new one, or a first chunk."""
    return max(FIRST_SLABS, kv_ratio + 1)
