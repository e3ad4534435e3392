"""How much FlashVSR needs on its device, by cause: arithmetic on sizes, without torch.

Bytes per px below are of the padded frame (sides multiples of 128); `e` is bytes per value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Final

from longtake.core.media import Knobs
from longtake.core.plan import Footprint, Geometry, Placement, Recipe
from longtake.engines import _flashvsr_files as stored
from longtake.engines._flashvsr_files import Shapes
from longtake.engines._flashvsr_frames import CELL, padded_size
from longtake.engines._flashvsr_schedule import padded
from longtake.engines._torch import VALUE_BYTES
from longtake.offload._locked import Layout, layout, power
from longtake.weights.tables import PROMPT, Table

SLICE_TOKENS: Final = 4096
"""Tokens at a time through the transformer's linear layers. On a GPU last bits may depend on it, so
it is one number for everybody."""
BLOCK_TOKENS: Final = 128
FIRST_SLABS: Final = 3
DENSE_MASK_BYTES: Final = 32 << 20  # as in nets/flashvsr/backends.py


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


def footprint(
    geometry: Geometry, recipe: Recipe, placement: Placement, shapes: Shapes, outside: Footprint
) -> Footprint:
    """Peak bytes by cause; `outside` has what libraries need."""
    knobs, at = recipe.knobs, measures(geometry, recipe, shapes)
    on_gpu = placement.devices[0].startswith("cuda")
    tiny, away = knobs["mode"] == "tiny", placement.state == "host"
    nets, fixed = _nets(shapes, at.e), _constants(shapes, at.e)
    if tiny:
        history = _small_decoder_state(at, shapes.decoder)
    else:
        history = 0 if away else sum(vae_frames(at, shapes.decoder))
    turns = {
        "dit": _before_decoding(partial(_transformer_pass, at, str(knobs["attention"])), history),
        "projector": _before_decoding(partial(_projection_pass, at, shapes.projection), history),
        "decoder": (
            _small_decoder_pass(at, shapes.decoder) if tiny
            else _vae_pass(at, shapes.decoder, away)
        ),
    }  # fmt: skip
    swap = placement.offload == "swap"
    weights, activations = _at_once(nets, turns, swap)
    waiting = _waiting(at, shapes, tiny) if away else ()
    state = (
        (_kv_buffers(at) if away else _kv(at))
        + history
        + _projection_state(at, knobs, shapes.projection)
        + _drawn(geometry, recipe, at)
    )
    if swap:
        waiting += tuple(layout(nets[name]) for name in turns)
    return Footprint(
        beside=outside.beside,
        parked=sum(x.locked for x in waiting) if on_gpu else 0,
        context=outside.context,
        weights=weights + fixed,
        block=at.e * sum(prod(s) for k, s in shapes.transformer.items() if _lasting_block(k)),
        state=state if on_gpu else state + sum(sum(x.used) for x in waiting),
        activations=activations,
    )  # fmt: skip


def measures(geometry: Geometry, recipe: Recipe, shapes: Shapes) -> Measures:
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


# --- weights -------------------------------------------------------------------------------------


def _nets(shapes: Shapes, e: int) -> dict[str, list[int]]:
    """Bytes of the tensors of each net, without what is dropped."""
    tables = {
        "dit": {k: s for k, s in shapes.transformer.items() if not stored.once(k)},
        "projector": shapes.projection,
        "decoder": {k: s for k, s in shapes.decoder.items() if not stored.only_encodes(k)},
        "loading": shapes.transformer,
    }
    return {name: [e * prod(s) for s in table.values()] for name, table in tables.items()}


def _constants(shapes: Shapes, e: int) -> int:
    """Bytes of what is made from the prompt."""
    dim = shapes.transformer["patch_embedding.weight"][0]
    text = shapes.prompt[PROMPT][-2]
    return e * stored.layers(shapes.transformer) * (2 * text + 6) * dim


def _at_once(nets: dict[str, list[int]], turns: dict[str, int], swap: bool) -> tuple[int, int]:
    """Bytes of weights, and of activations beside them, where both need the most."""
    if not swap:
        return sum(sum(nets[name]) for name in turns), max(turns.values())
    needs = [(sum(layout(nets[name]).used), needed) for name, needed in turns.items()]
    return max([*needs, (sum(nets["loading"]), 0)], key=sum)


# --- state ---------------------------------------------------------------------------------------


def _kv(at: Measures) -> int:
    values = at.slabs * (2 * at.slab_tokens + at.windows) * at.dim
    return at.layers * values * at.e


def _kv_buffers(at: Measures) -> int:
    """What of keys and values is on the device where the slabs are not: two layers, all means."""
    slabs = 2 * 2 * at.slab_tokens * at.dim
    return at.slabs * (slabs + at.layers * at.windows * at.dim) * at.e


def _waiting(at: Measures, shapes: Shapes, tiny: bool) -> tuple[Layout, ...]:
    """State on the host."""
    slabs = slab_layout(at.layers * at.slabs, at.slab_tokens * at.dim * at.e)
    return (slabs,) if tiny else (slabs, history_layout(vae_frames(at, shapes.decoder)))


def _projection_state(at: Measures, knobs: Knobs, table: Table) -> int:
    """Two frames, and two of features per token."""
    if knobs["version"] == "1.0":
        return 0
    return 2 * at.e * (3 * at.px + table["conv1.weight"][0] * at.px // 256)


def _small_decoder_state(at: Measures, table: Table) -> int:
    """Three tensors at each of 1/8, 1/4 and 1/2 of the resolution."""
    a, b, c = (table[f"decoder.{i}.weight"][0] for i in (1, 10, 16))
    return 3 * at.e * at.px * (4 * a + 16 * b + 64 * c) // 256


def vae_frames(at: Measures, table: Table) -> list[int]:
    """Bytes of the frames that the VAE's decoder remembers, two for each causal convolution; their
    sum is the formula of nets/wan/vae.py."""
    base = table["decoder.head.0.gamma"][0]
    full, half, quarter, eighth = (at.e * at.px // area for area in (1, 4, 16, 64))
    return [
        *[base * full] * 14,
        *[2 * base * half] * 12,
        *[4 * base * quarter] * 12,
        *[2 * base * quarter] * 2,
        *[4 * base * eighth] * 22,
        *[16 * eighth] * 2,
    ]


def _drawn(geometry: Geometry, recipe: Recipe, at: Measures) -> int:
    """Noise that is drawn for a whole stream at once."""
    if recipe.knobs["noise"] != "official":
        return 0
    longest = min(geometry.frames, recipe.segment_frames)
    return at.e * 16 * at.px // 64 * (padded(longest) // 4)


def slab_layout(pairs: int, size: int) -> Layout:
    """Pairs of slabs of `size` bytes in host memory, in blocks of many, so that little is lost."""
    return layout([size] * (2 * pairs), block=power(16 * size))


def history_layout(sizes: list[int]) -> Layout:
    """The frames of a history in host memory, likewise."""
    return layout(sizes, block=power(8 * max(sizes)))


# --- passes --------------------------------------------------------------------------------------


def _before_decoding(needed: Callable[[int], int], history: int) -> int:
    """Of a pass over a chunk's slabs: beside the first chunk's, which is the largest, the decoder
    has no history yet."""
    return max(needed(FIRST_SLABS) - history, needed(1))


def _transformer_pass(at: Measures, attention: str, slabs: int) -> int:
    """Which windows see each other; tokens, those of the source and queries of the slabs; tables of
    rotations; latents of the chunk before and noise; a slice inside the feed-forward, or one slab's
    scores and result."""
    tokens = slabs * at.slab_tokens
    held = (
        at.windows**2
        + _latents(at)
        + tokens * (3 * at.dim * at.e + 2 * 4 * at.dim // at.heads // 2)
    )
    part = min(SLICE_TOKENS, at.slab_tokens)
    forward = part * (2 * at.ffn + at.dim) * at.e
    pairs = at.heads * at.windows**2 * at.slabs
    choice = pairs * (2 * at.e + 3 * 4 + 8)
    seen = 2 * at.slab_tokens * at.dim * at.e + _attending(at, attention)
    return held + max(forward, choice + seen)


def _latents(at: Measures) -> int:
    """Latents of the first chunk, and noise of the one after it."""
    return (6 + 2) * 16 * at.px // 64 * at.e


def _attending(at: Measures, attention: str) -> int:
    """What the way of computing attention needs: dense gathers a head's keys and values and has a
    mask, as it is and as what is added; flex has lists of blocks. Estimated, not traced."""
    if attention == "dense":
        head = at.slabs * at.slab_tokens * at.dim // at.heads
        return 2 * head * at.e + DENSE_MASK_BYTES * (1 + at.e)
    return at.heads * at.windows**2 * at.slabs * 17 if attention == "flex" else 0


def _projection_pass(at: Measures, table: Table, slabs: int) -> int:
    """Four frames, whole and unshuffled; features before the second convolution, as they are,
    padded and joined; tokens made before, then all of them, joined."""
    first, second = table["conv1.weight"][0], table["conv2.weight"][0]
    frames = 4 * 3 * at.px * (2 * at.e)
    features = (10 * first + 2 * second) * at.px // 256 * at.e
    enlarged = 2 * 4 * 3 * at.px * 4
    tokens = slabs * at.slab_tokens * at.dim * at.e
    return _latents(at) + tokens + max(frames + features, enlarged, tokens)


def _small_decoder_pass(at: Measures, table: Table) -> int:
    """Full resolution: the source's four frames as the net takes them, whole and unshuffled, and
    four images; features at 1/4 and 1/2, those at 1/2 enlarged, and a convolution's result."""
    b, c, d = (table[f"decoder.{i}.weight"][0] for i in (10, 16, 22))
    values = 3 * 4 * 3 + b / 16 + c / 4 + c + d
    return int(at.px * (values * at.e + _beside_decoding(at.e)))


def _vae_pass(at: Measures, table: Table, away: bool) -> int:
    """Full resolution: three frames joined, the oldest of them, what is added and the result; at
    1/8 and 1/4 the two frames that one has become. `away`: the other two are brought, too."""
    base = table["decoder.head.0.gamma"][0]
    values = (8 if away else 6) * base + 8 * base / 16 + 8 * base / 64
    return int(at.px * (values * at.e + _beside_decoding(at.e)))


def _beside_decoding(e: int) -> float:
    """Bytes per px of four frames of the source in float32, and of a first chunk's latents."""
    return 4 * 3 * 4 + 6 * 16 / 64 * e
