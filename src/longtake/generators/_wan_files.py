"""Wan's files of weights: which ones a film needs, and what sizes of nets they hold. No torch.

They have official names, or any where their tensors tell what they are. A safetensors file says its
shapes in its header. A pickle does not without being run through, and is taken to hold the official
sizes; opening it tells.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from longtake.core.errors import BadInput, WeightsMissing
from longtake.core.media import Knobs
from longtake.core.plain import from_plain
from longtake.generators import _wan_stored as held
from longtake.generators._wan_stored import Held, headers
from longtake.nets import clip_vision_needs, taehv_needs, umt5_keys, umt5_needs
from longtake.nets.wan import sizes as dit
from longtake.nets.wan import vae_needs
from longtake.nets.wan.sizes import I2V_14B, T2V_1_3B, T2V_14B, DiTConfig
from longtake.weights import block_manifest, catalog, home, shards
from longtake.weights.block_manifest import Description
from longtake.weights.quantize import EIGHT_BITS

Found = dict[str, tuple[Path, ...]]
"""Files by role."""
MODELS: Final = {
    "t2v-1.3b": T2V_1_3B,
    "t2v-14b": T2V_14B,
    "i2v-14b-480p": I2V_14B,
    "i2v-14b-720p": I2V_14B,
    "t2v-14b-distilled": T2V_14B,
    "i2v-14b-480p-distilled": I2V_14B,
    "i2v-14b-720p-distilled": I2V_14B,
}
DISTILLED: Final = "-distilled"
"""Ends the names of models for 4 steps without guidance."""
TINY: Final = "taew-2.1"
"""The decoder's name among the weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    transformer: DiTConfig
    text: umt5_needs.UmT5Config = umt5_needs.XXL
    image: clip_vision_needs.ClipConfig = clip_vision_needs.VIT_H
    vae: vae_needs.Sizes = vae_needs.WAN_2_1
    taehv: taehv_needs.TaehvConfig = taehv_needs.TAEW2_1
    matrices: str | None = None
    """What matrices of the transformer's blocks are kept in, where that is 8 bits."""
    text_matrices: str | None = None
    """The same of the text encoder."""
    image_matrices: str | None = None
    """The same of CLIP."""
    stored: frozenset[str] = frozenset()
    """Of "transformer" and "text" those that lie in block files."""
    tokenizer: int
    """Bytes of its file."""


def takes_image(knobs: Knobs) -> bool:
    return MODELS[str(knobs["model"])].image_dim is not None


def find(knobs: Knobs) -> Found:
    """Raises WeightsMissing, with the command to run, or BadInput."""
    return {role: _files(knobs, role) for role in _roles(knobs)}


def there(knobs: Knobs) -> Found:
    """Those that are here; a plan may be made before files are fetched. Raises BadInput."""
    found: Found = {}
    for role in _roles(knobs):
        with suppress(WeightsMissing):
            found[role] = _files(knobs, role)
    return found


def _roles(knobs: Knobs) -> tuple[str, ...]:
    roles = ["transformer", "text", "tokenizer"]
    if takes_image(knobs):
        roles += ["image", "vae"]  # which encodes
    elif knobs["decoder"] == "vae":
        roles.append("vae")
    return (*roles, "taehv") if knobs["decoder"] == "taehv" else tuple(roles)


def _tiny(place: Path) -> Path:
    """TAEHV's file, beside the model's others or where it was pulled to."""
    (file,) = catalog.model(TINY).files
    beside = [place / name for name in file.names if (place / name).is_file()]
    return beside[0] if beside else home.find(TINY, file.role)


def _files(knobs: Knobs, role: str) -> tuple[Path, ...]:
    """Those of a role, by the official names or else by what is in them."""
    name, given = f"wan-{knobs['model']}", str(knobs["folder"])
    folder = Path(given).expanduser() if given else None
    place = folder or home.home() / name
    if role == "taehv":
        return (_tiny(place),)
    try:
        return home.find_all(name, role, folder)
    except WeightsMissing:
        model = catalog.model(name)
        fitting = [
            paths
            for paths in shards.others(place, model)
            if all(path.is_file() for path in paths) and _told(headers(paths), role)
        ]
        if len(fitting) > 1:
            raise BadInput(
                f"{place} holds {len(fitting)} files that may be the {role}: "
                f"{', '.join(paths[0].name for paths in fitting)}. Leave one of them there."
            ) from None
        if not fitting:
            raise
        return fitting[0]


def _told(found: Held | None, role: str) -> bool:
    """Whether tensors have the names of a role's."""
    if found is None:
        return False
    marks = {
        "transformer": held.DIT_MARKS, "text": umt5_keys.MARKS, "vae": held.VAE_MARKS,
        "image": held.IMAGE_MARKS,
    }  # fmt: skip
    return any(mark in found.all for mark in marks.get(role, ()))


def blocks(found: Found, role: str = "transformer") -> Description | None:
    """What the block files of a role hold; None where it is in another form. Raises BadInput."""
    first = next(iter(found.get(role, ())), None)
    if first is None or first.name != catalog.BLOCKS:
        return None
    return block_manifest.read(first.parent)


def config_of(description: Description) -> DiTConfig:
    """Raises BadInput for another family's."""
    try:
        return from_plain(DiTConfig, dict(description.config))
    except ValueError as error:
        raise BadInput(f"The block files of {description.model}: {error}.") from None


def text_config_of(description: Description) -> umt5_needs.UmT5Config:
    """Raises BadInput for another net's."""
    try:
        return from_plain(umt5_needs.UmT5Config, dict(description.config))
    except ValueError as error:
        raise BadInput(
            f"The block files of the text encoder of {description.model}: {error}."
        ) from None


def stored_dtype(description: Description) -> str:
    """That of all tensors but the exact ones and matrices in 8 bits."""
    plain = ("ffn.0.bias", "norm1.weight")  # of the transformer, of the text encoder
    return next(f.dtype for f in description.slab.fields if f.name in plain)


def tokenizer(found: Found) -> Path:
    return next(path for path in found["tokenizer"] if path.name == "tokenizer.json")


def sizes(knobs: Knobs) -> Sizes:
    """What the files hold, or what the published ones do of those that are not here. Raises
    BadInput for a file that is damaged or of another model."""
    found = there(knobs)
    if "tokenizer" in found:
        words = tokenizer(found).stat().st_size
    else:
        files = catalog.model(f"wan-{knobs['model']}").of_role("tokenizer")
        words = next(file.bytes or 0 for file in files if file.name.endswith("tokenizer.json"))
    transformer, matrices = _transformer(found, knobs)
    text, text_matrices = _text(found, knobs)
    image, image_matrices = _image(found, knobs)
    vae, tiny = (headers(found.get(role, ())) for role in ("vae", "taehv"))
    return Sizes(
        transformer=transformer, matrices=matrices, text=text, text_matrices=text_matrices,
        stored=frozenset(role for role in ("transformer", "text") if blocks(found, role)),
        vae=vae_needs.WAN_2_1 if vae is None else held.vae(vae),
        image=image, image_matrices=image_matrices,
        taehv=taehv_needs.TAEW2_1 if tiny is None else held.taehv(tiny),
        tokenizer=words,
    )  # fmt: skip


def _transformer(found: Found, knobs: Knobs) -> tuple[DiTConfig, str | None]:
    """With what its matrices are kept in."""
    written, header = blocks(found), headers(found.get("transformer", ()))
    if written is not None:
        return config_of(written), _matrices(written)
    if header is None:
        return MODELS[str(knobs["model"])], None
    held.scaled(header, raw=bool(knobs["raw_fp8"]))
    known = held.transformer(header)
    return known.config, held.matrices(header, known.names, dit.matrix)


def _text(found: Found, knobs: Knobs) -> tuple[umt5_needs.UmT5Config, str | None]:
    written, header = blocks(found, "text"), headers(found.get("text", ()))
    if written is not None:
        return text_config_of(written), _matrices(written)
    if header is None:
        return umt5_needs.XXL, None
    held.scaled(header, raw=bool(knobs["raw_fp8"]))
    known = held.text(header)
    return known.config, held.matrices(header, known.names, umt5_needs.matrix)


def _image(found: Found, knobs: Knobs) -> tuple[clip_vision_needs.ClipConfig, str | None]:
    header = headers(found.get("image", ()))
    if header is None:
        return clip_vision_needs.VIT_H, None
    held.scaled(header, raw=bool(knobs["raw_fp8"]))
    known = held.image(header)
    return known, held.image_matrices(header, known)


def _matrices(description: Description) -> str | None:
    """What block files keep matrices in, where that is 8 bits."""
    return next((f.dtype for f in description.slab.fields if f.dtype in EIGHT_BITS), None)
