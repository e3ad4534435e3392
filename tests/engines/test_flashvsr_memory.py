"""Predicted state and activations are those of the real passes, traced on meta tensors.

Scratch memory of libraries is not in a trace: it is measured on a GPU.
"""

from __future__ import annotations

from collections import deque
from contextlib import nullcontext
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from longtake.core.knobs import settle
from longtake.core.media import Clip
from longtake.core.plan import Footprint
from longtake.core.plugins import find
from longtake.engines import _flashvsr_files as files
from longtake.engines import _flashvsr_memory as memory
from longtake.engines._color_fix import adain
from longtake.engines._flashvsr_frames import padded_size
from longtake.engines._flashvsr_state import Desk, HostHistory, HostKV, ParkedDecoding
from longtake.engines._flashvsr_stream import Model, SmallDecoding, VaeDecoding
from longtake.engines._flashvsr_tiles import Tiles, tiles
from longtake.engines._parts import Parts
from longtake.engines._pixels import Leaving
from longtake.engines.flashvsr import plugin
from longtake.nets.flashvsr.block import DiTConfig
from longtake.nets.flashvsr.decoder import DecoderConfig, TCDecoder, fused
from longtake.nets.flashvsr.dit import DiT, Settings
from longtake.nets.flashvsr.projector import Projector, ProjectorConfig
from longtake.nets.flashvsr.state import KVState
from longtake.nets.wan.causal import History, arrange
from longtake.nets.wan.vae import VaeConfig, WanVae
from longtake.offload import _locked
from tests.engines import tiny_flashvsr as tiny
from tests.engines.meta_trace import peak

META = torch.device("meta")
DTYPE = torch.bfloat16


def official(mode: str, layers: int) -> files.Shapes:
    """The official sizes, with fewer blocks in the transformer, for time's sake."""
    tables = {f.role: f.table() for f in files.catalog.model("flashvsr-v1.1").files}
    transformer = {
        key: shape for key, shape in tables["transformer"].items()
        if not key.startswith("blocks.") or int(key.split(".")[1]) < layers
    }  # fmt: skip
    return files.Shapes(
        transformer=transformer, projection=tables["projection"],
        decoder=tables["decoder" if mode == "tiny" else "vae"], prompt=tables["prompt"], heads=12,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("weights") / "flashvsr-v1.1")


def on_meta(mode: str, grid: Tiles, state: str, at: memory.Measures, shapes: files.Shapes) -> Model:
    """The model without values; attention gives a tensor of the right shape."""
    wide, tall = grid.size
    desks: list[Desk] = []

    def attend(queries: Tensor, keys: Tensor, values: Tensor, selection: object) -> Tensor:
        return torch.empty_like(queries)

    def history() -> History:
        if state == "device":
            return {}
        return HostHistory(META, memory.vae_frames(at, shapes.decoder))

    small: Any = SmallDecoding
    if mode == "tiny" and state == "host" and at.lanes > 1:
        sizes = memory.small_decoder_frames(at, shapes.decoder)
        small = partial(ParkedDecoding, META, sizes)

    def kv() -> KVState:
        about: Any = {"layers": at.layers, "windows": at.windows, "dim": 1536, "dtype": DTYPE}
        if state == "device":
            return KVState(**about, device=META)
        if not desks:
            desks.append(Desk((at.slabs, at.slab_tokens, 1536), DTYPE, META))
        return HostKV(desk=desks[0], **about, device=META)

    with META:
        dit = DiT(DiTConfig(layers=at.layers))
        projector = Projector(ProjectorConfig(variant="causal"))
        tiny_one = fused(TCDecoder(DecoderConfig()))
        decoder = tiny_one if mode == "tiny" else WanVae(VaeConfig(encoder=False))
        parts = Parts({"projector": projector, "dit": dit, "decoder": decoder}).to(DTYPE)
        arrange(projector)
        arrange(decoder)
        constants = dit.prepare(torch.empty(1, 512, 4096, dtype=DTYPE))
    dit.release()
    return Model(
        parts=parts, constants=constants,
        settings=Settings(
            topk_ratio=1.0, attend=attend, slice_tokens=memory.slice_tokens(at.windows)
        ),
        kv=kv, decoding=small if mode == "tiny" else partial(VaeDecoding, history),
        noise=lambda window: lambda latents: torch.empty(
            1, 16, len(latents), tall // 8, wide // 8, dtype=DTYPE, device=META
        ),
        enlarge=lambda frame: torch.empty(1, 3, tall, wide, device=META),
        fix=adain, dtype=DTYPE, size=grid.size, bits=8, tiles=grid,
    )  # fmt: skip


SIZES = [(1408, 768), (960, 540), (1280, 720), (1920, 1080), (2560, 1440), (3840, 2160)]
PLACES = tuple(x for x in plugin.grid(settle(plugin.knobs, {})).placements if x[0] != "ring")
CELLS = [("tiny", size, PLACES[-1], 8) for size in SIZES]  # so many that the transformer counts
CELLS += [("tiny", (1408, 768), PLACES[0], 2), ("full", (1408, 768), PLACES[0], 2)]
CELLS += [("tiny", (960, 540), place, 8) for place in PLACES[1:-1]]
CELLS += [("full", (960, 540), PLACES[-1], 8), ("full", (1920, 1080), PLACES[-1], 3)]


@pytest.mark.parametrize(
    ("mode", "size", "place", "layers", "tile"),
    [(*cell, 0) for cell in CELLS]
    + [
        ("tiny", (1920, 1080), PLACES[-1], 8, 1024),
        ("tiny", (960, 540), PLACES[0], 8, 640),
        ("full", (1920, 1080), PLACES[-1], 2, 1152),
    ],
)
def test_a_stream_needs_what_was_said(folder, monkeypatch, mode, size, place, layers, tile) -> None:
    """On the device: what lies on the host is not counted, weights are where they take turns."""
    offload, state = place
    monkeypatch.setattr(Leaving, "arrive", lambda self: None)
    monkeypatch.setattr(Leaving, "_taken", lambda self, made: None)  # to the host
    monkeypatch.setattr(_locked, "blocks", on_the_host)
    plan = tiny.planned(folder, mode=mode, scale=Fraction(2), tile=tile)
    recipe = replace(plan.recipe, numerics=replace(plan.recipe.numerics, dtype="bfloat16"))
    geometry, shapes = replace(plan.geometry, target=size), official(mode, layers)
    placement = replace(plan.placement, devices=("cuda:0",), offload=offload, state=state)
    said = memory.footprint(geometry, recipe, placement, shapes, Footprint())
    at = memory.measures(geometry, recipe, shapes)
    model = on_meta(mode, tiles(padded_size(size), tile), state, at, shapes)
    frames = [Clip(pixels=np.zeros((22, 4, 4, 3), np.uint8), start=0)]
    swap = offload == "swap"
    with find("offload", "swap").attach(model.parts, "meta") if swap else nullcontext():
        traced = peak(lambda: deque(model.upscale(frames), maxlen=0))
    needed = said.state + said.activations
    if swap:
        needed += said.weights - memory._constants(shapes, 2)
    assert traced <= needed <= 1.01 * traced


def on_the_host(laid: _locked.Layout, locked: bool) -> list[Tensor]:
    """Memory that is not counted."""
    with _disable_current_modes():
        return [torch.empty(used, dtype=torch.uint8, device=META) for used in laid.used]
