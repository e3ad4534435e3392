"""How much umT5's encoder needs: arithmetic on sizes, without torch.

Bytes of tensors alone, as in wan/needs.py. With B texts of L tokens the bias of the scores, which
every block makes anew, is the largest tensor of long texts: heads * L^2 values, twice while it is
made. Attention is meant that has no matrix of scores of its own (`memory efficient`: flash
attention takes no bias).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from longtake.core.blocks import VALUE_BYTES
from longtake.nets._live import Shape, aligned, each_stored, stored

_SEEDS: Final = 16  # bytes of attention's unused random state
_LANES: Final = 8  # values: rows of a bias are filled up to a multiple of it


@dataclass(frozen=True, slots=True, kw_only=True)
class UmT5Config:
    """UmT5Config of the net; the defaults are umT5-xxl's."""

    vocabulary: int = 256_384
    dim: int = 4096
    heads: int = 64
    head_dim: int = 64
    ffn_dim: int = 10_240
    layers: int = 24
    buckets: int = 32
    """Of distances, both ways."""
    reach: int = 128
    """Tokens; from there on all distances are one bucket."""
    eps: float = 1e-6

    def __post_init__(self) -> None:
        if self.buckets % 4 or self.reach <= self.buckets // 4:
            raise ValueError(
                f"buckets must be a multiple of 4, and reach above a quarter of them: "
                f"{self.buckets} and {self.reach}"
            )


XXL: Final = UmT5Config()


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Bytes by component."""

    block: int
    """Of one block, tensors aligned: what a slot of a ring has to hold."""
    blocks: int
    """Of all."""
    embedding: int
    """Of the tokens: stays where it is stored."""
    ends: int
    """The norm behind the blocks."""

    @property
    def total(self) -> int:
        return self.blocks + self.embedding + self.ends


# --- tensors -------------------------------------------------------------------------------------


def tensors(sizes: UmT5Config) -> dict[str, Shape]:
    """Key -> shape of all tensors, under their official names."""
    table = rest_tensors(sizes)
    for number in range(sizes.layers):
        table |= {f"blocks.{number}.{key}": shape for key, shape in block_tensors(sizes).items()}
    return table


def block_tensors(sizes: UmT5Config) -> dict[str, Shape]:
    """Of one block, without the prefix `blocks.N.`."""
    dim, ffn, inner = sizes.dim, sizes.ffn_dim, sizes.heads * sizes.head_dim
    return {
        "norm1.weight": (dim,),
        **{f"attn.{part}.weight": (inner, dim) for part in "qkv"},
        "attn.o.weight": (dim, inner),
        "norm2.weight": (dim,),
        "ffn.gate.0.weight": (ffn, dim),
        "ffn.fc1.weight": (ffn, dim),
        "ffn.fc2.weight": (dim, ffn),
        "pos_embedding.embedding.weight": (sizes.buckets, sizes.heads),
    }


PHASES: Final = {
    "attention": ("norm1", "attn", "pos_embedding"),
    "feed_forward": ("norm2", "ffn"),
}
"""What a block does, one after the other, and the tensors that each reads, by what their names
begin with."""


def rest_tensors(sizes: UmT5Config) -> dict[str, Shape]:
    """What stands before and behind the blocks."""
    return {
        "token_embedding.weight": (sizes.vocabulary, sizes.dim),
        "norm.weight": (sizes.dim,),
    }


def kept_tensors(sizes: UmT5Config) -> dict[str, Shape]:
    """The same without the table of tokens, whose rows are read where it is stored."""
    return {k: s for k, s in rest_tensors(sizes).items() if k != "token_embedding.weight"}


def matrix(key: str, shape: Shape) -> bool:
    """Whether a tensor of a block is one of its matrices: what an 8-bit format is for."""
    return len(shape) == 2 and not key.startswith("pos_embedding.")


def block_sizes(sizes: UmT5Config, dtype: str, matrices: str | None = None) -> list[int]:
    """Bytes of the tensors of one block; an 8-bit matrix has a scale per row beside it."""
    return table_sizes(block_tensors(sizes), dtype, matrices)


def table_sizes(table: Mapping[str, Shape], dtype: str, matrices: str | None = None) -> list[int]:
    """The same of some of a block's tensors."""
    return each_stored(table, dtype, matrices, matrix)


def weights(sizes: UmT5Config, dtype: str, matrices: str | None = None) -> Weights:
    """With tensors in `dtype`; the matrices of the blocks in another format if asked."""
    block = aligned(block_sizes(sizes, dtype, matrices))
    rest = rest_tensors(sizes)
    embedding = stored({"token_embedding.weight": rest["token_embedding.weight"]}, dtype)
    return Weights(
        block=block,
        blocks=sizes.layers * block,
        embedding=embedding,
        ends=stored(rest, dtype) - embedding,
    )


# --- activations ---------------------------------------------------------------------------------


def activations(
    sizes: UmT5Config, tokens: int, dtype: str, *, samples: int = 1, padded: bool = False
) -> int:
    """Peak bytes of a pass over samples of so many tokens each, beside weights and ids; `padded`:
    with a mask, so that the bias is one per sample. The result is counted."""
    e, dim, inner = VALUE_BYTES[dtype], sizes.dim, sizes.heads * sizes.head_dim
    rows = samples * tokens
    x, heads, wide = (rows * width * e for width in (dim, inner, sizes.ffn_dim))
    shared = sizes.heads * tokens**2 * e
    bias = samples * shared if padded else shared
    filled = bias * -(-tokens // _LANES) * _LANES // tokens if tokens % _LANES else 0
    seen = 8 * tokens**2 + (2 * rows if padded else 0)  # buckets; which tokens are padding
    seen += _SEEDS
    norm = rows * dim * (8 if e == 4 else 10) + 8 * rows  # in float32; the scale of each token
    return seen + max(
        x + norm,
        2 * x + max(2 * shared, shared + bias if padded else 0),
        2 * x + bias + filled + 4 * heads,
        3 * x + bias + heads,
        2 * x + norm,  # from here on beside the x that the block was given
        3 * x + 3 * wide,
        4 * x + wide,
    )
