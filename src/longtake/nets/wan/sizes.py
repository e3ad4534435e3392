"""Sizes of Wan 2.1's transformers, and which tensors they consist of. Nothing here needs torch.

Source: https://github.com/Wan-Video/Wan2.1, wan/configs and wan/modules/model.py;
https://arxiv.org/abs/2503.20314.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Final

Shape = tuple[int, ...]
Table = dict[str, Shape]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiTConfig:
    """Sizes of the net; the defaults are those of T2V-1.3B."""

    dim: int = 1536
    heads: int = 12
    layers: int = 30
    ffn_dim: int = 8960
    enter: int = 16
    """Channels of what goes in: of the latents and, from an image, of its mask and latents."""
    leave: int = 16
    """Channels of a latent."""
    patch: tuple[int, int, int] = (1, 2, 2)
    text_dim: int = 4096
    text_length: int = 512
    """Tokens that a prompt is filled up to; the net attends to all of them."""
    freq_dim: int = 256
    image_dim: int | None = None
    """Of CLIP's tokens; None: the net takes text alone."""
    eps: float = 1e-6

    def __post_init__(self) -> None:
        if self.dim % self.heads:
            raise ValueError(f"{self.dim} channels cannot be dealt out to {self.heads} heads")

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    @property
    def patch_values(self) -> int:
        """Of a token's patch, as predicted."""
        return self.leave * prod(self.patch)


HEAD_DIM: Final = 128
"""Of all published models."""
IMAGE_TOKENS: Final = 257
"""That CLIP makes of an image."""

T2V_1_3B: Final = DiTConfig()
T2V_14B: Final = DiTConfig(dim=5120, heads=40, layers=40, ffn_dim=13824)
I2V_14B: Final = DiTConfig(
    dim=5120, heads=40, layers=40, ffn_dim=13824, enter=36, image_dim=1280
)  # fmt: skip


def image_tokens(config: DiTConfig) -> int:
    """That the net takes beside the text's."""
    return 0 if config.image_dim is None else IMAGE_TOKENS


# --- tensors -------------------------------------------------------------------------------------


def tensors(config: DiTConfig) -> Table:
    """Key -> shape of all tensors, under their official names."""
    table = rest_tensors(config)
    block = block_tensors(config)
    for number in range(config.layers):
        table |= {f"blocks.{number}.{key}": shape for key, shape in block.items()}
    return table


def block_tensors(config: DiTConfig) -> Table:
    """Of one block, without the prefix `blocks.N.`."""
    dim, ffn = config.dim, config.ffn_dim
    table: Table = {"modulation": (1, 6, dim), **_affine("norm3", dim)}
    for kind in ("self_attn", "cross_attn"):
        for part in "qkvo":
            table |= _affine(f"{kind}.{part}", dim, dim)
        table |= {f"{kind}.norm_q.weight": (dim,), f"{kind}.norm_k.weight": (dim,)}
    if config.image_dim is not None:
        table |= _affine("cross_attn.k_img", dim, dim) | _affine("cross_attn.v_img", dim, dim)
        table["cross_attn.norm_k_img.weight"] = (dim,)
    return table | _affine("ffn.0", ffn, dim) | _affine("ffn.2", dim, ffn)


PHASES: Final = {
    "self_attention": ("modulation", "self_attn"),
    "cross_attention": ("norm3", "cross_attn"),
    "feed_forward": ("modulation", "ffn"),
}
"""What a block does, one after the other, and the tensors that each reads, by what their names
begin with. The modulation, a ten thousandth of a block, belongs to two of them."""


def rest_tensors(config: DiTConfig) -> Table:
    """All that stands before and after the blocks."""
    dim, image = config.dim, config.image_dim
    table = {
        **_affine("patch_embedding", dim, config.enter, *config.patch),
        **_affine("text_embedding.0", dim, config.text_dim),
        **_affine("text_embedding.2", dim, dim),
        **_affine("time_embedding.0", dim, config.freq_dim),
        **_affine("time_embedding.2", dim, dim),
        **_affine("time_projection.1", 6 * dim, dim),
        "head.modulation": (1, 2, dim),
        **_affine("head.head", config.patch_values, dim),
    }
    if image is not None:
        table |= _affine("img_emb.proj.0", image) | _affine("img_emb.proj.1", image, image)
        table |= _affine("img_emb.proj.3", dim, image) | _affine("img_emb.proj.4", dim)
    return table


def _affine(name: str, *shape: int) -> Table:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


_EXACT = ("time_embedding.", "time_projection.", "head.", "img_emb.proj.0.", "img_emb.proj.4.")


def exact(key: str) -> bool:
    """Whether a tensor is kept in float32, as published, whatever the others are kept in: what the
    time step goes through, norms of tokens, and the head. A hundredth of a 14B model."""
    return key.startswith(_EXACT) or key.endswith("modulation") or ".norm3." in f".{key}"


def once(key: str) -> bool:
    """Whether a tensor is needed only for what prompt, image and time steps give."""
    return key.startswith(("text_embedding.", "time_embedding.", "time_projection.", "img_emb."))


def matrix(key: str, shape: Shape) -> bool:
    """Whether a tensor of a block is one of its matrices: what an 8-bit format is for."""
    return len(shape) == 2 and key.endswith(".weight")


# --- chunks --------------------------------------------------------------------------------------

LEAST_ROWS: Final = 32
"""Matrix products of fewer rows take other ways through the libraries, and round differently."""


def chunks(tokens: int, size: int | None) -> list[slice]:
    """Runs of `size` tokens; a remainder of fewer than LEAST_ROWS goes with the last one, so that a
    chunk has `size` + 31 at most. None: all in one. Raises ValueError for a size below LEAST_ROWS.
    """
    if size is None:
        return [slice(0, tokens)]
    if size < LEAST_ROWS:
        raise ValueError(f"a chunk has at least {LEAST_ROWS} tokens, not {size}")
    count = max((tokens + size - LEAST_ROWS) // size, 1)
    edges = [*range(0, count * size, size), tokens]
    return [slice(a, b) for a, b in pairwise(edges)]


def parts(tokens: int, size: int | None, queries: int | None) -> list[list[slice]]:
    """The chunks of so many tokens in groups that ask together in self attention: of `queries`
    tokens, rounded down to whole chunks; None: all together."""
    if queries is None:
        return [chunks(tokens, size)]
    if size is None:
        return [[rows] for rows in chunks(tokens, queries)]
    found, many = chunks(tokens, size), max(queries // size, 1)
    return [found[first : first + many] for first in range(0, len(found), many)]
