"""Rotary position embedding over (time, height, width), at any position.

A head's `head_dim` values are pairs (x[2j], x[2j+1]), turned by position * 10000^(-2j / D). The
pairs are dealt out to the three axes in order; D is the number of values of the axis. Angles are
computed in float64 on the host, so tables are the same on every device and stay exact for times
far beyond a table of fixed length. Source: RoFormer, https://arxiv.org/abs/2104.09864, and
github.com/Wan-Video/Wan2.1, wan/modules/model.py (`rope_apply`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import torch
from torch import Tensor

THETA: Final = 10000.0


def axis_dims(head_dim: int) -> tuple[int, int, int]:
    """Values of a head that belong to (time, height, width). Raises ValueError if one is odd."""
    third = head_dim // 3
    if third % 2 or head_dim % 2:
        raise ValueError(
            f"a head of {head_dim} cannot be dealt out to three axes in pairs; a third of it, "
            f"rounded down, is {third} and must be even"
        )
    return head_dim - 2 * third, third, third


def angles(positions: Iterable[float], dim: int) -> Tensor:
    """[positions, dim / 2], radians, float64."""
    steps = torch.arange(0, dim, 2, dtype=torch.float64) / dim
    return torch.outer(torch.tensor(list(positions), dtype=torch.float64), THETA**-steps)


def grid_rotation(
    times: range, height: int, width: int, head_dim: int, device: torch.device
) -> Tensor:
    """Turns cos + i sin, complex64 [len(times), height, width, head_dim / 2], of the tokens at
    `times` x rows x columns, on `device`."""
    size = len(times), height, width
    parts = []
    for axis, (positions, dim) in enumerate(
        zip((times, range(height), range(width)), axis_dims(head_dim), strict=True)
    ):
        shape = [1, 1, 1, dim // 2]
        shape[axis] = size[axis]
        turned = angles(positions, dim)
        # cast before the way to the device: float64 is slow there, or missing
        turns = torch.complex(turned.cos().float(), turned.sin().float()).to(device)
        parts.append(turns.view(shape).expand(*size, dim // 2))
    return torch.cat(parts, dim=-1)


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Turn the pairs of x [tokens, heads, head_dim] by `turns` [tokens, head_dim / 2]; computed in
    at least float32, returned in the dtype of x."""
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    pairs = torch.view_as_complex(exact.view(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turns.unsqueeze(-2)).flatten(-2).to(x.dtype)
