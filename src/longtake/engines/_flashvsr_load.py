"""From a plan to an open FlashVSR: nets from their files, and what streams take from the recipe."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Final, Literal

import torch
from torch import nn

from longtake.core.errors import Usage
from longtake.core.media import Knobs
from longtake.core.plan import Plan
from longtake.engines import _flashvsr_files as stored
from longtake.engines._color_fix import adain, wavelet
from longtake.engines._flashvsr_files import Files, Shapes
from longtake.engines._flashvsr_frames import CELL, Front, Window, padded_size
from longtake.engines._flashvsr_memory import (
    measures,
    slice_tokens,
    small_decoder_frames,
    vae_frames,
)
from longtake.engines._flashvsr_schedule import STEP, padded
from longtake.engines._flashvsr_state import Desk, HostHistory, HostKV, ParkedDecoding
from longtake.engines._flashvsr_stream import (
    Decode,
    Draw,
    Fix,
    Model,
    SmallDecoding,
    VaeDecoding,
    no_fix,
)
from longtake.engines._flashvsr_tiles import tiles
from longtake.engines._noise import noise
from longtake.engines._parts import Parts
from longtake.nets.flashvsr import backends
from longtake.nets.flashvsr.attention import BLOCK
from longtake.nets.flashvsr.block import DiTConfig
from longtake.nets.flashvsr.decoder import DecoderConfig, TCDecoder, fused
from longtake.nets.flashvsr.dit import Constants, DiT, Settings
from longtake.nets.flashvsr.projector import Projector, ProjectorConfig
from longtake.nets.flashvsr.state import KVState, ring_slabs
from longtake.nets.wan.causal import arrange
from longtake.nets.wan.vae import VaeConfig, WanVae
from longtake.weights import reader
from longtake.weights.tables import PROMPT, Table

LONGEST_OFFICIAL: Final = 1000
"""Frames of a stream whose noise is drawn at once."""
_OFFICIAL_AREA: Final = 768 * 1280
_FIXES: Final[dict[str, Fix]] = {"adain": adain, "wavelet": wavelet, "none": no_fix}


def load(plan: Plan, device: str, home: str) -> Model:
    """The model, its nets at `home`; `device` makes what follows from the prompt, always. Raises
    BadInput for files that do not fit, Usage for an attention that cannot run."""
    recipe, knobs = plan.recipe, plan.recipe.knobs
    place, dtype = torch.device(device), getattr(torch, recipe.numerics.dtype)
    attend = _attend(str(knobs["attention"]), place)
    files = stored.find(knobs)
    shapes = stored.shapes(files, knobs)
    dit, constants = _transformer(files, shapes, dtype, device, home)
    parts = Parts({
        "projector": _projector(files, shapes, knobs, dtype, home),
        "dit": dit,
        "decoder": _decoder(files, shapes, knobs, dtype, home),
    })  # fmt: skip
    size = plan.geometry.target
    wide, tall = padded_size(size)
    grid = tiles((wide, tall), int(knobs["tile"]))
    width, height = grid.tile
    windows = width // CELL * (height // CELL)
    config = dit.config
    return Model(
        parts=parts,
        constants=constants,
        settings=Settings(
            topk_ratio=float(knobs["sparse_ratio"]) * _OFFICIAL_AREA / (width * height),
            local_range=int(knobs["local_range"]),
            attend=attend,
            slice_tokens=slice_tokens(windows),
        ),
        kv=_keys_and_values(plan, config, windows, dtype, place),
        decoding=_decoding(plan, shapes, place),
        noise=_noise(plan, (config.channels, tall // 8, wide // 8), place, dtype),
        enlarge=Front(
            size=size, device=device, dtype=dtype, official=knobs["front_end"] == "official"
        ),
        fix=_FIXES[str(knobs["color_fix"])],
        dtype=dtype,
        size=size,
        bits=recipe.output.bits,
        tiles=grid,
    )  # fmt: skip


# --- nets ----------------------------------------------------------------------------------------


def _attend(name: str, device: torch.device) -> backends.Attend:
    why = backends.unusable(name, device)
    if why:
        raise Usage(f"attention={name}: {why}.")
    return backends.BACKENDS[name]


def _transformer(
    files: Files, shapes: Shapes, dtype: torch.dtype, device: str, home: str
) -> tuple[DiT, Constants]:
    """The net at `home`. What only the prompt goes through is loaded first and gone before: among
    the rest it would leave holes in the device's memory."""
    table = shapes.transformer
    dim, channels, *patch = table["patch_embedding.weight"]
    config = DiTConfig(
        dim=dim,
        heads=shapes.heads,
        layers=stored.layers(table),
        ffn_dim=table["blocks.0.ffn.0.weight"][0],
        channels=channels,
        patch=(patch[0], patch[1], patch[2]),
        text_dim=table["text_embedding.0.weight"][1],
        freq_dim=table["time_embedding.0.weight"][1],
    )

    def build(dropping: Callable[[DiT], None]) -> DiT:
        net = DiT(config)
        dropping(net)
        return net

    with torch.device("meta"):
        whole = set(DiT(config).state_dict())
    load = partial(
        reader.load, path=files.transformer, dtype=dtype, unused=lambda key: key in whole
    )
    first = load(lambda: build(DiT.keep_prompt), device=device)
    with reader.open_weights(files.prompt) as weights, torch.inference_mode():
        constants = first.prepare(weights.tensor(PROMPT).to(device=device, dtype=dtype))
    del first
    return load(lambda: build(DiT.release), device=home), constants


def _projector(
    files: Files, shapes: Shapes, knobs: Knobs, dtype: torch.dtype, device: str
) -> Projector:
    table = shapes.projection
    variant: Literal["buffer", "causal"] = "buffer" if knobs["version"] == "1.0" else "causal"
    config = ProjectorConfig(
        variant=variant,
        patch=math.isqrt(table["conv1.weight"][1] // 3),
        hidden=(table["conv1.weight"][0], table["conv2.weight"][0]),
        dim=table["linear_layers.0.weight"][0],
        layers=_count(table, "linear_layers."),
    )
    net = reader.load(lambda: Projector(config), files.projection, dtype=dtype, device=device)
    arrange(net)
    return net


def _decoder(
    files: Files, shapes: Shapes, knobs: Knobs, dtype: torch.dtype, device: str
) -> nn.Module:
    table, path = shapes.decoder, files.decoder
    net: nn.Module
    if knobs["mode"] == "full":
        vae = VaeConfig(base=table["decoder.head.0.gamma"][0], encoder=False)
        net = reader.load(
            lambda: WanVae(vae), path, dtype=dtype, device=device, unused=stored.only_encodes
        )
    else:
        first, *others = (table[f"decoder.{i}.weight"][0] for i in (1, 10, 16, 22))
        config = DecoderConfig(widths=(first, others[0], others[1], others[2]))
        net = reader.load(
            lambda: TCDecoder(config), path, dtype=dtype, device=device,
            unused=lambda key: not key.startswith("decoder."),
        )  # fmt: skip
        net = fused(net)
    arrange(net)
    return net


def _count(table: Table, prefix: str) -> int:
    return sum(key.startswith(prefix) and key.endswith(".weight") for key in table)


# --- what streams start with ---------------------------------------------------------------------


def _keys_and_values(
    plan: Plan, config: DiTConfig, windows: int, dtype: torch.dtype, device: torch.device
) -> Callable[[], KVState]:
    ratio = int(plan.recipe.knobs["kv_ratio"])
    make: Callable[..., KVState] = KVState
    if plan.placement.state == "host":
        shape = ring_slabs(ratio), windows * BLOCK, config.dim
        make = partial(HostKV, desk=Desk(shape, dtype, device))
    return partial(
        make, layers=config.layers, windows=windows, dim=config.dim, kv_ratio=ratio, dtype=dtype,
        device=device,
    )  # fmt: skip


def _decoding(plan: Plan, shapes: Shapes, device: torch.device) -> Callable[[], Decode]:
    away, at = plan.placement.state == "host", measures(plan.geometry, plan.recipe, shapes)
    if plan.recipe.knobs["mode"] == "full":
        history = partial(HostHistory, device, vae_frames(at, shapes.decoder))
        return partial(VaeDecoding, history) if away else VaeDecoding
    if away and at.lanes > 1:
        return partial(ParkedDecoding, device, small_decoder_frames(at, shapes.decoder))
    return SmallDecoding


def _noise(
    plan: Plan, cell: tuple[int, int, int], device: torch.device, dtype: torch.dtype
) -> Callable[[Window], Draw]:
    """`cell`: channels, rows and columns of a latent."""
    if plan.recipe.knobs["noise"] == "official":
        return partial(_official_noise, plan.recipe.seed, cell, device, dtype)
    return partial(_place_noise, plan.recipe.seed, cell, device, dtype)


def _place_noise(
    seed: int,
    cell: tuple[int, int, int],
    device: torch.device,
    dtype: torch.dtype,
    window: Window,
) -> Draw:
    channels, height, width = cell
    origin = window.start // STEP  # a lead is a multiple of whole chunks: cut or not, it is one

    def draw(latents: range) -> torch.Tensor:
        frames = range(origin + latents.start, origin + latents.stop)
        return noise(seed, frames, channels, range(height), range(width), device).to(dtype)

    return draw


def _official_noise(
    seed: int,
    cell: tuple[int, int, int],
    device: torch.device,
    dtype: torch.dtype,
    window: Window,
) -> Draw:
    """One draw for the whole stream, whose length is needed for it: all of its frames wait."""
    window.reach(LONGEST_OFFICIAL + 1)
    if window.count > LONGEST_OFFICIAL:
        raise Usage(
            f"noise=official draws the noise of a stream at once, of at most {LONGEST_OFFICIAL} "
            f"frames; this one, from frame {window.start}, is longer. Take noise=position."
        )
    channels, height, width = cell
    latents = (padded(window.count) - 1) // STEP
    generator = torch.Generator(device).manual_seed(seed)
    whole = torch.randn(
        (1, channels, latents, height, width), generator=generator, device=device, dtype=dtype
    )
    return lambda wanted: whole[:, :, wanted.start : wanted.stop]
