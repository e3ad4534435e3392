"""Bytes that live at once, counted without torch by who goes through a net's layers on paper."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod

from longtake.core.blocks import ALIGNED, VALUE_BYTES, up

Shape = tuple[int, ...]
Table = Mapping[str, Shape]
"""Key -> shape of a net's tensors."""
_SCALE = "float32"  # of each row of an 8-bit matrix


@dataclass(slots=True)
class Live:
    now: int = 0
    peak: int = 0

    def beside(self, size: int) -> None:
        """For a moment, `size` bytes more."""
        self.peak = max(self.peak, self.now + size)

    def hold(self, size: int) -> None:
        """From now on; less where `size` is below 0."""
        self.now += size
        self.peak = max(self.peak, self.now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Bytes of a net that works on a stream, beside its weights and what it is given."""

    state: int
    """What it remembers between two steps, at most."""
    activations: int
    """At the peak, beyond that."""

    @property
    def peak(self) -> int:
        return self.state + self.activations


def stored(table: Table, dtype: str) -> int:
    """Bytes of tensors that are all kept in one dtype."""
    return sum(map(prod, table.values())) * VALUE_BYTES[dtype]


def each_stored(
    table: Table, dtype: str, matrices: str | None, is_matrix: Callable[[str, Shape], bool]
) -> list[int]:
    """Bytes of each tensor, its matrices in another dtype if given; an 8-bit one has a scale per
    row behind it."""
    found = []
    for key, shape in table.items():
        inside = matrices if matrices and is_matrix(key, shape) else None
        found.append(prod(shape) * VALUE_BYTES[inside or dtype])
        if inside and VALUE_BYTES[inside] == 1:
            found.append(shape[0] * VALUE_BYTES[_SCALE])
    return found


def aligned(sizes: Iterable[int]) -> int:
    """Bytes of tensors one behind the other, as in a block."""
    return sum(up(size, ALIGNED) for size in sizes)


def affine(name: str, *shape: int) -> dict[str, Shape]:
    """A weight and its bias."""
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
