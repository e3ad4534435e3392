"""How much CLIP's vision tower needs: arithmetic on sizes, without torch.

Bytes of tensors alone, as in wan/needs.py, with flash attention: its sums per token, no matrix of
scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from longtake.core.blocks import VALUE_BYTES
from longtake.nets._live import Shape, affine, aligned, each_stored, stored


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipConfig:
    """ClipConfig of the net; the defaults are ViT-H/14's."""

    image: int = 224
    """Side, px."""
    patch: int = 14
    dim: int = 1280
    heads: int = 16
    ffn_dim: int = 5120
    layers: int = 31
    """Blocks that are run: one less than were trained."""
    eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.image % self.patch or self.dim % self.heads:
            raise ValueError(
                f"the image must be whole patches and the width whole heads: {self.image} px in "
                f"patches of {self.patch}, {self.dim} values in {self.heads} heads"
            )

    @property
    def tokens(self) -> int:
        return (self.image // self.patch) ** 2 + 1


VIT_H: Final = ClipConfig()
BLOCKS: Final = "visual.transformer."
"""Begins the names of the tensors of blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Bytes by component."""

    block: int
    """Of one block, tensors aligned."""
    blocks: int
    """Of all."""
    ends: int
    """All before the blocks."""

    @property
    def total(self) -> int:
        return self.blocks + self.ends


def tensors(sizes: ClipConfig) -> dict[str, Shape]:
    """Key -> shape of all tensors, under their official names."""
    table = rest_tensors(sizes)
    for number in range(sizes.layers):
        at = f"{BLOCKS}{number}"
        table |= {f"{at}.{key}": shape for key, shape in block_tensors(sizes).items()}
    return table


def block_tensors(sizes: ClipConfig) -> dict[str, Shape]:
    """Of one block, without the prefix `visual.transformer.N.`."""
    dim, ffn = sizes.dim, sizes.ffn_dim
    return {
        **affine("norm1", dim),
        **affine("attn.to_qkv", 3 * dim, dim),
        **affine("attn.proj", dim, dim),
        **affine("norm2", dim),
        **affine("mlp.0", ffn, dim),
        **affine("mlp.2", dim, ffn),
    }


def rest_tensors(sizes: ClipConfig) -> dict[str, Shape]:
    """All before the blocks."""
    return {
        "visual.patch_embedding.weight": (sizes.dim, 3, sizes.patch, sizes.patch),
        "visual.cls_embedding": (1, 1, sizes.dim),
        "visual.pos_embedding": (1, sizes.tokens, sizes.dim),
        **affine("visual.pre_norm", sizes.dim),
    }


def matrix(key: str, shape: Shape) -> bool:  # noqa: ARG001 -- as of other nets
    """Whether a tensor of a block is one of its matrices: what an 8-bit format is for."""
    return len(shape) == 2


def tensor_sizes(sizes: ClipConfig, dtype: str, matrices: str | None = None) -> list[int]:
    """Bytes of all tensors; an 8-bit matrix of a block has a scale per row beside it."""
    blocks = each_stored(block_tensors(sizes), dtype, matrices, matrix)
    return [*each_stored(rest_tensors(sizes), dtype, None, matrix), *sizes.layers * blocks]


def weights(sizes: ClipConfig, dtype: str, matrices: str | None = None) -> Weights:
    """With tensors in `dtype`; the matrices of the blocks in another format if asked."""
    block = aligned(each_stored(block_tensors(sizes), dtype, matrices, matrix))
    ends = stored(rest_tensors(sizes), dtype)
    return Weights(block=block, blocks=sizes.layers * block, ends=ends)


def activations(sizes: ClipConfig, dtype: str, *, samples: int = 1) -> int:
    """Peak bytes of a pass over so many images, beside weights and the images in float32; the
    result is counted."""
    e, rows = VALUE_BYTES[dtype], samples * sizes.tokens
    x, wide = rows * sizes.dim * e, rows * sizes.ffn_dim * e
    image = samples * 3 * sizes.image**2 * e
    sums = rows * max(4 * sizes.heads, 2 * 4) + 24  # of attention or of a norm
    return sums + max(
        2 * image + (0 if e == 4 else image),
        image + 4 * x,
        7 * x,
        3 * x + 2 * wide,
        4 * x + wide,
    )
