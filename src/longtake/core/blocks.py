"""A block of a model as one run of bytes: the same on the disk, in a ring's slot, on the device."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Final, Protocol

ALIGNED: Final = 256
"""Bytes: every tensor begins at a multiple of it."""
PAGE: Final = 4096
"""Bytes: every block has a multiple of it, as direct reads from a disk want."""
VALUE_BYTES: Final = {
    "float64": 8, "int64": 8, "float32": 4, "int32": 4, "bfloat16": 2, "float16": 2, "int16": 2,
    "float8_e4m3fn": 1, "int8": 1, "uint8": 1, "bool": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A tensor in a block, without gaps, last axis fastest."""

    name: str
    """In the block: "ffn.0.weight"; the scales of an 8-bit matrix: "ffn.0.weight_scale"."""
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def bytes(self) -> int:
        return prod(self.shape) * VALUE_BYTES[self.dtype]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slab:
    """How the tensors of a block lie."""

    fields: tuple[Field, ...]
    bytes: int
    """Of the whole block, a multiple of PAGE."""


def slab(tensors: Iterable[tuple[str, str, tuple[int, ...]]]) -> Slab:
    """Lay out tensors (name, dtype, shape) in this order."""
    fields, offset = [], 0
    for name, dtype, shape in tensors:
        fields.append(Field(name=name, dtype=dtype, shape=shape, offset=offset))
        offset = up(offset + fields[-1].bytes, ALIGNED)
    return Slab(fields=tuple(fields), bytes=up(offset, PAGE))


def up(size: int, to: int) -> int:
    """The next multiple."""
    return -(-size // to) * to


class BlockSource(Protocol):
    """Where the blocks of a net come from. Every block has the layout `slab`."""

    slab: Slab
    count: int

    def read(self, index: int, into: memoryview) -> None:
        """Fill `into`, of `slab.bytes` bytes at a page's address, with block `index`; blocks may be
        read from several threads at once. Raises BadInput where the bytes cannot be had."""
        ...
