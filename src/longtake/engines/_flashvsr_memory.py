"""How much FlashVSR needs on its device, by cause: arithmetic on sizes, without torch.

Bytes per px below are of the padded frame (sides multiples of 128); `e` is bytes per value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Final

from longtake.core.blocks import ALIGNED, PAGE, up
from longtake.core.media import Knobs
from longtake.core.plan import Footprint, Geometry, Placement, Recipe
from longtake.engines import _flashvsr_files as stored
from longtake.engines._flashvsr_files import Shapes
from longtake.engines._flashvsr_frames import CELL, padded_size
from longtake.engines._flashvsr_schedule import padded
from longtake.engines._flashvsr_tiles import tiles
from longtake.engines._torch import VALUE_BYTES
from longtake.offload._locked import Layout, layout, power
from longtake.offload._partition import partition
from longtake.weights.tables import PROMPT, Table

SLICE_TOKENS: Final = 8192
"""Tokens at a time through the transformer's linear layers, at most. On a GPU last bits may depend
on it, as on BAND_ROWS, so both are one number for everybody."""
BAND_ROWS: Final = 256
"""Rows at a time through the small decoder's last layers."""
_WORKSPACE: Final = 200 << 20  # of matrix products, and holes in any case
_HOLES: Final = 0.02  # of what torch has taken, between tensors; figures: benchmarks/flashvsr
_HOLES_OF_TILES: Final = 0.04
BLOCK_TOKENS: Final = 128
FIRST_SLABS: Final = 3
GATHERED_BYTES: Final = 256 << 20  # as in nets/flashvsr/backends.py
HALO: Final = 4  # rows beside a band, as in nets/flashvsr/decoder.py


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """Sizes of one job."""

    whole: int  # px of the padded picture
    lanes: int  # tiles with a state each, or 1
    px: int  # of a tile, as all that follows
    rows: int
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
    history = at.lanes * sum(_frames(at, shapes, tiny))
    if away and (at.lanes > 1 or not tiny):
        history = 0
    turns = {
        "dit": _before_decoding(partial(_transformer_pass, at, str(knobs["attention"])), history),
        "projector": _before_decoding(partial(_projection_pass, at, shapes.projection), history),
        "decoder": (
            _small_decoder_pass(at, shapes.decoder, away) if tiny
            else _vae_pass(at, shapes.decoder, away)
        ),
    }  # fmt: skip
    ring = _ring(shapes, at, placement) if placement.offload == "ring" else None
    there = None
    if placement.offload != "resident":
        there = {name: sum(layout(nets[name]).used) for name in turns}
    if there is not None and ring is not None:
        there["dit"] = ring.device
    weights, activations = _at_once(nets, turns, there)
    waiting = at.lanes * _waiting(at, shapes, tiny) if away else ()
    paged = 0 if ring is None else ring.host
    state = (
        (_kv_buffers(at) if away else at.lanes * _kv(at))
        + history
        + at.lanes * _projection_state(at, knobs, shapes.projection)
        + _drawn(geometry, recipe, at)
    )
    if there is not None:
        whole = [name for name in turns if ring is None or name != "dit"]
        waiting += tuple(layout(nets[name]) for name in whole)
    return Footprint(
        beside=outside.beside,
        parked=paged + sum(x.locked for x in waiting) if on_gpu else 0,
        context=outside.context,
        weights=weights + fixed,
        block=at.e * sum(prod(s) for k, s in shapes.transformer.items() if _lasting_block(k)),
        state=state if on_gpu else state + paged + sum(sum(x.used) for x in waiting),
        activations=activations,
        workspace=_workspace(at, weights + fixed + state + activations) if on_gpu else 0,
    )  # fmt: skip


def _workspace(at: Measures, taken: int) -> int:
    """What libraries need, and what lies unused between tensors."""
    return _WORKSPACE + int((_HOLES if at.lanes == 1 else _HOLES_OF_TILES) * taken)


def measures(geometry: Geometry, recipe: Recipe, shapes: Shapes) -> Measures:
    grid = tiles(padded_size(geometry.target), int(recipe.knobs["tile"]))
    width, height = grid.tile
    table = shapes.transformer
    return Measures(
        whole=prod(grid.size),
        lanes=len(grid),
        px=width * height,
        rows=height,
        windows=(width // CELL) * (height // CELL),
        dim=table["patch_embedding.weight"][0],
        ffn=table["blocks.0.ffn.0.weight"][0],
        layers=stored.layers(table),
        heads=shapes.heads,
        slabs=max(FIRST_SLABS, int(recipe.knobs["kv_ratio"]) + 1),
        e=VALUE_BYTES[recipe.numerics.dtype],
    )


def slice_tokens(windows: int) -> int:
    """Tokens at a time of slabs of so many windows: equal parts, but for the last."""
    parts = -(-windows * BLOCK_TOKENS // SLICE_TOKENS)
    return -(-windows // parts) * BLOCK_TOKENS


def _lasting_block(key: str) -> bool:
    return key.startswith("blocks.0.") and not stored.once(key)


# --- weights -------------------------------------------------------------------------------------


def _nets(shapes: Shapes, e: int) -> dict[str, list[int]]:
    """Bytes of the tensors of each net, without what is dropped."""
    tables = {
        "dit": {k: s for k, s in shapes.transformer.items() if not stored.once(k)},
        "projector": shapes.projection,
        "decoder": _lasting_decoder(shapes.decoder),
        "loading": {
            k: s for k, s in shapes.transformer.items() if stored.once(k) or "modulation" in k
        },
    }
    return {name: [e * prod(s) for s in table.values()] for name, table in tables.items()}


def _lasting_decoder(table: Table) -> Table:
    """The VAE without its encoder; the small decoder with three layers merged into one each."""
    if "decoder.22.weight" not in table:
        return {k: s for k, s in table.items() if not stored.only_encodes(k)}
    kept = {k: s for k, s in table.items() if k.startswith("decoder.")}
    for grow in (9, 15, 21):
        twice, enter = kept.pop(f"decoder.{grow}.conv.weight")[:2]
        leave = kept.pop(f"decoder.{grow + 1}.weight")[0]
        for part in range(twice // enter):
            kept[f"decoder.{grow}.kernels.{part}"] = (4 * leave, enter, 2, 2)
    return kept


def _constants(shapes: Shapes, e: int) -> int:
    """Bytes of what is made from the prompt."""
    dim = shapes.transformer["patch_embedding.weight"][0]
    text = shapes.prompt[PROMPT][-2]
    return e * stored.layers(shapes.transformer) * (2 * text + 6) * dim


def _at_once(
    nets: dict[str, list[int]], turns: dict[str, int], there: dict[str, int] | None
) -> tuple[int, int]:
    """Bytes of weights, and of activations beside them, where both need the most; `there`: of each
    net's weights while it is its turn, None where all stay."""
    if there is None:
        return sum(sum(nets[name]) for name in turns), max(turns.values())
    needs = [(there[name], needed) for name, needed in turns.items()]
    return max([*needs, (sum(nets["loading"]), 0)], key=sum)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ring:
    """Bytes of the transformer's weights under a ring."""

    device: int
    host: int


def _ring(shapes: Shapes, at: Measures, placement: Placement) -> _Ring:
    block = [prod(s) * at.e for k, s in shapes.transformer.items() if _lasting_block(k)]
    slab = _run(block)
    table = {k: s for k, s in shapes.transformer.items() if not stored.once(k)}
    rest = _run([prod(s) * at.e for k, s in table.items() if not k.startswith("blocks.")])
    where = partition(at.layers, resident=placement.resident_blocks, slots=placement.slots)
    return _Ring(
        device=where.device_bytes(slab, rest), host=where.host_bytes(slab, rest, keeps=True)
    )


def _run(tensors: list[int]) -> int:
    """Bytes of tensors one behind the other, as `core.blocks` lays them."""
    return up(sum(up(size, ALIGNED) for size in tensors), PAGE)


# --- state ---------------------------------------------------------------------------------------


def _kv(at: Measures) -> int:
    values = at.slabs * (2 * at.slab_tokens + at.windows) * at.dim
    return at.layers * values * at.e


def _kv_buffers(at: Measures) -> int:
    """What of keys and values is on the device where the slabs are not: two layers, all means."""
    slabs = 2 * 2 * at.slab_tokens * at.dim
    return at.slabs * (slabs + at.lanes * at.layers * at.windows * at.dim) * at.e


def _waiting(at: Measures, shapes: Shapes, tiny: bool) -> tuple[Layout, ...]:
    """State on the host."""
    slabs = slab_layout(at.layers * at.slabs, at.slab_tokens * at.dim * at.e)
    if tiny and at.lanes == 1:
        return (slabs,)
    return slabs, history_layout(_frames(at, shapes, tiny))


def _projection_state(at: Measures, knobs: Knobs, table: Table) -> int:
    """Two frames, and two of features per token."""
    if knobs["version"] == "1.0":
        return 0
    return 2 * at.e * (3 * at.px + table["conv1.weight"][0] * at.px // 256)


def _frames(at: Measures, shapes: Shapes, tiny: bool) -> list[int]:
    """Bytes of the tensors that a decoder remembers, of one tile."""
    return (small_decoder_frames if tiny else vae_frames)(at, shapes.decoder)


def small_decoder_frames(at: Measures, table: Table) -> list[int]:
    """Bytes of what the small decoder remembers: three tensors at each of 1/8, 1/4 and 1/2 of the
    resolution."""
    widths = (table[f"decoder.{i}.weight"][0] for i in (1, 10, 16))
    return [at.e * c * at.px // area for c, area in zip(widths, (64, 16, 4), strict=True)] * 3


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
    return at.e * 16 * at.whole // 64 * (padded(longest) // 4)


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
        + (at.lanes - 1) * tokens * at.dim * at.e  # the source's in other tiles
        + tokens * (3 * at.dim * at.e + 2 * 4 * at.dim // at.heads // 2)
    )
    part = slice_tokens(at.windows)
    forward = part * (2 * at.ffn + at.dim) * at.e
    pairs = at.heads * at.windows**2 * at.slabs
    choice = pairs * (2 * at.e + 3 * 4 + 8)
    seen = 2 * at.slab_tokens * at.dim * at.e + _attending(at, attention)
    return held + max(forward, choice + seen)


def _latents(at: Measures) -> int:
    """Latents of the first chunk, and noise of the one after it."""
    return (6 * at.lanes * at.px + 2 * at.whole) * 16 // 64 * at.e


def _attending(at: Measures, attention: str) -> int:
    """What the way of computing attention needs: gathered has copies of keys and values with their
    places; both have lists of blocks. Estimated, not traced."""
    lists = at.heads * at.windows**2 * at.slabs * 17
    if attention == "gathered":
        return lists + GATHERED_BYTES * 9 // 8
    return lists if attention == "flex" else 0


def _projection_pass(at: Measures, table: Table, slabs: int) -> int:
    """Four frames, the picture's and a tile's unshuffled; features before the second convolution,
    as they are, padded and joined; tokens made before, then all of them, joined."""
    first, second = table["conv1.weight"][0], table["conv2.weight"][0]
    frames = 4 * 3 * (at.whole + at.px) * at.e
    features = (10 * first + second) * at.px // 256 * at.e
    enlarged = 2 * 4 * 3 * at.whole * 4
    latent = at.lanes * at.slab_tokens * at.dim * at.e // 2
    before = (2 * slabs - 1) * latent
    joined = 2 * slabs * latent * (1 + 1 / at.lanes)
    return _latents(at) + int(max(before + max(frames + features, enlarged), joined))


def _small_decoder_pass(at: Measures, table: Table, away: bool) -> int:
    """The source as the net takes it and four images; features at 1/4; at 1/2 those, the step
    before's, both joined, and a result; or at full resolution a band, twice. `away`: of tiles, what
    one remembers."""
    b, c, d = (table[f"decoder.{i}.weight"][0] for i in (10, 16, 22))
    band = min((BAND_ROWS + 2 * HALO) / at.rows, 1)
    values = 4 * 3 + b / 16 + max(5 * c / 4, c / 4 + 2 * d * band)
    brought = sum(small_decoder_frames(at, table)) if away and at.lanes > 1 else 0
    return int(at.px * values * at.e) + brought + _beside_decoding(at, at.e)


def _vae_pass(at: Measures, table: Table, away: bool) -> int:
    """Full resolution: three frames joined, the oldest of them, what is added and the result; at
    1/8 and 1/4 the two frames that one has become; what is finished, at 8 bits. `away`: the other
    two are brought, too."""
    base = table["decoder.head.0.gamma"][0]
    values = (8 if away else 6) * base + 8 * base / 16 + 8 * base / 64
    return int(at.px * values * at.e) + _beside_decoding(at, at.e if at.lanes > 1 else 1)


def _beside_decoding(at: Measures, held: int) -> int:
    """Of the picture: four frames of the source in float32, and `held` bytes for each of their
    values; four that are blended, and the tiles' shares; and a first chunk's latents."""
    latents = 6 * at.lanes * 16 * at.px // 64 * at.e
    blended, shares = (4, 4 * at.lanes * at.px) if at.lanes > 1 else (0, 0)
    return 4 * 3 * at.whole * (4 + held + blended) + shares + latents
