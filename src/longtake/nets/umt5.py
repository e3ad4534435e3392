"""umT5's encoder: the text encoder of Wan.

    ids [B, L] -> embedding [B, L, 4096]
    24 blocks: self attention with a bias by distance, gated feed-forward, each behind an RMS norm
    norm -> [B, L, 4096]

Scores are not scaled. The bias of a block depends on the head and on the bucket of the distance
between two tokens: 16 buckets each way, 8 for single distances, 8 that grow up to 128. Wan pads to
512 tokens and cuts the result to the true length, which is the same as not to pad.

Names of parameters are those of `models_t5_umt5-xxl-enc-bf16.pth`; `umt5_keys.py` says where they
lie in a file of the transformers library. The embedding is a fifth of the weights, of which a
prompt takes a few rows: `StoredRows` in its place reads them where they lie.

Source: https://github.com/Wan-Video/Wan2.1, wan/modules/t5.py; T5 https://arxiv.org/abs/1910.10683;
umT5 https://arxiv.org/abs/2304.09151. This module knows no tokenizer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtake.nets.umt5_needs import PHASES, UmT5Config

_HALF_LIMIT: Final = torch.finfo(torch.float16).max - 1000


@dataclass(frozen=True, slots=True)
class Sight:
    """What the tokens see of each other; the same for all blocks."""

    buckets: Tensor
    """int64 [L, L]: of the distance from query (row) to key (column)."""
    hidden: Tensor | None
    """bool [B, 1, 1, L]: keys that are padding."""


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) in float32, then in the dtype of the weights times them."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        exact = x.float()
        scale = torch.rsqrt(exact.pow(2).mean(-1, keepdim=True) + self.eps)
        return (exact * scale).to(self.weight.dtype) * self.weight


class Attention(nn.Module):
    def __init__(self, config: UmT5Config) -> None:
        super().__init__()
        self.heads, inner = config.heads, config.heads * config.head_dim
        self.q = nn.Linear(config.dim, inner, bias=False)
        self.k = nn.Linear(config.dim, inner, bias=False)
        self.v = nn.Linear(config.dim, inner, bias=False)
        self.o = nn.Linear(inner, config.dim, bias=False)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """[B, L, dim], scores' bias [1 or B, heads, L, L] -> [B, L, dim]."""
        found = F.scaled_dot_product_attention(
            self._split(self.q(x)),
            self._split(self.k(x)),
            self._split(self.v(x)),
            attn_mask=bias,
            scale=1.0,
        )
        made: Tensor = self.o(found.transpose(1, 2).flatten(2))
        return made

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], self.heads, -1).transpose(1, 2)


class FeedForward(nn.Module):
    def __init__(self, config: UmT5Config) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.Linear(config.dim, config.ffn_dim, bias=False), nn.GELU(approximate="tanh")
        )
        self.fc1 = nn.Linear(config.dim, config.ffn_dim, bias=False)
        self.fc2 = nn.Linear(config.ffn_dim, config.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.fc2(self.fc1(x) * self.gate(x))
        return made


class Distances(nn.Module):
    """A block's bias of the scores by distance."""

    def __init__(self, config: UmT5Config) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.buckets, config.heads)

    def forward(self, sight: Sight) -> Tensor:
        """[1 or B, heads, L, L]; of keys that are padding the lowest value there is."""
        bias: Tensor = self.embedding(sight.buckets).permute(2, 0, 1)[None].contiguous()
        if sight.hidden is not None:
            bias = bias.masked_fill(sight.hidden, torch.finfo(bias.dtype).min)
        return bias


class Block(nn.Module):
    """[B, L, dim] -> the same."""

    phases: ClassVar = PHASES

    def __init__(self, config: UmT5Config) -> None:
        super().__init__()
        self.norm1 = RMSNorm(config.dim, config.eps)
        self.attn = Attention(config)
        self.norm2 = RMSNorm(config.dim, config.eps)
        self.ffn = FeedForward(config)
        self.pos_embedding = Distances(config)

    def __iter__(self) -> Iterator[Callable[[Tensor, Sight], Tensor]]:
        """Its phases."""
        return (getattr(self, name) for name in self.phases)

    def forward(self, x: Tensor, sight: Sight) -> Tensor:
        for phase in self:
            x = phase(x, sight)
        return x

    def attention(self, x: Tensor, sight: Sight) -> Tensor:
        return _finite(x + self.attn(self.norm1(x), self.pos_embedding(sight)))

    def feed_forward(self, x: Tensor, sight: Sight) -> Tensor:  # noqa: ARG002 -- as all phases
        return _finite(x + self.ffn(self.norm2(x)))


class StoredRows(nn.Module):
    """In the place of `token_embedding`: rows of a table that is no part of the net, and is never
    moved with it."""

    def __init__(self, read: Callable[[Tensor], Tensor]) -> None:
        """`read`: ids int64 [N], on the CPU -> rows [N, dim] there."""
        super().__init__()
        self._read = read

    def forward(self, ids: Tensor) -> Tensor:
        """[B, L] -> [B, L, dim], on the CPU."""
        rows = self._read(ids.cpu().flatten())
        return rows.view(*ids.shape, rows.shape[-1])


class UmT5(nn.Module):
    """`blocks` is the seam for offloading: the forward pass only iterates over it."""

    def __init__(self, config: UmT5Config) -> None:
        super().__init__()
        self.config = config
        self.token_embedding: nn.Module = nn.Embedding(config.vocabulary, config.dim)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.dim, config.eps)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """ids [B, L] -> [B, L, dim]; `mask` [B, L] is 0 where a token is padding."""
        x = self.embed(ids)
        sight = self.sight(ids.shape[1], mask, x.device)
        for block in self._blocks():
            x = block(x, sight)
        return self.finish(x)

    def embed(self, ids: Tensor) -> Tensor:
        """[B, L] -> [B, L, dim], where the ids are; the table may lie elsewhere."""
        table = self.token_embedding
        there = ids.to(table.weight.device) if isinstance(table, nn.Embedding) else ids
        made: Tensor = table(there)
        return made.to(ids.device)

    def sight(self, length: int, mask: Tensor | None, device: torch.device) -> Sight:
        """What tokens see of each other, on `device`."""
        buckets = distance_buckets(length, self.config.buckets, self.config.reach).to(device)
        hidden = None if mask is None else (mask == 0).to(device)[:, None, None]
        return Sight(buckets, hidden)

    def finish(self, x: Tensor) -> Tensor:
        made: Tensor = self.norm(x)
        return made

    def _blocks(self) -> Iterator[Block]:
        yield from self.blocks  # type: ignore[misc]


def distance_buckets(length: int, buckets: int, reach: int) -> Tensor:
    """int64 [L, L], from query (row) to key (column). Made on the CPU: logarithms of other devices
    may fall on the other side of a border."""
    places = torch.arange(length)
    ahead = places[None, :] - places[:, None]
    each_way = buckets // 2
    single = each_way // 2
    distance = ahead.abs()
    grown = torch.log(distance.clamp(min=1).float() / single) / math.log(reach / single)
    far = (single + (grown * (each_way - single)).long()).clamp(max=each_way - 1)
    return torch.where(distance < single, distance, far) + each_way * (ahead > 0)


def _finite(x: Tensor) -> Tensor:
    """float16 is too narrow for some of the sums."""
    return x.clamp(-_HALF_LIMIT, _HALF_LIMIT) if x.dtype == torch.float16 else x
