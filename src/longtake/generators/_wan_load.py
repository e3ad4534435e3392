"""From files to the nets of Wan 2.1, in the official layout or in that of the diffusers library.

Tensors are read one by one, cast and moved: beside what a net keeps, the host holds some 256 MB of
the mapped files. Names and shapes must be a net's, all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

import torch
from torch import Tensor, nn

from longtake.core.errors import BadInput
from longtake.engines._parts import Parts
from longtake.generators import _wan_blocks
from longtake.nets import clip_vision, taehv, umt5
from longtake.nets.clip_vision import ClipVision
from longtake.nets.clip_vision_needs import ClipConfig
from longtake.nets.names import Names, adopted
from longtake.nets.taehv import Taehv
from longtake.nets.taehv_needs import TaehvConfig
from longtake.nets.umt5 import UmT5
from longtake.nets.umt5_needs import UmT5Config
from longtake.nets.wan import keys, sizes, vae_names
from longtake.nets.wan.causal import arrange
from longtake.nets.wan.dit import DiT
from longtake.nets.wan.keys_diffusers import DIFFUSERS
from longtake.nets.wan.keys_official import OFFICIAL
from longtake.nets.wan.sizes import DiTConfig, Shape
from longtake.nets.wan.vae import VaeConfig, WanVae
from longtake.weights.catalog import BLOCKS
from longtake.weights.reader import SAFETENSORS, Weights, open_weights

Files = Mapping[str, Sequence[Path]]
"""By role: "transformer", "text", "vae", "image" (CLIP), "taehv"; each one file or several shards.
Of "text", "vae", "image" and "taehv" those are loaded that are there. Other roles are not looked
at."""
_PORTION: Final = 1 << 26  # values read through one mapping: 256 MB of float32
_FLOATS: Final = ("float32", "float16", "bfloat16")
_CLIP_HEAD: Final = 80
"""Channels of a head of ViT-H; shapes do not tell."""
Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dtypes:
    """What weights are kept in."""

    transformer: torch.dtype = torch.bfloat16
    """But for the tensors of `sizes.exact`, which are float32 always."""
    text: torch.dtype = torch.bfloat16
    image: torch.dtype = torch.float16
    vae: torch.dtype = torch.float32
    """Of TAEHV too."""


def load(files: Files, dtypes: Dtypes, home: str, *, streamed: bool = False) -> Parts:
    """The nets, at `home`, by name:

        "text"         UmT5
        "image"        ClipVision
        "conditioner"  what of the DiT prompt, image and time steps go through, once: a DiT of no
                       blocks
        "transformer"  the rest of the DiT, without that: `release` was called
        "vae"          WanVae; its encoder only for models that take an image
        "taehv"        Taehv

    `streamed`: the transformer's blocks stay in its block files, and its
    `block_source` reads them; close that. Raises BadInput for files that do not fit a net or each
    other."""
    conditioner, transformer = _dit(files["transformer"], dtypes.transformer, home, streamed)
    config = transformer.config
    wanted = _wanted(config, files)
    nets: dict[str, nn.Module] = {}
    if "text" in wanted:
        nets["text"] = _text(_Shards(files["text"]), dtypes.text, home)
    if "image" in wanted:
        nets["image"] = _image(_Shards(files["image"]), config, dtypes.image, home)
    nets |= {"conditioner": conditioner, "transformer": transformer}
    if "vae" in wanted:
        encodes = config.enter > config.leave
        nets["vae"] = _vae(_Shards(files["vae"]), encodes, dtypes.vae, home)
    if "taehv" in wanted:
        nets["taehv"] = _tiny(_Shards(files["taehv"]), dtypes.vae, home)
    return Parts(nets)


def _dit(paths: Sequence[Path], kept: torch.dtype, home: str, streamed: bool) -> tuple[DiT, DiT]:
    """The conditioner, and the rest of the transformer."""
    if paths[0].name == BLOCKS:
        return _wan_blocks.load(paths[0], home, streamed=streamed)
    shards = _Shards(paths)
    found = _read(shards)

    def dtype(key: str) -> torch.dtype:
        return torch.float32 if sizes.exact(key) else kept

    def part(build: Callable[[], DiT]) -> DiT:
        return _filled(_on_meta(build), shards, found.names, dtype, home)

    return part(lambda: DiT(replace(found.config, layers=0))), part(lambda: _released(found.config))


def _wanted(config: DiTConfig, files: Files) -> set[str]:
    """The roles to load beside the transformer. Raises BadInput where one is missing."""
    roles = set(files) & {"text", "vae", "taehv"}
    if not roles & {"vae", "taehv"}:
        raise BadInput('There is neither a "vae" nor a "taehv" to make pictures of latents.')
    needs = {"vae"} if config.enter > config.leave else set()
    needs |= {"image"} if config.image_dim is not None else set()
    if lacking := sorted(needs - set(files)):
        raise BadInput(
            f"This transformer takes an image, and for that needs files for: {', '.join(lacking)}."
        )
    return roles | needs


def _read(shards: _Shards) -> keys.Found:
    try:
        return keys.read(shards.shapes, (OFFICIAL, DIFFUSERS))
    except ValueError as error:
        raise BadInput(f"{shards}: {error}.") from None


def _released(config: DiTConfig) -> DiT:
    net = DiT(config)
    net.release()
    return net


# --- the other nets ------------------------------------------------------------------------------


def _text(shards: _Shards, dtype: torch.dtype, home: str) -> UmT5:
    official = "token_embedding.weight" in shards.shapes
    names = {} if official else {k: f"{v}.weight" for k, v in umt5.TRANSFORMERS.items()}
    first = "blocks.0." if official else "encoder.block.0."

    def size(part: str) -> Shape:
        return shards.shape(first + names.get(part, f"{part}.weight"))

    buckets, heads = size("pos_embedding.embedding")
    rows, dim = size("attn.q")
    other = "shared.weight" if "shared.weight" in shards.shapes else "encoder.embed_tokens.weight"
    config = UmT5Config(
        vocabulary=shards.shape("token_embedding.weight" if official else other)[0],
        dim=dim,
        heads=heads,
        head_dim=rows // heads,
        ffn_dim=size("ffn.fc1")[0],
        layers=shards.count("blocks." if official else "encoder.block."),
        buckets=buckets,
    )
    net = _on_meta(lambda: UmT5(config))
    if official:
        return _adopted(net, shards, _same(net), None, dtype, home)
    table = umt5.names(config, shards.shapes)
    return _adopted(net, shards, table, umt5.stored_twice, dtype, home)


def _image(shards: _Shards, config: DiTConfig, dtype: torch.dtype, home: str) -> ClipVision:
    official = "visual.cls_embedding" in shards.shapes
    prefix = "visual." if official else _prefix(shards)
    first = "transformer.0.mlp.0.weight" if official else "encoder.layers.0.mlp.fc1.weight"
    patches = "patch_embedding.weight" if official else "embeddings.patch_embedding.weight"
    places = "pos_embedding" if official else "embeddings.position_embedding.weight"
    dim, _, patch, _ = shards.shape(prefix + patches)
    tokens = shards.shape(prefix + places)[-2]
    if dim != config.image_dim or dim % _CLIP_HEAD:
        raise BadInput(
            f"{shards} gives tokens of {dim} values; the transformer takes {config.image_dim}."
        )
    net_config = ClipConfig(
        image=math.isqrt(tokens - 1) * patch,
        patch=patch,
        dim=dim,
        heads=dim // _CLIP_HEAD,
        ffn_dim=shards.shape(prefix + first)[0],
        layers=shards.count(prefix + ("transformer." if official else "encoder.layers.")) - 1,
    )
    net = _on_meta(lambda: ClipVision(net_config))
    if official:
        unused = clip_vision.not_needed
        table: Names = _same(net)
    else:
        unused = clip_vision.not_needed_there
        table = clip_vision.names(net_config, shards.shapes)
    return _adopted(net, shards, table, lambda key: unused(net_config, key), dtype, home)


def _prefix(shards: _Shards) -> str:
    there = any(key.startswith(clip_vision.PREFIX) for key in shards.shapes)
    return clip_vision.PREFIX if there else ""


def _vae(shards: _Shards, encodes: bool, dtype: torch.dtype, home: str) -> WanVae:
    official = "decoder.head.0.gamma" in shards.shapes
    width = shards.shape("decoder.head.0.gamma" if official else "decoder.norm_out.gamma")[0]
    config = VaeConfig(base=width, encoder=encodes)
    net = _on_meta(lambda: WanVae(config))
    only = _only_encodes if official else vae_names.only_encodes
    table = _same(net) if official else vae_names.names(config)
    net = _adopted(net, shards, table, None if encodes else only, dtype, home)
    arrange(net)
    return net


def _only_encodes(key: str) -> bool:
    return key.startswith(("encoder.", "conv1."))


def _tiny(shards: _Shards, dtype: torch.dtype, home: str) -> Taehv:
    latent = shards.shape("decoder.1.weight")[1]
    first, *others = (shards.shape(f"decoder.{i}.weight")[0] for i in (1, 8, 14, 20))
    config = TaehvConfig(latent=latent, widths=(first, others[0], others[1], others[2]))
    net = _on_meta(lambda: Taehv(config))
    net = _adopted(net, shards, _same(net), taehv.only_encodes, dtype, home)
    arrange(net)
    return net


# --- tensors -------------------------------------------------------------------------------------


class _Shards:
    """One file or several, as one table. Raises BadInput."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        self.shapes: dict[str, Shape] = {}
        self.kinds: dict[str, str] = {}
        self.places: dict[str, Path] = {}
        for path in self.paths:
            with open_weights(path) as weights:
                found, kinds = weights.shapes(), weights.dtypes()
            twice = sorted(found.keys() & self.shapes.keys())
            if twice:
                raise BadInput(f"{path} holds {twice[0]} once more: are these shards of one model?")
            self.shapes |= found
            self.kinds |= kinds
            self.places |= dict.fromkeys(found, path)

    def __str__(self) -> str:
        more = f" and {len(self.paths) - 1} more" if len(self.paths) > 1 else ""
        return f"{self.paths[0]}{more}" if self.paths else "an empty list of files"

    def shape(self, key: str) -> Shape:
        if key not in self.shapes:
            raise BadInput(f"{self} is not what it should be: there is no {key}.")
        return self.shapes[key]

    def count(self, prefix: str) -> int:
        """Numbered modules behind a prefix."""
        return len(
            {k[len(prefix) :].partition(".")[0] for k in self.shapes if k.startswith(prefix)}
        )


class _Reading:
    """Tensors of shards. Files are opened anew after each portion, so that pages already used are
    let go; a pickle, which costs more to open, is not."""

    def __init__(self, shards: _Shards, stack: ExitStack) -> None:
        self._places, self._outer = shards.places, stack
        self._open: dict[Path, Weights] = {}
        self._stack = stack.enter_context(ExitStack())
        self._values = 0

    def tensor(self, key: str) -> Tensor:
        path = self._places[key]
        if self._values >= _PORTION:
            self._stack.close()
            self._values = 0
            self._open = {p: w for p, w in self._open.items() if p.suffix != SAFETENSORS}
        if path not in self._open:
            stack = self._stack if path.suffix == SAFETENSORS else self._outer
            self._open[path] = stack.enter_context(open_weights(path))
        found = self._open[path].tensor(key)
        self._values += found.numel()
        return found


def _on_meta(build: Callable[[], Net]) -> Net:
    with torch.device("meta"):
        return build()


def _same(net: nn.Module) -> Names:
    return {key: (key,) for key in net.state_dict()}


def _adopted(
    net: Net,
    shards: _Shards,
    names: Names,
    unused: Callable[[str], bool] | None,
    dtype: torch.dtype,
    home: str,
) -> Net:
    """The net with the tensors of files whose names and sizes are checked first."""
    there = {key: torch.empty(shape, device="meta") for key, shape in shards.shapes.items()}
    try:
        adopted(net, names, there, unused)
    except ValueError as error:
        raise BadInput(f"{shards}: {error}.") from None
    return _filled(net, shards, names, lambda _: dtype, home)


def _filled(
    net: Net, shards: _Shards, names: Names, dtype: Callable[[str], torch.dtype], home: str
) -> Net:
    """The net, on meta before, with the tensors of files whose names and sizes are known to fit.
    Raises BadInput for 8-bit values, whose scales lie elsewhere."""
    state = {}
    used = {shards.kinds[name] for key in net.state_dict() for name in names[key]}
    if odd := sorted(used.difference(_FLOATS)):
        raise BadInput(f"{shards} holds {', '.join(odd)}; only {', '.join(_FLOATS)} are read.")
    with ExitStack() as stack:
        reading = _Reading(shards, stack)
        for key, like in net.state_dict().items():
            parts = [reading.tensor(name) for name in names[key]]
            whole = torch.cat(parts) if len(parts) > 1 else parts[0]
            state[key] = whole.reshape(like.shape).to(device=home, dtype=dtype(key))
    net.load_state_dict(state, assign=True)
    return net.eval()
