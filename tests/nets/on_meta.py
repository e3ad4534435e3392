"""What passes would need on a GPU, told on meta tensors: attention as the kernels there have it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

SLACK = 64 << 10
"""Bytes that a prediction may be above what was traced, where a hundredth is less."""


def flash(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    found: Tensor = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v)[0]
    return found


def efficient(q: Tensor, k: Tensor, v: Tensor, **how: Any) -> Tensor:
    """The kernel that takes any bias and any width; it wants rows of a bias in eights."""
    bias = how.get("attn_mask")
    if bias is not None:
        over = -bias.shape[-1] % 8
        bias = F.pad(bias, (0, over))[..., : bias.shape[-1]] if over else bias
        bias = bias.expand(*q.shape[:2], *bias.shape[2:])
    found: Tensor = torch.ops.aten._scaled_dot_product_efficient_attention(
        q, k, v, bias, False, scale=how.get("scale")
    )[0]
    return found


@contextmanager
def attending(kernel: Any) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(F, "scaled_dot_product_attention", kernel)
        yield


def close(said: int, traced: int) -> bool:
    """At most a hundredth above what was traced, never below it."""
    return traced <= said <= max(1.01 * traced, traced + SLACK)
