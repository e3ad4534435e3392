"""A block of Wan 2.1's transformer, token chunk by token chunk and in place.

A block has three phases: self attention, cross attention, feed-forward. Each needs only its own
weights and leaves nothing behind but the tokens. Self attention is the only place where tokens
meet. Keys and values of all tokens are made first, chunk by chunk; then queries and attention. With
u bytes for all tokens and `query_tokens` for all at once, x, keys, values, queries and what
attention finds live together: 5 u and a chunk's own; with fewer at a time 3 u and what those need.

Modulation, norms of tokens and sums with tokens are computed in float32, whatever the dtype.

Source: https://github.com/Wan-Video/Wan2.1, wan/modules/model.py; https://arxiv.org/abs/2503.20314.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtake.nets.rope import rotate
from longtake.nets.wan.sizes import LEAST_ROWS, PHASES, DiTConfig, parts

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""queries [q, heads, d], keys and values [k, heads, d] -> [q, heads, d]."""


def attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Softmax attention by PyTorch's own choice of kernel; on meta, flash attention's shapes.

    On a CPU queries are filled up to a multiple of LEAST_ROWS: a remainder of one to three would be
    rounded differently, and the result depend on how tokens are cut into chunks.
    """
    count = len(queries)
    if queries.device.type == "cpu":
        queries = F.pad(queries, (0, 0, 0, 0, 0, -count % LEAST_ROWS))
    q, k, v = (x.transpose(0, 1)[None] for x in (queries, keys, values))
    if q.is_meta:
        found: Tensor = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v)[0]
    else:
        found = F.scaled_dot_product_attention(q, k, v)
    return found[0].transpose(0, 1)[:count]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a pass is made. On a GPU last bits may depend on the numbers of tokens, so these belong
    to the recipe."""

    chunk_tokens: int | None = None
    """Tokens at a time through everything but self attention; None: all. See `chunks`."""
    query_tokens: int | None = None
    """Tokens at a time that ask in self attention, rounded down to whole chunks; None: all."""
    attend: Attend = attention

    def __post_init__(self) -> None:
        for tokens in (self.chunk_tokens, self.query_tokens):
            if tokens is not None and tokens < LEAST_ROWS:
                raise ValueError(
                    f"chunk_tokens and query_tokens are at least {LEAST_ROWS}, not {tokens}"
                )

    def chunks(self, tokens: int) -> list[slice]:
        """Those of so many tokens."""
        return [rows for group in self.parts(tokens) for rows in group]

    def parts(self, tokens: int) -> list[list[slice]]:
        """The chunks of so many tokens, in groups that ask together."""
        return parts(tokens, self.chunk_tokens, self.query_tokens)


@dataclass(frozen=True, slots=True)
class Given:
    """What a prompt, and an image, give to every block at every step."""

    text: Tensor
    """[text length, dim]."""
    image: Tensor | None = None
    """[image tokens, dim]."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What a time step gives; float32."""

    embedding: Tensor
    """[dim], for the head."""
    modulation: Tensor
    """[6, dim], for the blocks."""


@dataclass(frozen=True, slots=True)
class Flow:
    """All that goes from block to block: one sample on its way through the net."""

    x: Tensor
    """[tokens, dim], by frame, row and column; changed in place."""
    turns: Tensor
    """[tokens, head_dim / 2], complex: rotations of the tokens' places."""
    grid: tuple[int, int, int]
    """Frames, rows and columns of tokens."""
    given: Given
    moment: Moment
    settings: Settings


class TokenNorm(nn.LayerNorm):
    """A LayerNorm computed in float32, whatever the dtype."""

    def forward(self, input: Tensor) -> Tensor:
        """[tokens, dim] -> the same."""
        return norm(input, self.weight, self.bias, self.eps)


class Attention(nn.Module):
    """Projections that self and cross attention have in common; q and k are normed over all of
    `dim`, not per head."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        dim, self.heads = config.dim, config.heads
        self.q = nn.Linear(dim, dim)
        self.k = nn.Linear(dim, dim)
        self.v = nn.Linear(dim, dim)
        self.o = nn.Linear(dim, dim)
        self.norm_q = nn.RMSNorm(dim, eps=config.eps)
        self.norm_k = nn.RMSNorm(dim, eps=config.eps)

    def split(self, x: Tensor) -> Tensor:
        """[tokens, dim] -> [tokens, heads, head_dim]."""
        return x.view(*x.shape[:-1], self.heads, -1)


class SelfAttention(Attention):
    def queries(self, x: Tensor, turns: Tensor) -> Tensor:
        """[tokens, dim] -> the same, turned."""
        return rotate(self.split(self.norm_q(self.q(x))), turns).flatten(1)

    def keys(self, x: Tensor, turns: Tensor) -> Tensor:
        """[tokens, dim] -> the same, turned."""
        return rotate(self.split(self.norm_k(self.k(x))), turns).flatten(1)


class CrossAttention(Attention):
    """To the text and, where the net takes images, to the image; both results are added."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__(config)
        if config.image_dim is not None:
            self.k_img = nn.Linear(config.dim, config.dim)
            self.v_img = nn.Linear(config.dim, config.dim)
            self.norm_k_img = nn.RMSNorm(config.dim, eps=config.eps)

    def sources(self, given: Given) -> list[tuple[Tensor, Tensor]]:
        """Keys and values, each [length, heads, head_dim]: of the text, of the image."""
        found = [(self.norm_k(self.k(given.text)), self.v(given.text))]
        if given.image is not None:
            found.append((self.norm_k_img(self.k_img(given.image)), self.v_img(given.image)))
        return [(self.split(keys), self.split(values)) for keys, values in found]

    def forward(self, x: Tensor, sources: list[tuple[Tensor, Tensor]], attend: Attend) -> Tensor:
        """[tokens, dim] -> [tokens, dim]."""
        queries = self.split(self.norm_q(self.q(x)))
        found = attend(queries, *sources[0])
        for keys, values in sources[1:]:
            found = found + attend(queries, keys, values)
        made: Tensor = self.o(found.flatten(1))
        return made


class Block(nn.Module):
    """Changes `flow.x` in place; all else in the flow stays."""

    phases: ClassVar = PHASES

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        dim, self.eps = config.dim, config.eps
        self.modulation = nn.Parameter(torch.randn(1, 6, dim) / math.sqrt(dim))
        self.self_attn = SelfAttention(config)
        self.norm3 = TokenNorm(dim, eps=config.eps)
        self.cross_attn = CrossAttention(config)
        self.ffn = nn.Sequential(
            nn.Linear(dim, config.ffn_dim),
            nn.GELU(approximate="tanh"),
            nn.Linear(config.ffn_dim, dim),
        )

    def __iter__(self) -> Iterator[Callable[[Flow], None]]:
        """Its phases."""
        return (getattr(self, name) for name in self.phases)

    def forward(self, flow: Flow) -> None:
        for phase in self:
            phase(flow)

    def self_attention(self, flow: Flow) -> None:
        x, turns, attend = flow.x, flow.turns, flow.settings.attend
        shift, scale, gate = self._modulated(flow)[:3]
        keys, values = torch.empty_like(x), torch.empty_like(x)
        for rows in flow.settings.chunks(len(x)):
            normed = norm(x[rows], scale, shift, self.eps)
            keys[rows] = self.self_attn.keys(normed, turns[rows])
            values[rows] = self.self_attn.v(normed)
            del normed
        split, groups = self.self_attn.split, flow.settings.parts(len(x))
        for group in groups:
            first, stop = group[0].start, group[-1].stop
            queries = x.new_empty(stop - first, x.shape[1])
            for rows in group:
                normed = norm(x[rows], scale, shift, self.eps)
                queries[_less(rows, first)] = self.self_attn.queries(normed, turns[rows])
                del normed
            found = attend(split(queries), split(keys), split(values)).flatten(1)
            del queries
            if group is groups[-1]:
                del keys, values
            for rows in group:
                _add(x[rows], self.self_attn.o(found[_less(rows, first)]), gate)
            del found

    def cross_attention(self, flow: Flow) -> None:
        sources = self.cross_attn.sources(flow.given)
        for rows in flow.settings.chunks(len(flow.x)):
            x = flow.x[rows]
            x.add_(self.cross_attn(self.norm3(x), sources, flow.settings.attend))

    def feed_forward(self, flow: Flow) -> None:
        shift, scale, gate = self._modulated(flow)[3:]
        for rows in flow.settings.chunks(len(flow.x)):
            x = flow.x[rows]
            _add(x, self.ffn(norm(x, scale, shift, self.eps)), gate)

    def _modulated(self, flow: Flow) -> tuple[Tensor, ...]:
        """Shift, 1 + scale and gate [dim] of self attention, and of the feed-forward; float32."""
        modulation = self.modulation[0].float() + flow.moment.modulation
        modulation[[1, 4]] += 1
        return modulation.unbind(0)


def norm(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    """x [tokens, dim] with mean 0 and variance 1 per token, times scale, plus shift; computed in
    float32."""
    made = F.layer_norm(x.float(), scale.shape, scale.float(), shift.float(), eps)
    return made.to(x.dtype)


def _add(x: Tensor, found: Tensor, gate: Tensor) -> None:
    """x += found * gate, in float32 and rounded once."""
    x.copy_(torch.addcmul(x.float(), found.float(), gate))


def _less(rows: slice, first: int) -> slice:
    return slice(rows.start - first, rows.stop - first)
