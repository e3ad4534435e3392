"""Wan's files of weights: which ones a film needs, and what sizes of nets they hold. No torch.

A safetensors file says its shapes in its header. A pickle does not without being run through, and
is taken to hold the official sizes; opening it tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from longtake.core.errors import BadInput, WeightsMissing
from longtake.core.media import Knobs
from longtake.core.plain import from_plain
from longtake.nets import clip_vision_needs, umt5_needs
from longtake.nets.wan import keys, vae_needs
from longtake.nets.wan.keys_diffusers import DIFFUSERS
from longtake.nets.wan.keys_official import OFFICIAL
from longtake.nets.wan.sizes import I2V_14B, T2V_1_3B, T2V_14B, DiTConfig, Table
from longtake.weights import block_manifest, catalog, files, home
from longtake.weights.block_manifest import Description

Found = dict[str, tuple[Path, ...]]
"""Files by role."""
MODELS: Final = {
    "t2v-1.3b": T2V_1_3B,
    "t2v-14b": T2V_14B,
    "i2v-14b-480p": I2V_14B,
    "i2v-14b-720p": I2V_14B,
}
_CLIP_HEAD: Final = 80
_EIGHT_BITS: Final = {"int8": "int8", "fp8": "float8_e4m3fn"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    transformer: DiTConfig
    text: umt5_needs.UmT5Config = umt5_needs.XXL
    image: clip_vision_needs.ClipConfig = clip_vision_needs.VIT_H
    vae: vae_needs.Sizes = vae_needs.WAN_2_1
    matrices: str | None = None
    """What matrices of the transformer's blocks are kept in, where that is 8 bits."""
    tokenizer: int
    """Bytes of its file."""


def takes_image(knobs: Knobs) -> bool:
    return MODELS[str(knobs["model"])].image_dim is not None


def find(knobs: Knobs) -> Found:
    """Raises WeightsMissing, with the command to run, or BadInput."""
    given = str(knobs["folder"])
    folder = Path(given).expanduser() if given else None
    roles = ["transformer", "text", "tokenizer", "vae"]
    if takes_image(knobs):
        roles.append("image")
    return {role: home.find_all(f"wan-{knobs['model']}", role, folder) for role in roles}


def blocks(found: Found) -> Description | None:
    """What the transformer's block files hold; None where it is as it was published. Raises
    BadInput."""
    first = found["transformer"][0]
    return block_manifest.read(first.parent) if first.name == catalog.BLOCKS else None


def config_of(description: Description) -> DiTConfig:
    """Raises BadInput for another family's."""
    try:
        return from_plain(DiTConfig, dict(description.config))
    except ValueError as error:
        raise BadInput(f"The block files of {description.model}: {error}.") from None


def stored_dtype(description: Description) -> str:
    """That of all tensors but the exact ones and matrices in 8 bits."""
    return next(f.dtype for f in description.slab.fields if f.name == "ffn.0.bias")


def tokenizer(found: Found) -> Path:
    return next(path for path in found["tokenizer"] if path.name == "tokenizer.json")


def sizes(knobs: Knobs) -> Sizes:
    """What the files hold, or what the published ones do where they are not here: a plan may be
    made before they are fetched. Raises BadInput for a file that is damaged or of another model."""
    try:
        found = find(knobs)
    except WeightsMissing:
        files = catalog.model(f"wan-{knobs['model']}").of_role("tokenizer")
        words = next(file.bytes or 0 for file in files if file.name.endswith("tokenizer.json"))
        return Sizes(transformer=MODELS[str(knobs["model"])], tokenizer=words)
    written = blocks(found)
    return Sizes(
        transformer=_transformer(found, knobs) if written is None else config_of(written),
        matrices=None if written is None else _EIGHT_BITS.get(written.quant),
        text=_text(found["text"]), vae=_vae(found["vae"]), image=_image(found.get("image", ())),
        tokenizer=tokenizer(found).stat().st_size,
    )  # fmt: skip


def _transformer(found: Found, knobs: Knobs) -> DiTConfig:
    shapes = _shapes(found["transformer"])
    if shapes is None:
        return MODELS[str(knobs["model"])]
    try:
        return keys.read(shapes, (OFFICIAL, DIFFUSERS)).config
    except ValueError as error:
        raise BadInput(f"{found['transformer'][0]}: {error}.") from None


def _shapes(paths: Sequence[Path]) -> Table | None:
    """Of all tensors; None where a file does not say them."""
    if not paths or any(path.suffix != ".safetensors" for path in paths):
        return None
    return {
        name: tuple(about["shape"])
        for path in paths
        for name, about in files.header(path).items()
        if name != "__metadata__"
    }


def _text(paths: Sequence[Path]) -> umt5_needs.UmT5Config:
    shapes = _shapes(paths)
    if shapes is None or "token_embedding.weight" not in shapes:
        return umt5_needs.XXL
    buckets, heads = shapes["blocks.0.pos_embedding.embedding.weight"]
    vocabulary, dim = shapes["token_embedding.weight"]
    return umt5_needs.UmT5Config(
        vocabulary=vocabulary, dim=dim, heads=heads, buckets=buckets,
        head_dim=shapes["blocks.0.attn.q.weight"][0] // heads,
        ffn_dim=shapes["blocks.0.ffn.fc1.weight"][0],
        layers=_count(shapes, "blocks."),
    )  # fmt: skip


def _image(paths: Sequence[Path]) -> clip_vision_needs.ClipConfig:
    shapes = _shapes(paths)
    if shapes is None or "visual.cls_embedding" not in shapes:
        return clip_vision_needs.VIT_H
    dim, _, patch, _ = shapes["visual.patch_embedding.weight"]
    tokens = shapes["visual.pos_embedding"][-2]
    return clip_vision_needs.ClipConfig(
        image=round((tokens - 1) ** 0.5) * patch, patch=patch, dim=dim, heads=dim // _CLIP_HEAD,
        ffn_dim=shapes["visual.transformer.0.mlp.0.weight"][0],
        layers=_count(shapes, "visual.transformer.") - 1,
    )  # fmt: skip


def _vae(paths: Sequence[Path]) -> vae_needs.Sizes:
    shapes = _shapes(paths)
    if shapes is None or "decoder.head.0.gamma" not in shapes:
        return vae_needs.WAN_2_1
    return vae_needs.Sizes(base=shapes["decoder.head.0.gamma"][0])


def _count(shapes: Table, prefix: str) -> int:
    """Numbered modules behind a prefix."""
    behind = (name[len(prefix) :] for name in shapes if name.startswith(prefix))
    return len({name.partition(".")[0] for name in behind})
