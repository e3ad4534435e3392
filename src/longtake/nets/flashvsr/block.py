"""A block of FlashVSR's transformer: sparse self attention, cross attention, feed-forward.

Sources: dit.py. Tokens come in window order, slab by slab, and are changed in place; all but self
attention goes through in slices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtake.nets.flashvsr import attention
from longtake.nets.flashvsr.backends import Attend, Selection
from longtake.nets.flashvsr.state import LayerKV
from longtake.nets.rope import rotate


@dataclass(frozen=True, slots=True, kw_only=True)
class DiTConfig:
    """Sizes of the net; the defaults are the official ones."""

    dim: int = 1536
    heads: int = 12
    layers: int = 30
    ffn_dim: int = 8960
    channels: int = 16
    """Of a latent, in and out."""
    patch: tuple[int, int, int] = (1, 2, 2)
    text_dim: int = 4096
    freq_dim: int = 256
    eps: float = 1e-6

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads


@dataclass(frozen=True, slots=True)
class BlockConstants:
    """What a block takes from time step and text."""

    modulation: Tensor
    """[6, dim]: shift, 1 + scale, gate of self attention, then of the feed-forward."""
    text_keys: Tensor
    """[1, heads, length, head_dim], normalised."""
    text_values: Tensor

    def to(self, device: torch.device) -> BlockConstants:
        moved = (x.to(device) for x in (self.modulation, self.text_keys, self.text_values))
        return BlockConstants(*moved)


class Attention(nn.Module):
    """Projections that self and cross attention have in common; q and k are normed over all of
    `dim`, not per head."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.q = nn.Linear(config.dim, config.dim)
        self.k = nn.Linear(config.dim, config.dim)
        self.v = nn.Linear(config.dim, config.dim)
        self.o = nn.Linear(config.dim, config.dim)
        self.norm_q = nn.RMSNorm(config.dim, eps=config.eps)
        self.norm_k = nn.RMSNorm(config.dim, eps=config.eps)

    def split(self, x: Tensor) -> Tensor:
        """[tokens, dim] -> [tokens, heads, head_dim]."""
        return x.view(*x.shape[:-1], self.heads, -1)

    def queries(self, x: Tensor) -> Tensor:
        return self.split(self.norm_q(self.q(x)))

    def keys(self, x: Tensor) -> Tensor:
        return self.split(self.norm_k(self.k(x)))

    def values(self, x: Tensor) -> Tensor:
        return self.split(self.v(x))


class SelfAttention(Attention):
    def project(self, x: Tensor, turns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[tokens, dim] -> turned queries, turned keys, values, each [tokens, dim]."""
        queries = rotate(self.queries(x), turns).flatten(1)
        keys = rotate(self.keys(x), turns).flatten(1)
        return queries, keys, self.v(x)


class CrossAttention(Attention):
    def text(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """[length, dim] -> keys, values [1, heads, length, head_dim]."""
        keys, values = self.keys(context), self.values(context)
        return keys.transpose(0, 1)[None].contiguous(), values.transpose(0, 1)[None].contiguous()

    def forward(self, x: Tensor, constants: BlockConstants) -> Tensor:
        """[tokens, dim] -> [tokens, dim]."""
        found = F.scaled_dot_product_attention(
            self.queries(x).transpose(0, 1)[None], constants.text_keys, constants.text_values
        )
        made: Tensor = self.o(found[0].transpose(0, 1).flatten(1))
        return made


@dataclass(frozen=True, slots=True)
class Sight:
    """What a chunk's tokens see, and how: the same for all blocks of the net."""

    heads: int
    budget: int
    """Key blocks that a head keeps for a query slab."""
    local: Tensor
    """bool [n, n]."""
    columns: Tensor
    """int64: places of the key blocks in the ring, in order of time."""
    attend: Attend

    def __call__(self, queries: Tensor, kv: LayerKV) -> Tensor:
        """Sparse self attention of one query slab: [n * 128, dim] -> [n * 128, dim]."""
        scores = attention.block_scores(
            self._split(attention.block_means(queries)),
            self._split(kv.key_means.flatten(0, 1)[self.columns]),
        )
        kept = attention.keep_blocks(scores, self.local, self.budget)
        keys, values = (
            self._split(x.view(-1, attention.BLOCK, x.shape[-1])) for x in (kv.keys, kv.values)
        )
        selection = Selection(kept, self.columns)
        return self.attend(self._split(queries), keys, values, selection).flatten(1)

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], self.heads, -1)


class Block(nn.Module):
    """[slabs, n * 128, dim], changed in place."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        dim, self.eps = config.dim, config.eps
        self.modulation = nn.Parameter(torch.randn(1, 6, dim) / math.sqrt(dim))
        self.self_attn = SelfAttention(config)
        self.cross_attn = CrossAttention(config)
        self.norm3 = nn.LayerNorm(dim, eps=config.eps)
        self.ffn = nn.Sequential(
            nn.Linear(dim, config.ffn_dim),
            nn.GELU(approximate="tanh"),
            nn.Linear(config.ffn_dim, dim),
        )

    def constants(self, t_mod: Tensor, context: Tensor) -> BlockConstants:
        """From t_mod [1, 6, dim] and the embedded text [length, dim]."""
        modulation = (self.modulation + t_mod)[0]
        modulation[[1, 4]] += 1
        return BlockConstants(modulation, *self.cross_attn.text(context))

    def forward(
        self,
        x: Tensor,
        kv: LayerKV,
        sight: Sight,
        turns: Tensor,
        constants: BlockConstants,
        slice_tokens: int | None,
    ) -> None:
        queries = torch.empty_like(x)
        parts = list(slices(x, slice_tokens))
        for slab, rows in parts:
            queries[slab, rows], keys, values = self.project(
                x[slab, rows], turns[slab, rows], constants
            )
            kv.write(slab, rows, keys, values)
        del keys, values  # not held while others are large
        kv.summarise()
        for slab in queries:
            slab.copy_(sight(slab, kv))
        for slab, rows in parts:
            self.finish(x[slab, rows], queries[slab, rows], constants)

    def project(
        self, x: Tensor, turns: Tensor, constants: BlockConstants
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of tokens [tokens, dim]."""
        shift, scale = constants.modulation[0], constants.modulation[1]
        return self.self_attn.project(self._norm(x, shift, scale), turns)

    def finish(self, x: Tensor, attended: Tensor, constants: BlockConstants) -> None:
        """Add to tokens x [tokens, dim] what self attention found, cross attention and the
        feed-forward."""
        _, _, gate, shift2, scale2, gate2 = constants.modulation.unbind(0)
        x.addcmul_(self.self_attn.o(attended), gate)
        x.add_(self.cross_attn(self.norm3(x), constants))
        x.addcmul_(self.ffn(self._norm(x, shift2, scale2)), gate2)

    def _norm(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        return F.layer_norm(x, scale.shape, scale, shift, self.eps)


def slices(x: Tensor, slice_tokens: int | None) -> Iterator[tuple[int, slice]]:
    """Index of the slab and its rows, for all of x [slabs, tokens, dim]."""
    slabs, tokens = x.shape[:2]
    step = slice_tokens or tokens
    for slab in range(slabs):
        for start in range(0, tokens, step):
            yield slab, slice(start, min(start + step, tokens))
