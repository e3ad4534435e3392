"""Rotary position embedding over (time, height, width), at any position.

A head's `head_dim` values are pairs (x[2j], x[2j+1]), turned by position * 10000^(-2j / D). The
pairs are dealt out to the three axes in order; D is the number of values of the axis. Angles are
computed in float64 on the host, so tables are the same on every device and stay exact for times
far beyond a table of fixed length. Source: RoFormer, https://arxiv.org/abs/2104.09864, and
github.com/Wan-Video/Wan2.1, wan/modules/model.py (`rope_apply`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

THETA: Final = 10000.0


@dataclass(frozen=True, slots=True)
class Rotation:
    """Cosines and sines of tokens, both [..., head_dim / 2], float32."""

    cos: Tensor
    sin: Tensor


def axis_dims(head_dim: int) -> tuple[int, int, int]:
    """Values of a head that belong to (time, height, width). Raises ValueError if one is odd."""
    third = head_dim // 3
    if third % 2 or head_dim % 2:
        raise ValueError(
            f"a head of {head_dim} cannot be dealt out to three axes in pairs; a third of it, "
            f"rounded down, is {third} and must be even"
        )
    return head_dim - 2 * third, third, third


def angles(positions: Iterable[int], dim: int) -> Tensor:
    """[positions, dim / 2], radians, float64."""
    steps = torch.arange(0, dim, 2, dtype=torch.float64) / dim
    return torch.outer(torch.tensor(list(positions), dtype=torch.float64), THETA**-steps)


def grid_rotation(
    times: range, height: int, width: int, head_dim: int, device: torch.device
) -> Rotation:
    """Tables [len(times), height, width, head_dim / 2] of the tokens at `times` x rows x columns,
    on `device`."""
    size = len(times), height, width
    parts = []
    for axis, (positions, dim) in enumerate(
        zip((times, range(height), range(width)), axis_dims(head_dim), strict=True)
    ):
        shape = [1, 1, 1, dim // 2]
        shape[axis] = size[axis]
        turned = angles(positions, dim)
        # cast before the way to the device: float64 is slow there, or missing
        pair = torch.stack((turned.cos(), turned.sin())).float().to(device)
        parts.append(pair.view(2, *shape).expand(2, *size, dim // 2))
    cos, sin = torch.cat(parts, dim=-1).unbind(0)
    return Rotation(cos, sin)


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn the pairs of x [tokens, heads, head_dim] by tables [tokens, head_dim / 2]; computed in
    at least float32, returned in the dtype of x."""
    cos, sin = rotation.cos.unsqueeze(-2), rotation.sin.unsqueeze(-2)
    pairwise = *x.shape[:-1], -1, 2
    even, odd = x.reshape(pairwise).unbind(-1)
    turned = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    pairs = turned.view(pairwise)
    pairs[..., 0] = (even * cos).addcmul_(odd, sin, value=-1)
    pairs[..., 1] = (even * sin).addcmul_(odd, cos)
    return turned
