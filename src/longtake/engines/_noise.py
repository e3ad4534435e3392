"""Noise that belongs to a place: a function of (seed, latent frame, channel, row, column).

So tiles, segments and machines agree on it, in any order and for films of any length. Integers are
mixed in int64 with factors below 2^31, where nothing overflows; the normal distribution is computed
in float64 and then cast: on a CPU and on a GPU the cast values have been equal, all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_MASK: Final = (1 << 32) - 1
_FACTORS: Final = (0x7FEB352D, 0x2C1B3C6D)
_SHIFTS: Final = (16, 15, 16)
_AXES: Final = (0x1B873593, 0x5C4BCEA9, 0x38B34AE5, 0x27D4EB2F)  # frame, channel, row, column


def noise(
    seed: int, frames: range, channels: int, rows: range, columns: range, device: torch.device
) -> Tensor:
    """Standard normal values [1, channels, frames, rows, columns], float64, on `device`.

    Frames, rows and columns are absolute, in latent units.
    """
    import torch

    mixed = torch.tensor(_mixed_seed(seed), device=device)
    axes = (frames, range(channels), rows, columns)
    order = (2, 1, 3, 4)  # of the axes in the result
    for places, axis, salt in zip(axes, order, _AXES, strict=True):
        shape = [1] * 5
        shape[axis] = len(places)
        numbers = torch.arange(places.start, places.stop, device=device) & _MASK
        # each number is mixed by itself first: no row is another row, moved
        mixed = _mix(mixed ^ _mix(numbers ^ salt).view(shape))
    uniform = mixed.double().add_(0.5).div_(1 << 32)
    normal: Tensor = torch.special.ndtri(uniform)
    return normal


def _mix(x: Tensor) -> Tensor:
    """A hash of 32-bit integers: xor-shift and multiply, as in https://nullprogram.com/blog/2018/07/31."""
    for shift, factor in zip(_SHIFTS, _FACTORS, strict=False):
        x = ((x ^ (x >> shift)) * factor) & _MASK
    return x ^ (x >> _SHIFTS[-1])


def _mixed_seed(seed: int) -> int:
    """32 bits of a seed of any size."""
    import hashlib

    return int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:4], "little")
