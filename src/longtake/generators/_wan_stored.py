"""What files hold, by the names and shapes of their tensors: sizes of nets, and matrices in 8 bits.

The one place where sizes are read, for plans, which look at headers alone, and for loading. No
torch here. What a file lacks is told by the name of the tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from longtake.core.errors import BadInput
from longtake.nets import clip_vision_needs, umt5_keys
from longtake.nets.clip_vision_needs import VIT_H, ClipConfig
from longtake.nets.taehv_needs import TaehvConfig
from longtake.nets.wan import keys, vae_needs
from longtake.nets.wan.keys_diffusers import DIFFUSERS
from longtake.nets.wan.keys_official import OFFICIAL
from longtake.nets.wan.sizes import Shape
from longtake.weights import files
from longtake.weights.quantize import EIGHT_BITS, scales_in, without_scales
from longtake.weights.reader import SAFETENSORS, STORED_AS

_CLIP_HEAD: Final = 80
"""Channels of a head of ViT-H; shapes do not tell."""
_VISION: Final = "vision_model."  # before all keys of a file of CLIPVisionModel, or nothing
DIT_MARKS: Final = tuple(
    prefix + layout.mark for layout in (OFFICIAL, DIFFUSERS) for prefix in layout.prefixes
)
"""One of these is in a file of the transformer, of the VAE, of CLIP; by layout."""
VAE_MARKS: Final = ("decoder.head.0.gamma", "decoder.norm_out.gamma")
IMAGE_MARKS: Final = (
    "visual.cls_embedding", f"{_VISION}embeddings.class_embedding", "embeddings.class_embedding",
)  # fmt: skip
_IsMatrix = Callable[[str, Shape], bool]


@dataclass(frozen=True, kw_only=True)
class Held:
    """The tensors of one file, or of the shards of one checkpoint."""

    said: str
    """The files, for messages."""
    all: Mapping[str, tuple[str, Shape]]
    """Key -> dtype and shape."""

    @cached_property
    def scales(self) -> dict[str, str]:
        """Key of a matrix in 8 bits -> that of its scales."""
        return scales_in(self.all)[0]

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Of all that are weights."""
        more = scales_in(self.all)[1]
        return {key: shape for key, (_, shape) in self.all.items() if key not in more}

    def kind(self, key: str) -> str:
        return self.all[key][0]

    def shape(self, key: str, axes: int) -> Shape:
        """Raises BadInput."""
        if key not in self.all:
            raise BadInput(f"{self.said} is not what it should be: there is no {key}.")
        found = self.all[key][1]
        if len(found) != axes or not all(found):
            raise BadInput(f"{self.said}: {key} is {list(found)}, which needs {axes} axes.")
        return found

    def count(self, prefix: str) -> int:
        """Numbered modules behind a prefix."""
        behind = (key[len(prefix) :] for key in self.all if key.startswith(prefix))
        return len({name.partition(".")[0] for name in behind})

    def begins(self, prefix: str) -> bool:
        return any(key.startswith(prefix) for key in self.all)


def headers(paths: Sequence[Path]) -> Held | None:
    """What safetensors files say they hold; None where there is a pickle among them, which does not
    tell without being run through. Raises BadInput."""
    if not paths or any(path.suffix != SAFETENSORS for path in paths):
        return None
    tensors = (
        (path, name, about)
        for path in paths
        for name, about in files.header(path).items()
        if name != "__metadata__"
    )
    return joined(
        paths,
        (
            (path, name, (STORED_AS.get(about["dtype"], about["dtype"]), tuple(about["shape"])))
            for path, name, about in tensors
        ),
    )


def joined(paths: Sequence[Path], tensors: Iterable[tuple[Path, str, tuple[str, Shape]]]) -> Held:
    """Raises BadInput for a tensor that is there twice."""
    found: dict[str, tuple[str, Shape]] = {}
    for path, name, about in tensors:
        if name in found:
            raise BadInput(f"{path} holds {name} once more: are these shards of one model?")
        found[name] = about
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return Held(said=f"{paths[0]}{more}" if paths else "an empty list of files", all=found)


# --- nets -----------------------------------------------------------------------------------------


def transformer(held: Held) -> keys.Found:
    """Sizes, and where our keys lie. Raises BadInput."""
    try:
        return keys.read(held.shapes, (OFFICIAL, DIFFUSERS))
    except ValueError as error:
        raise BadInput(f"{held.said}: {error}.") from None


def text(held: Held) -> umt5_keys.Found:
    """The same of the text encoder."""
    try:
        return umt5_keys.read(held.shapes)
    except ValueError as error:
        raise BadInput(f"{held.said}: {error}.") from None


def image(held: Held) -> ClipConfig:
    """Of the blocks that are run: all but the last one of a file that holds what was trained, which
    ends in a norm, and all of one that was converted. Raises BadInput."""
    official = IMAGE_MARKS[0] in held.all
    prefix = "visual." if official else _VISION if held.begins(_VISION) else ""
    patches = "patch_embedding.weight" if official else "embeddings.patch_embedding.weight"
    places = "pos_embedding" if official else "embeddings.position_embedding.weight"
    first = "transformer.0.mlp.0.weight" if official else "encoder.layers.0.mlp.fc1.weight"
    norm = "post_norm.weight" if official else "post_layernorm.weight"
    blocks = held.count(prefix + ("transformer." if official else "encoder.layers."))
    trained = prefix + norm in held.all or blocks > VIT_H.layers
    dim, _, patch, _ = held.shape(prefix + patches, 4)
    tokens = held.shape(prefix + places, 3 if official else 2)[-2]
    if dim % _CLIP_HEAD:
        raise BadInput(f"{held.said} gives tokens of {dim} values: no multiple of {_CLIP_HEAD}.")
    return ClipConfig(
        image=math.isqrt(tokens - 1) * patch, patch=patch, dim=dim, heads=dim // _CLIP_HEAD,
        ffn_dim=held.shape(prefix + first, 2)[0],
        layers=blocks - trained,
    )  # fmt: skip


def vae(held: Held) -> vae_needs.Sizes:
    """Raises BadInput."""
    key = next((key for key in VAE_MARKS if key in held.all), VAE_MARKS[0])
    return vae_needs.Sizes(base=held.shape(key, 4)[0])


def taehv(held: Held) -> TaehvConfig:
    """Raises BadInput."""
    latent = held.shape("decoder.1.weight", 4)[1]
    first, *others = (held.shape(f"decoder.{i}.weight", 4)[0] for i in (1, 8, 14, 20))
    return TaehvConfig(latent=latent, widths=(first, others[0], others[1], others[2]))


# --- 8 bits ---------------------------------------------------------------------------------------


def matrices(
    held: Held, names: Mapping[str, tuple[str, ...]], is_matrix: _IsMatrix, at: str = "blocks."
) -> str | None:
    """What the matrices of blocks are kept in, where all of them are in one 8-bit format with
    scales; else None, and what is in 8 bits is made wide when it is read. `names`: our key -> the
    file's; `at` begins ours of blocks."""
    of_blocks = [
        theirs
        for key, (theirs, *_) in names.items()
        if key.startswith(at) and is_matrix(inside(key, at), held.shapes[theirs])
    ]
    kinds = {held.kind(key) if key in held.scales else "" for key in of_blocks}
    kind = kinds.pop() if len(kinds) == 1 else ""
    return kind if kind in EIGHT_BITS else None


def inside(key: str, at: str = "blocks.") -> str:
    """In its block: "blocks.3.ffn.0.weight" -> "ffn.0.weight"."""
    return key.removeprefix(at).split(".", 1)[1]


def image_matrices(held: Held, sizes: ClipConfig) -> str | None:
    """The same of CLIP in official names; in those of the library q, k and v lie apart, and are
    made wide."""
    names = {key: (key,) for key in clip_vision_needs.tensors(sizes) if key in held.shapes}
    return matrices(held, names, clip_vision_needs.matrix, clip_vision_needs.BLOCKS)


def scaled(held: Held, *, raw: bool) -> None:
    """Raises BadInput for 8-bit values without scales, but for fp8 if `raw`."""
    wrong = without_scales({key: held.kind(key) for key in held.shapes}, held.scales, raw=raw)
    if wrong is not None:
        raise BadInput(f"{held.said}: {wrong}{'' if raw else '; or --set raw_fp8=true takes it'}.")
