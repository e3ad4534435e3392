"""How much Wan 2.1's transformer needs: arithmetic on sizes, without torch.

Bytes of tensors alone: what libraries take beside them (workspaces, holes between tensors) is added
by who knows the device. Passes are made in inference mode.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Final

from longtake.core.blocks import ALIGNED, VALUE_BYTES, up
from longtake.nets.wan.sizes import (
    DiTConfig,
    Shape,
    block_tensors,
    chunks,
    exact,
    image_tokens,
    matrix,
    once,
    parts,
    rest_tensors,
)

_SCALE: Final = 4  # bytes, float32, for each row of an 8-bit matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Bytes by component."""

    block: int
    """Of one block, tensors aligned: what a slot of a ring has to hold."""
    blocks: int
    """Of all."""
    ends: int
    """Patch embedding and head: needed at every step."""
    once: int
    """Embeddings of text, image and time: needed before the first step."""

    @property
    def total(self) -> int:
        return self.blocks + self.ends + self.once


def weights(config: DiTConfig, dtype: str, matrices: str | None = None) -> Weights:
    """With tensors in `dtype`, but for those that are always float32 (`sizes.exact`); the matrices
    of the blocks in another format if asked, 8-bit ones with a scale per row."""
    values = VALUE_BYTES[dtype]
    inside = VALUE_BYTES[matrices or dtype]
    scale = _SCALE if inside == 1 else 0

    def rest(key: str, shape: Shape) -> int:
        return prod(shape) * (VALUE_BYTES["float32"] if exact(key) else values)

    def within(key: str, shape: Shape) -> int:
        if not matrix(key, shape):
            return up(rest(key, shape), ALIGNED)
        return up(prod(shape) * inside, ALIGNED) + up(shape[0] * scale, ALIGNED)

    block = sum(within(key, shape) for key, shape in block_tensors(config).items())
    around = rest_tensors(config)
    before = sum(rest(key, shape) for key, shape in around.items() if once(key))
    return Weights(
        block=block,
        blocks=config.layers * block,
        ends=sum(rest(key, shape) for key, shape in around.items()) - before,
        once=before,
    )


def given(config: DiTConfig, dtype: str, steps: int = 1) -> int:
    """Bytes of what prompt, image and so many time steps give to one branch."""
    kept = config.text_length + image_tokens(config)
    return kept * config.dim * VALUE_BYTES[dtype] + steps * 7 * config.dim * 4


def activations(
    config: DiTConfig,
    tokens: int,
    dtype: str,
    *,
    chunk_tokens: int | None,
    query_tokens: int | None = None,
    samples: int = 1,
) -> int:
    """Peak bytes of a pass over samples of so many tokens each, block by block, beside weights, the
    inputs and what is `given`."""
    e, dim = VALUE_BYTES[dtype], config.dim
    groups = parts(tokens, chunk_tokens, query_tokens)
    chunk = max(_length(rows, rows) for rows in chunks(tokens, chunk_tokens or query_tokens))
    asking = max(_length(group[0], group[-1]) for group in groups)
    sources = 2 * (config.text_length + image_tokens(config)) * dim * e
    turns = tokens * config.head_dim // 2 * 8
    turned = chunk * dim * _turning_bytes(e)
    queries = asking * dim * e
    self_attention = (
        2 * tokens * dim * e + queries + max(queries + asking * config.heads * 4 + _FLASH, turned)
    )
    crossed = 5 if image_tokens(config) else 4  # normed, asked, found in text and image, projected
    cross_attention = sources + max(
        _NORM * (chunk + 1) * dim, crossed * chunk * dim * e + chunk * config.heads * 4 + _FLASH
    )
    feed_forward = max(turned, chunk * (dim + 2 * config.ffn_dim) * e)
    return (
        samples * tokens * dim * e
        + turns
        + max(_MODULATION * dim + max(self_attention, feed_forward), cross_attention)
    )


_MODULATION: Final = 6 * 4  # bytes per channel: what a block makes of the time step's
_NORM: Final = 8  # bytes per value in float32, into a norm and out of it; of its weights as well
_FLASH: Final = 24  # bytes of flash attention's unused random state, beside its sum per row


def _turning_bytes(e: int) -> int:
    """Per value of a chunk whose queries or keys are turned: into the projection, out of it, then
    in float32, turned, and rounded. Sums with tokens in float32 need no more."""
    return 12 if e == 4 else 3 * e + 8


def _length(first: slice, last: slice) -> int:
    return int(last.stop - first.start)
