"""Weights and inputs that any machine makes alike, and clips for nets that take frame by frame."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


def formula(shape: Iterable[int], seed: int) -> Tensor:
    """Values spread over [-1, 1), in float32, by multiplication modulo 2 ** 32."""
    size = torch.Size(tuple(shape))
    x = torch.arange(size.numel(), dtype=torch.int64) + 1 + seed * 7919
    for factor in (40503, 30011, 52711):
        x = (x * factor) % (1 << 32)
        x = x ^ (x >> 15)
    return (x.double() / (1 << 31) - 1).float().reshape(size)


def by_formula(net: nn.Module) -> None:
    """Fill the net: kernels scaled by what they sum, other values near 1 (gammas) or 0 (biases)."""
    for number, (name, weight) in enumerate(net.named_parameters()):
        values = formula(weight.shape, number)
        if name.endswith("gamma"):
            values = 1 + values / 10
        elif weight.ndim > 1:
            values = values * (3 / weight[0].numel()) ** 0.5
        else:
            values = values / 10
        weight.data.copy_(values)


def video(pixels: Tensor, times: int = 1) -> Tensor:
    """[T, H, W, 3] uint8 -> [1, 3, T, times * H, times * W] in [-1, 1], nearest."""
    floats = (pixels.float() / 255 * 2 - 1).permute(3, 0, 1, 2)[None]
    return floats.repeat_interleave(times, 3).repeat_interleave(times, 4)


def each(step: Any, clip: Tensor, state: Any) -> Tensor:
    """What `step` makes of the frames of [B, C, T, H, W], one by one -> [B, C', T', H', W']."""
    return torch.stack([x for t in range(clip.shape[2]) for x in step(clip[:, :, t], state)], dim=2)
