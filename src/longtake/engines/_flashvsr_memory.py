"""How much FlashVSR needs on its device, by cause: arithmetic on sizes, without torch.

Bytes per px below are of the padded frame (sides multiples of 128); `e` is bytes per value.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Final

from longtake.core.media import Knobs
from longtake.core.plan import Footprint, Geometry, Recipe
from longtake.engines import _flashvsr_files as stored
from longtake.engines._flashvsr_files import Shapes
from longtake.engines._flashvsr_frames import CELL, padded_size
from longtake.engines._flashvsr_schedule import padded
from longtake.engines._torch import VALUE_BYTES
from longtake.weights.tables import PROMPT, Table

SLICE_TOKENS: Final = 4096
"""Tokens at a time through the transformer's linear layers. On a GPU last bits may depend on it, so
it is one number for everybody."""
BLOCK_TOKENS: Final = 128
FIRST_SLABS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """Sizes of one job."""

    px: int  # of the padded frame
    windows: int
    dim: int
    ffn: int
    layers: int
    heads: int
    slabs: int  # that the ring has room for
    e: int

    @property
    def slab_tokens(self) -> int:
        return self.windows * BLOCK_TOKENS


def footprint(geometry: Geometry, recipe: Recipe, shapes: Shapes, outside: Footprint) -> Footprint:
    """Peak bytes by cause; `outside` has what libraries need."""
    knobs, at = recipe.knobs, _measures(geometry, recipe, shapes)
    tiny = knobs["mode"] == "tiny"
    stages = (
        _transformer_pass(at),
        _projection_pass(at, shapes.projection),
        _small_decoder_pass(at, shapes.decoder) if tiny else _vae_pass(at, shapes.decoder),
    )
    history = _small_decoder_state if tiny else _vae_state
    return Footprint(
        beside=outside.beside,
        context=outside.context,
        weights=_weights(shapes, at.e),
        block=at.e * sum(prod(s) for k, s in shapes.transformer.items() if _lasting_block(k)),
        state=_kv(at)
        + history(at, shapes.decoder)
        + _projection_state(at, knobs, shapes.projection)
        + _drawn(geometry, recipe, at),
        activations=max(stages),
    )


def _measures(geometry: Geometry, recipe: Recipe, shapes: Shapes) -> Measures:
    width, height = padded_size(geometry.target)
    table = shapes.transformer
    return Measures(
        px=width * height,
        windows=(width // CELL) * (height // CELL),
        dim=table["patch_embedding.weight"][0],
        ffn=table["blocks.0.ffn.0.weight"][0],
        layers=stored.layers(table),
        heads=shapes.heads,
        slabs=max(FIRST_SLABS, int(recipe.knobs["kv_ratio"]) + 1),
        e=VALUE_BYTES[recipe.numerics.dtype],
    )


def _lasting_block(key: str) -> bool:
    return key.startswith("blocks.0.") and not stored.once(key)


def _weights(shapes: Shapes, e: int) -> int:
    """Of all nets, without what is dropped, and the constants made from the prompt."""
    transformer = sum(prod(s) for k, s in shapes.transformer.items() if not stored.once(k))
    decoder = sum(prod(s) for k, s in shapes.decoder.items() if not stored.only_encodes(k))
    dim = shapes.transformer["patch_embedding.weight"][0]
    text = shapes.prompt[PROMPT][-2]
    constants = stored.layers(shapes.transformer) * (2 * text + 6) * dim
    projection = sum(map(prod, shapes.projection.values()))
    return e * (transformer + decoder + projection + constants)


# --- state ---------------------------------------------------------------------------------------


def _kv(at: Measures) -> int:
    values = at.slabs * (2 * at.slab_tokens + at.windows) * at.dim
    return at.layers * values * at.e


def _projection_state(at: Measures, knobs: Knobs, table: Table) -> int:
    """Two frames, and two of features per token."""
    if knobs["version"] == "1.0":
        return 0
    return 2 * at.e * (3 * at.px + table["conv1.weight"][0] * at.px // 256)


def _small_decoder_state(at: Measures, table: Table) -> int:
    """Three tensors at each of 1/8, 1/4 and 1/2 of the resolution."""
    a, b, c = (table[f"decoder.{i}.weight"][0] for i in (1, 10, 16))
    return 3 * at.e * at.px * (4 * a + 16 * b + 64 * c) // 256


def _vae_state(at: Measures, table: Table) -> int:
    """The formula of nets/wan/vae.py."""
    base = table["decoder.head.0.gamma"][0]
    full, half, quarter, eighth = 14 * base, 24 * base, (48 - 4 + 8) * base, (80 + 8) * base + 32
    return at.e * at.px * (64 * full + 16 * half + 4 * quarter + eighth) // 64


def _drawn(geometry: Geometry, recipe: Recipe, at: Measures) -> int:
    """Noise that is drawn for a whole stream at once."""
    if recipe.knobs["noise"] != "official":
        return 0
    longest = min(geometry.frames, recipe.segment_frames)
    return at.e * 16 * at.px // 64 * (padded(longest) // 4)


# --- passes --------------------------------------------------------------------------------------


def _transformer_pass(at: Measures) -> int:
    """The first chunk: tokens, those of the source and queries of three slabs; tables of rotations;
    a slice inside the feed-forward, or one slab's scores and result."""
    tokens = FIRST_SLABS * at.slab_tokens
    held = tokens * (3 * at.dim * at.e + 2 * 4 * at.dim // at.heads // 2)
    part = min(SLICE_TOKENS, at.slab_tokens)
    forward = part * (2 * at.ffn + 3 * at.dim) * at.e
    pairs = at.heads * at.windows**2 * at.slabs
    attention = pairs * (2 * at.e + 3 * 4 + 8) + 2 * at.slab_tokens * at.dim * at.e
    return held + max(forward, attention)


def _projection_pass(at: Measures, table: Table) -> int:
    """Four frames, whole and unshuffled; features before the second convolution, as they are,
    padded and joined; tokens made before, then all of them, joined."""
    first, second = table["conv1.weight"][0], table["conv2.weight"][0]
    frames = 4 * 3 * at.px * (2 * at.e)
    features = (10 * first + 2 * second) * at.px // 256 * at.e
    enlarged = 2 * 4 * 3 * at.px * 4
    tokens = FIRST_SLABS * at.slab_tokens * at.dim * at.e
    return tokens + max(frames + features, enlarged, tokens)


def _small_decoder_pass(at: Measures, table: Table) -> int:
    """Full resolution: the source's four frames as the net takes them, whole and unshuffled, and
    four images; features at 1/4 and 1/2, those at 1/2 enlarged, and a convolution's result."""
    b, c, d = (table[f"decoder.{i}.weight"][0] for i in (10, 16, 22))
    values = 3 * 4 * 3 + b / 16 + c / 4 + c + d
    return int(at.px * (values * at.e + _beside_decoding(at.e)))


def _vae_pass(at: Measures, table: Table) -> int:
    """Full resolution: three frames joined, the oldest of them, what is added and the result;
    at 1/8 and 1/4 the two frames that one has become."""
    base = table["decoder.head.0.gamma"][0]
    values = 6 * base + 8 * base / 16 + 8 * base / 64
    return int(at.px * (values * at.e + _beside_decoding(at.e)))


def _beside_decoding(e: int) -> float:
    """Bytes per px of four frames of the source in float32, and of a first chunk's latents."""
    return 4 * 3 * 4 + 6 * 16 / 64 * e
