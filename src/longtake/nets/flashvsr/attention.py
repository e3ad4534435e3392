"""Locality-constrained sparse attention (LCSA): windows, and the rule that keeps blocks.

Tokens lie in windows of 2 x 8 x 8 (time, height, width): 128 tokens, one block of attention. The
windows of two latent frames are a slab of n = h/8 * w/8 blocks. A query block attends to key blocks
near it in space (`local_mask`) whose score is among the highest of its slab (`keep_blocks`).
Softmax attention over the kept blocks: backends.py.
Source: FlashVSR, https://arxiv.org/abs/2510.12747; github.com/OpenImagingLab/FlashVSR.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

WINDOW: Final = (2, 8, 8)
"""Latent frames, rows and columns of a window; rows and columns of tokens, 16 px each."""
BLOCK: Final = math.prod(WINDOW)


# --- windows -------------------------------------------------------------------------------------


def to_windows(grid: Tensor) -> Tensor:
    """[f, h, w, C] -> slabs in window order [f / 2, n * 128, C], a copy. Raises ValueError unless
    f, h, w are multiples of 2, 8, 8."""
    f, h, w, channels = grid.shape
    wf, wh, ww = WINDOW
    if f % wf or h % wh or w % ww:
        raise ValueError(
            f"a grid of {f} x {h} x {w} tokens has no whole windows of {wf} x {wh} x {ww}"
        )
    cells = grid.reshape(f // wf, wf, h // wh, wh, w // ww, ww, channels)
    return cells.permute(0, 2, 4, 1, 3, 5, 6).reshape(f // wf, -1, channels)


def from_windows(slabs: Tensor, height: int, width: int) -> Tensor:
    """The inverse: [slabs, n * 128, C] -> [2 * slabs, height, width, C]."""
    wf, wh, ww = WINDOW
    channels = slabs.shape[-1]
    cells = slabs.reshape(-1, height // wh, width // ww, wf, wh, ww, channels)
    return cells.permute(0, 3, 1, 4, 2, 5, 6).reshape(-1, height, width, channels)


def block_means(tokens: Tensor) -> Tensor:
    """Mean of every block, rounded to the dtype: [n * 128, C] -> [n, C]."""
    return tokens.view(-1, BLOCK, tokens.shape[-1]).mean(dim=1)


# --- which blocks are kept -----------------------------------------------------------------------


def block_budget(windows: int, topk_ratio: float) -> int:
    """Blocks that a head may keep for a query slab of `windows` blocks. Raises ValueError if it
    could keep none."""
    budget = int(windows**2 * topk_ratio) - 1
    if budget < 0:
        raise ValueError(
            f"topk_ratio {topk_ratio:g} keeps no block of {windows} x {windows}; it must be at "
            f"least {1 / windows**2:.3g}"
        )
    return budget


def local_mask(rows: int, columns: int, local_range: int, device: torch.device) -> Tensor:
    """Which windows see which: bool [n, n], query windows x key windows, n = rows * columns.

    `local_range` windows per axis, the one in the middle being the query's own; an even range
    reaches one further to the top and left. At borders there are fewer.
    """

    def near(size: int) -> Tensor:
        at = torch.arange(size, device=device)
        ahead = at - at[:, None] + local_range // 2
        return (ahead >= 0) & (ahead < local_range)

    seen = near(rows)[:, None, :, None] & near(columns)[None, :, None, :]
    return seen.reshape(rows * columns, rows * columns)


def block_scores(query_means: Tensor, key_means: Tensor) -> Tensor:
    """[q, heads, d] x [kv, heads, d] -> [heads, q, kv], in the dtype of the means.

    Product and scaled product are each rounded to that dtype, as in the official code: in bfloat16
    many scores are equal because of it, and `keep_blocks` drops ties.
    """
    products = torch.matmul(query_means.transpose(0, 1), key_means.permute(1, 2, 0))
    return products / math.sqrt(query_means.shape[-1])


def keep_blocks(scores: Tensor, local: Tensor, budget: int) -> Tensor:
    """Which key blocks a slab of query blocks attends to: bool [heads, n, slabs * n].

    Takes scores [heads, n, slabs * n] and the local mask [n, n]. Probabilities are a float32
    softmax over each row's allowed blocks. Per head, all rows together keep the at most `budget`
    blocks whose probability is above that of the next one; ties with it are dropped. So a row may
    keep many blocks, or none; and if the budget is larger than the list, its smallest is dropped.
    """
    heads, rows, columns = scores.shape
    allowed = local.repeat(1, columns // local.shape[1])
    chances = scores.float().masked_fill(~allowed, -math.inf).softmax(dim=-1).view(heads, -1)
    kept = min(rows * columns - 1, budget)
    threshold = chances.topk(kept + 1, dim=1, sorted=False).values.amin(dim=1, keepdim=True)
    return (chances > threshold).view(heads, rows, columns)
