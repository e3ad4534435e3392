"""Host memory that a GPU can read while it computes: page-locked, in blocks.

PyTorch keeps page-locked memory in powers of two. So tensors are laid into few large blocks of such
sizes, and it can be told beforehand, without torch, how much that takes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from torch import Tensor

BLOCK: Final = 64 << 20
ALIGNED: Final = 256
"""Bytes: every tensor begins at a multiple of it."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where tensors lie in blocks; the same for the same sizes in any order."""

    used: tuple[int, ...]
    """Bytes of each block that are in use."""
    places: tuple[tuple[int, int], ...]
    """Block and offset of each tensor."""

    @property
    def locked(self) -> int:
        """Bytes of page-locked memory."""
        return sum(map(power, self.used))


def layout(sizes: Iterable[int], block: int = BLOCK) -> Layout:
    """Lay out tensors of these bytes, the largest first; one above `block` has its own."""
    wanted = list(sizes)
    places = [(0, 0)] * len(wanted)
    used: list[int] = []
    for number in sorted(range(len(wanted)), key=lambda i: -wanted[i]):
        size = -(-wanted[number] // ALIGNED) * ALIGNED
        if not used or used[-1] + size > block:
            used.append(0)
        places[number] = len(used) - 1, used[-1]
        used[-1] += size
    return Layout(tuple(used), tuple(places))


def power(size: int) -> int:
    """The power of two that holds `size` bytes."""
    return 1 << max(size - 1, 0).bit_length()


def blocks(laid: Layout, locked: bool) -> list[Tensor]:
    """The memory: uint8, page-locked or not. Raises RuntimeError where there is not enough."""
    import torch

    return [
        torch.empty(power(used) if locked else used, dtype=torch.uint8, pin_memory=locked)
        for used in laid.used
    ]


def view(memory: list[Tensor], place: tuple[int, int], like: Tensor) -> Tensor:
    """A tensor in a block, with the dtype, shape and strides of `like`, which has no gaps."""
    block, start = place
    part = memory[block][start : start + like.numel() * like.element_size()]
    return part.view(like.dtype).as_strided(like.shape, like.stride())
