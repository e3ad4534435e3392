"""From files to the nets of Wan 2.1, in the official layout or in that of the libraries, with
matrices in scaled 8 bits where communities have made them so.

Tensors are read one by one, cast and moved: beside what a net keeps, the host holds some 256 MB of
the mapped files. Names and shapes must be a net's, all of them. Of the text encoder's table of
tokens only the rows of a prompt are read, when it is.
"""

from __future__ import annotations

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
from longtake.generators import _wan_stored as stored
from longtake.generators._wan_stored import Held, inside, joined
from longtake.nets import clip_vision, clip_vision_needs, taehv, umt5_needs
from longtake.nets.clip_vision import ClipVision
from longtake.nets.linear import KINDS, SCALE, quantized
from longtake.nets.names import Names, adopted
from longtake.nets.taehv import Taehv
from longtake.nets.umt5 import StoredRows, UmT5
from longtake.nets.umt5_keys import TABLE
from longtake.nets.wan import sizes, vae_names
from longtake.nets.wan.causal import arrange
from longtake.nets.wan.dit import DiT
from longtake.nets.wan.sizes import DiTConfig, Shape
from longtake.nets.wan.vae import VaeConfig, WanVae
from longtake.weights.catalog import BLOCKS
from longtake.weights.quantize import NARROW, dequantize, per_row
from longtake.weights.reader import SAFETENSORS, Weights, open_weights

Files = Mapping[str, Sequence[Path]]
"""By role: "transformer", "text", "vae", "image" (CLIP), "taehv"; each one file or several shards.
Of "text", "vae", "image" and "taehv" those are loaded that are there. Other roles are not looked
at."""
_PORTION: Final = 1 << 26  # values read through one mapping: 256 MB of float32
_FLOATS: Final = ("float32", "float16", "bfloat16")
_ORDER: Final = ("text", "image", "conditioner", "transformer", "vae", "taehv")
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


def load(
    files: Files, dtypes: Dtypes, home: str, *, streamed: bool = False, raw: bool = False
) -> Parts:
    """The nets, at `home`, by name:

        "text"         UmT5
        "image"        ClipVision
        "conditioner"  what of the DiT prompt, image and time steps go through, once: a DiT of no
                       blocks
        "transformer"  the rest of the DiT, without that: `release` was called
        "vae"          WanVae; its encoder only for models that take an image
        "taehv"        Taehv

    `streamed`: blocks of nets in block files stay there, and each net's `block_source` reads them;
    `close` those. `raw`: fp8 without scales is taken. Raises BadInput for files that do not fit a
    net or each other."""
    nets: dict[str, nn.Module] = {}
    try:
        conditioner, transformer = _dit(files["transformer"], dtypes, home, streamed, raw)
        config = transformer.config
        wanted = _wanted(config, files)
        nets |= {"conditioner": conditioner, "transformer": transformer}
        if "text" in wanted:
            nets["text"] = _text(files["text"], dtypes.text, home, streamed, raw)
        if "image" in wanted:
            nets["image"] = _image(_Shards(files["image"], raw), config, dtypes.image, home)
        if "vae" in wanted:
            encodes = config.enter > config.leave
            nets["vae"] = _vae(_Shards(files["vae"], raw), encodes, dtypes.vae, home)
        if "taehv" in wanted:
            nets["taehv"] = _tiny(_Shards(files["taehv"], raw), dtypes.vae, home)
    except BaseException:
        close(nets)
        raise
    return Parts({name: nets[name] for name in _ORDER if name in nets})


def close(nets: Mapping[str, nn.Module] | Parts) -> None:
    """Let go of block files that nets read from."""
    for net in nets.values():
        source = getattr(net, "block_source", None)
        if source is not None:
            source.close()


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


# --- nets with blocks ----------------------------------------------------------------------------


def _dit(
    paths: Sequence[Path], dtypes: Dtypes, home: str, streamed: bool, raw: bool
) -> tuple[DiT, DiT]:
    """The conditioner, and the rest of the transformer."""
    if paths[0].name == BLOCKS:
        return _wan_blocks.load(paths[0], home, streamed=streamed)
    shards = _Shards(paths, raw)
    found = stored.transformer(shards.held)

    def dtype(key: str) -> torch.dtype:
        return torch.float32 if sizes.exact(key) else dtypes.transformer

    def part(build: Callable[[], DiT]) -> DiT:
        kind = stored.matrices(shards.held, found.names, sizes.matrix)
        net = _in_8_bits(_on_meta(build), kind, sizes.matrix)
        return _filled(net, shards, found.names, dtype, home)

    return part(lambda: DiT(replace(found.config, layers=0))), part(lambda: _released(found.config))


def _released(config: DiTConfig) -> DiT:
    net = DiT(config)
    net.release()
    return net


def _text(paths: Sequence[Path], dtype: torch.dtype, home: str, streamed: bool, raw: bool) -> UmT5:
    if paths[0].name == BLOCKS:
        return _wan_blocks.load_text(paths[0], home, streamed=streamed)
    shards = _Shards(paths, raw)
    found = stored.text(shards.held)
    net = _on_meta(lambda: UmT5(found.config))
    (table,) = found.names[TABLE]
    scale = shards.held.scales.get(table)
    net.token_embedding = StoredRows(_wan_blocks.rows_of(shards.places[table], table, dtype, scale))
    kind = stored.matrices(shards.held, found.names, umt5_needs.matrix)
    net = _in_8_bits(net, kind, umt5_needs.matrix)
    return _filled(net, shards, found.names, lambda _: dtype, home)


def _in_8_bits(
    net: Net, kind: str | None, is_matrix: Callable[[str, Shape], bool], at: str = "blocks."
) -> Net:
    """The net, on meta, with layers of such a kind in its blocks, whose names begin with `at`."""
    if kind is not None:
        kinds = {
            key.removesuffix(".weight"): kind
            for key, like in net.state_dict().items()
            if key.startswith(at) and is_matrix(inside(key, at), tuple(like.shape))
        }
        quantized(net, kinds)
    return net


# --- the other nets ------------------------------------------------------------------------------


def _image(shards: _Shards, config: DiTConfig, dtype: torch.dtype, home: str) -> ClipVision:
    size = stored.image(shards.held)
    if size.dim != config.image_dim:
        raise BadInput(
            f"{shards} gives tokens of {size.dim} values; the transformer takes {config.image_dim}."
        )
    net = _on_meta(lambda: ClipVision(size))
    if stored.IMAGE_MARKS[0] in shards.held.all:
        unused = clip_vision.not_needed
        table: Names = _same(net)
    else:
        unused = clip_vision.not_needed_there
        table = clip_vision.names(size, shards.held.shapes)
    _fitting(net, shards, table, lambda key: unused(size, key))
    kind = stored.image_matrices(shards.held, size)
    net = _in_8_bits(net, kind, clip_vision_needs.matrix, clip_vision_needs.BLOCKS)
    return _filled(net, shards, table, lambda _: dtype, home)


def _vae(shards: _Shards, encodes: bool, dtype: torch.dtype, home: str) -> WanVae:
    official = stored.VAE_MARKS[0] in shards.held.all
    config = VaeConfig(base=stored.vae(shards.held).base, encoder=encodes)
    net = _on_meta(lambda: WanVae(config))
    only = _only_encodes if official else vae_names.only_encodes
    table = _same(net) if official else vae_names.names(config)
    net = _adopted(net, shards, table, None if encodes else only, dtype, home)
    arrange(net)
    return net


def _only_encodes(key: str) -> bool:
    return key.startswith(("encoder.", "conv1."))


def _tiny(shards: _Shards, dtype: torch.dtype, home: str) -> Taehv:
    config = stored.taehv(shards.held)
    net = _on_meta(lambda: Taehv(config))
    net = _adopted(net, shards, _same(net), taehv.only_encodes, dtype, home)
    arrange(net)
    return net


# --- tensors -------------------------------------------------------------------------------------


class _Shards:
    """One file or several, as one table."""

    def __init__(self, paths: Sequence[Path], raw: bool) -> None:
        """Raises BadInput, also for 8-bit values that cannot be used."""
        self.places: dict[str, Path] = {}
        tensors: list[tuple[Path, str, tuple[str, Shape]]] = []
        for path in paths:
            with open_weights(path) as weights:
                found, kinds = weights.shapes(), weights.dtypes()
            tensors += [(path, key, (kinds[key], shape)) for key, shape in found.items()]
            self.places |= dict.fromkeys(found, path)
        self.held: Held = joined(paths, tensors)
        stored.scaled(self.held, raw=raw)

    def __str__(self) -> str:
        return self.held.said


class _Reading:
    """Tensors of shards. Files are opened anew after each portion, so that pages already used are
    let go; a pickle, which costs more to open, is not."""

    def __init__(self, shards: _Shards, stack: ExitStack) -> None:
        self._places, self._outer = shards.places, stack
        self._scales = shards.held.scales
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

    def wide(self, key: str) -> Tensor:
        """The same, made wide again where it is in 8 bits."""
        found = self.tensor(key)
        scale = self._scales.get(key)
        return found if scale is None else dequantize(found, self.tensor(scale))

    def scale(self, key: str, rows: int) -> Tensor:
        """The scales of a matrix in 8 bits, one for each row."""
        return per_row(self.tensor(self._scales[key]), rows)


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
    _fitting(net, shards, names, unused)
    return _filled(net, shards, names, lambda _: dtype, home)


def _fitting(
    net: nn.Module, shards: _Shards, names: Names, unused: Callable[[str], bool] | None
) -> None:
    """Raises BadInput where names or sizes are not a net's."""
    shapes = shards.held.shapes
    there = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    try:
        adopted(net, names, there, unused)
    except ValueError as error:
        raise BadInput(f"{shards}: {error}.") from None


def _filled(
    net: Net, shards: _Shards, names: Names, dtype: Callable[[str], torch.dtype], home: str
) -> Net:
    """The net, on meta before, with the tensors of files whose names and sizes are known to fit.
    Raises BadInput for values that are no numbers."""
    state: dict[str, Tensor] = {}
    wanted = net.state_dict()
    used = {shards.held.kind(name) for key in wanted for name in names.get(key, ())}
    if odd := sorted(used.difference(_FLOATS, NARROW)):
        raise BadInput(f"{shards} holds {', '.join(odd)}; only {', '.join(_FLOATS)} are read.")
    with ExitStack() as stack:
        reading = _Reading(shards, stack)
        for key, like in wanted.items():
            if key not in names:  # of an 8-bit layer
                (matrix,) = names[f"{key.removesuffix(SCALE)}weight"]
                state[key] = reading.scale(matrix, len(like)).to(home)
            elif like.dtype in KINDS.values():
                state[key] = reading.tensor(names[key][0]).to(home)
            else:
                parts = [reading.wide(name) for name in names[key]]
                whole = torch.cat(parts) if len(parts) > 1 else parts[0]
                state[key] = whole.reshape(like.shape).to(device=home, dtype=dtype(key))
    net.load_state_dict({k: _wan_blocks.aligned(v) for k, v in state.items()}, assign=True)
    return net.eval()
