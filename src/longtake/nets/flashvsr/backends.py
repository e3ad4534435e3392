"""Softmax attention over the blocks that are kept (attention.py), by different means.

They agree but for last bits, and differ in speed and memory:

    reference  plain loop over kept blocks; any device; little memory
    gathered   PyTorch's attention over copies of what is kept; any device, made for a GPU
    flex       FlexAttention: CUDA, needs Triton and a C compiler; by far the fastest
"""

from __future__ import annotations

import bisect
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

GATHERED_BYTES: Final = 256 << 20
"""Of copies of keys and values at a time."""
GATHERED_STEP: Final = 16
"""Lists of kept blocks are filled up to multiples of it, so that many rows go together."""
FLEX_OPTIONS: Final = {
    (9, 0): {"BLOCK_M": 64, "BLOCK_N": 64, "num_warps": 4, "num_stages": 3, "USE_TMA": True},
}
"""By compute capability, as measured (benchmarks/flashvsr); elsewhere PyTorch's own choice. They
give the same bits on an H200 as that one does."""


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


def gathered(queries: Tensor, keys: Tensor, values: Tensor, selection: Selection) -> Tensor:
    """PyTorch's attention, many rows of blocks at a time: those that keep about as many."""
    heads, rows, _ = selection.kept.shape
    counts, places = (x.flatten(0, 1) for x in selection.packed(selection.kept.shape[-1]))
    order = counts.argsort(stable=True)
    sizes = counts[order].tolist()
    blocks = queries.view(rows, BLOCK, heads, -1)
    made = torch.zeros_like(queries)
    results = made.view(blocks.shape)
    least = 2 * BLOCK * queries.shape[-1] * queries.element_size()  # bytes of a block's copies
    start = sum(size == 0 for size in sizes)
    while start < len(sizes):
        width = -(-sizes[start] // GATHERED_STEP) * GATHERED_STEP
        most = max(GATHERED_BYTES // (least * width), 1)
        stop = min(bisect.bisect_right(sizes, width), start + most)
        which = order[start:stop]
        head, row = which // rows, which % rows
        k, v = (_gathered(x, places[which, :width], head)[:, None] for x in (keys, values))
        seen = torch.arange(k.shape[2], device=head.device) < BLOCK * counts[which][:, None]
        found = F.scaled_dot_product_attention(
            blocks[row, :, head][:, None], k, v, attn_mask=seen[:, None, None]
        )
        results[row, :, head] = found[:, 0]
        start = stop
    return made


def _gathered(x: Tensor, places: Tensor, heads: Tensor) -> Tensor:
    """Blocks of x [ring, 128, H, d] at places [rows, width], each row's of one of the H heads ->
    [rows, blocks * 128, d]."""
    _, size, count, dim = x.shape
    tokens = places.long()[..., None] * size + torch.arange(size, device=x.device)
    values = tokens.flatten(1) * count + heads[:, None]
    return x.reshape(-1, dim).index_select(0, values.flatten()).view(*values.shape, dim)


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
    options = FLEX_OPTIONS.get(torch.cuda.get_device_capability(q.device))
    made: Tensor = _compiled_flex()(q, k, v, block_mask=mask, kernel_options=options)
    return made[0].transpose(0, 1)


@functools.cache
def _compiled_flex() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)


BACKENDS: Final[dict[str, Attend]] = {"reference": reference, "gathered": gathered, "flex": flex}


def unusable(backend: str, device: torch.device) -> str | None:
    """Why a backend cannot run on a device, or None if it can. Loads no library; KeyError for a
    name that is not in BACKENDS."""
    if BACKENDS[backend] is not flex:
        return None
    if device.type != "cuda":
        return f"it needs a CUDA device, not {device.type}"
    return flex_lacks(torch.cuda.get_device_capability(device))
