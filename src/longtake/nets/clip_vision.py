"""CLIP's vision tower (ViT-H/14): what Wan's image-to-video model sees of an image.

    image [B, 3, 224, 224], as `prepared` makes it -> patches of 14 x 14 px: 256 tokens
    class token in front, positions, norm; 31 of the trained 32 blocks -> [B, 257, 1280]

Wan takes what the last block but one gives; that block, the norm behind it and the head are left
out. Names of parameters are those of the visual part of
`models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth`; `names` says where they lie in a file of
the transformers library.

Source: https://github.com/Wan-Video/Wan2.1, wan/modules/clip.py (`use_31_block`); CLIP
https://arxiv.org/abs/2103.00020; https://github.com/mlfoundations/open_clip.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtake.nets.clip_vision_needs import ClipConfig
from longtake.nets.names import Names

MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
STD: Final = (0.26862954, 0.26130258, 0.27577711)
"""Of red, green and blue in [0, 1]."""


class Attention(nn.Module):
    """[B, tokens, dim] -> the same."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.to_qkv = nn.Linear(config.dim, 3 * config.dim)
        self.proj = nn.Linear(config.dim, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(*heads.unbind(0))
        made: Tensor = self.proj(found.transpose(1, 2).flatten(2))
        return made


class Block(nn.Module):
    """[B, tokens, dim] -> the same."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.dim, eps=config.eps)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.dim, eps=config.eps)
        self.mlp = nn.Sequential(
            nn.Linear(config.dim, config.ffn_dim), nn.GELU(), nn.Linear(config.ffn_dim, config.dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        made: Tensor = x + self.mlp(self.norm2(x))
        return made


class Tower(nn.Module):
    """`transformer` is the seam for offloading: the forward pass only iterates over it."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embedding = nn.Conv2d(3, config.dim, config.patch, config.patch, bias=False)
        self.cls_embedding = nn.Parameter(torch.zeros(1, 1, config.dim))
        self.pos_embedding = nn.Parameter(torch.zeros(1, config.tokens, config.dim))
        self.pre_norm = nn.LayerNorm(config.dim, eps=config.eps)
        self.transformer = nn.ModuleList(Block(config) for _ in range(config.layers))

    def forward(self, image: Tensor) -> Tensor:
        """[B, 3, side, side] -> [B, tokens, dim]."""
        x = self.embed(image)
        for block in self._blocks():
            x = block(x)
        return x

    def embed(self, image: Tensor) -> Tensor:
        """[B, 3, side, side] -> [B, tokens, dim]. Raises ValueError for another size."""
        side = self.config.image
        if tuple(image.shape[1:]) != (3, side, side):
            raise ValueError(f"the image must be [B, 3, {side}, {side}], not {list(image.shape)}")
        weight = self.patch_embedding.weight
        patches = F.pixel_unshuffle(image.to(weight.dtype), self.config.patch)
        tokens = F.linear(patches.flatten(2).transpose(1, 2), weight.flatten(1))
        first = self.cls_embedding.expand(len(tokens), -1, -1)
        made: Tensor = self.pre_norm(torch.cat((first, tokens), dim=1) + self.pos_embedding)
        return made

    def _blocks(self) -> Iterator[Block]:
        yield from self.transformer  # type: ignore[misc]


class ClipVision(nn.Module):
    """See the head of this file."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.visual = Tower(config)

    def forward(self, image: Tensor) -> Tensor:
        made: Tensor = self.visual(image)
        return made


def prepared(image: Tensor, side: int = 224) -> Tensor:
    """[B, 3, H, W] in [-1, 1], of any size -> [B, 3, side, side] as the net was trained: stretched
    to a square, without a filter against aliases, as in Wan."""
    resized = F.interpolate(image, size=(side, side), mode="bicubic", align_corners=False)
    mean, std = (image.new_tensor(v)[:, None, None] for v in (MEAN, STD))
    return (resized / 2 + 0.5 - mean) / std


def not_needed(config: ClipConfig, key: str) -> bool:
    """Whether a tensor of the official file belongs to the text, the head or a block not run."""
    return key == "log_scale" or key.startswith(
        ("textual.", "visual.post_norm.", "visual.head", f"visual.transformer.{config.layers}.")
    )


# --- files of the transformers library -----------------------------------------------------------

PREFIX: Final = "vision_model."
_BLOCK: Final = {
    "norm1": ("layer_norm1",),
    "attn.to_qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attn.proj": ("self_attn.out_proj",),
    "norm2": ("layer_norm2",),
    "mlp.0": ("mlp.fc1",),
    "mlp.2": ("mlp.fc2",),
}


def names(config: ClipConfig, keys: Collection[str]) -> Names:
    """Where the parameters lie in a file of CLIPVisionModel with these keys, which begin with
    `vision_model.` or, by newer versions, do not."""
    prefix = _prefix(keys)
    table: dict[str, tuple[str, ...]] = {
        "visual.patch_embedding.weight": (f"{prefix}embeddings.patch_embedding.weight",),
        "visual.cls_embedding": (f"{prefix}embeddings.class_embedding",),
        "visual.pos_embedding": (f"{prefix}embeddings.position_embedding.weight",),
        "visual.pre_norm.weight": (f"{prefix}pre_layrnorm.weight",),
        "visual.pre_norm.bias": (f"{prefix}pre_layrnorm.bias",),
    }
    for i in range(config.layers):
        for ours, theirs in _BLOCK.items():
            for kind in ("weight", "bias"):
                parts = tuple(f"{prefix}encoder.layers.{i}.{part}.{kind}" for part in theirs)
                table[f"visual.transformer.{i}.{ours}.{kind}"] = parts
    return table


def not_needed_there(config: ClipConfig, key: str) -> bool:
    """Whether a tensor of such a file belongs to the head or a block not run."""
    return key.removeprefix(PREFIX).startswith(
        ("post_layernorm.", "visual_projection.", f"encoder.layers.{config.layers}.")
    ) or key.endswith("embeddings.position_ids")


def _prefix(keys: Collection[str]) -> str:
    return PREFIX if any(key.startswith(PREFIX) for key in keys) else ""
