"""Softmax attention over the blocks that are kept (attention.py), by different means.

They agree but for last bits, and differ in speed and memory:

    reference  plain loop over kept blocks; any device; little memory
    dense      PyTorch's attention with a mask; any device; for small frames, where most is kept
    flex       FlexAttention: CUDA, needs Triton and a C compiler
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F

from longtake.nets.flashvsr.attention import BLOCK
from longtake.nets.flashvsr.needs import flex_lacks

DENSE_MASK_BYTES: Final = 32 << 20


@dataclass(frozen=True, slots=True)
class Selection:
    """What a query slab attends to."""

    kept: Tensor
    """bool [heads, query blocks, key blocks], key blocks in order of time."""
    columns: Tensor
    """int64 [key blocks]: where each lies among the blocks of the ring."""

    def packed(self, width: int) -> tuple[Tensor, Tensor]:
        """Number of kept blocks [heads, q] and their places, oldest first [heads, q, width], the
        rest filled up; int32. Its shapes do not depend on what is kept or filled."""
        first = self.kept.to(torch.uint8).argsort(dim=-1, descending=True, stable=True)
        places = self.columns.to(torch.int32)[first]
        places = F.pad(places, (0, width - places.shape[-1]))
        return self.kept.sum(dim=-1, dtype=torch.int32), places


Attend = Callable[[Tensor, Tensor, Tensor, Selection], Tensor]
"""queries [n * 128, heads, d], keys and values [ring blocks, 128, heads, d], selection ->
[n * 128, heads, d]. A query block without a kept block gets 0."""


def reference(queries: Tensor, keys: Tensor, values: Tensor, selection: Selection) -> Tensor:
    """A loop over heads and query blocks, in at least float32."""
    made = torch.zeros_like(queries)
    exact = torch.promote_types(queries.dtype, torch.float32)
    scale = 1 / math.sqrt(queries.shape[-1])
    for head in range(queries.shape[1]):
        for block, row in enumerate(selection.kept[head].unbind(0)):
            places = selection.columns[row]
            if not len(places):
                continue
            part = slice(block * BLOCK, (block + 1) * BLOCK)
            near = keys[places, :, head].flatten(0, 1).to(exact)
            chances = ((queries[part, head].to(exact) * scale) @ near.T).softmax(dim=-1)
            made[part, head] = chances @ values[places, :, head].flatten(0, 1).to(exact)
    return made


def dense(queries: Tensor, keys: Tensor, values: Tensor, selection: Selection) -> Tensor:
    """PyTorch's attention over all blocks in the ring's use, head by head, masked."""
    made = torch.empty_like(queries)
    blocks = len(selection.columns)
    step = max(1, DENSE_MASK_BYTES // (BLOCK * BLOCK * blocks))  # query blocks at a time
    for head in range(queries.shape[1]):
        k, v = (x[selection.columns, :, head].flatten(0, 1)[None, None] for x in (keys, values))
        for start in range(0, selection.kept.shape[1], step):
            kept = selection.kept[head, start : start + step]
            part = slice(start * BLOCK, (start + len(kept)) * BLOCK)
            mask = kept.repeat_interleave(BLOCK, dim=0).repeat_interleave(BLOCK, dim=1)
            found = F.scaled_dot_product_attention(
                queries[None, None, part, head], k, v, attn_mask=mask[None, None]
            )
            empty = ~kept.any(dim=1).repeat_interleave(BLOCK)
            made[part, head] = found[0, 0].masked_fill(empty[:, None], 0)
    return made


def flex(queries: Tensor, keys: Tensor, values: Tensor, selection: Selection) -> Tensor:
    """FlexAttention over whole blocks; compiled once for a frame size, whatever is kept."""
    from torch.nn.attention.flex_attention import BlockMask

    ring = keys.shape[0]
    counts, places = (x[None] for x in selection.packed(ring))
    mask = BlockMask.from_kv_blocks(
        torch.zeros_like(counts),  # no block is masked inside
        torch.zeros_like(places),  # of the same shape: the kernel takes one stride for both
        counts,
        places,
        BLOCK_SIZE=BLOCK,
        seq_lengths=(len(queries), ring * BLOCK),
        compute_q_blocks=False,  # they are for the backward pass
    )
    q, k, v = (x[None].transpose(1, 2) for x in (queries, keys.flatten(0, 1), values.flatten(0, 1)))
    made: Tensor = _compiled_flex()(q, k, v, block_mask=mask)
    return made[0].transpose(0, 1)


@functools.cache
def _compiled_flex() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)


BACKENDS: Final[dict[str, Attend]] = {"reference": reference, "dense": dense, "flex": flex}


def unusable(backend: str, device: torch.device) -> str | None:
    """Why a backend cannot run on a device, or None if it can. Loads no library; KeyError for a
    name that is not in BACKENDS."""
    if BACKENDS[backend] is not flex:
        return None
    if device.type != "cuda":
        return f"it needs a CUDA device, not {device.type}"
    return flex_lacks(torch.cuda.get_device_capability(device))
