"""Predicted state and activations are those of the real passes, traced on meta tensors at full size.

Scratch memory of libraries is not in a trace: it is measured on a GPU.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from longtake.core.media import Clip
from longtake.core.plan import Footprint
from longtake.engines import _flashvsr_files as files
from longtake.engines import _flashvsr_memory as memory
from longtake.engines import _flashvsr_stream as stream
from longtake.engines._color_fix import adain
from longtake.engines._flashvsr_frames import padded_size
from longtake.engines._flashvsr_stream import Model, Parts, SmallDecoding, VaeDecoding
from longtake.nets.flashvsr.block import DiTConfig
from longtake.nets.flashvsr.decoder import DecoderConfig, TCDecoder
from longtake.nets.flashvsr.dit import DiT, Settings
from longtake.nets.flashvsr.projector import Projector, ProjectorConfig
from longtake.nets.flashvsr.state import KVState
from longtake.nets.wan.causal import arrange
from longtake.nets.wan.vae import VaeConfig, WanVae
from tests.engines import tiny_flashvsr as tiny
from tests.engines.meta_trace import peak

META = torch.device("meta")
DTYPE = torch.bfloat16
LAYERS = 3


def official(mode: str) -> files.Shapes:
    """The official sizes, with fewer blocks in the transformer, for time's sake."""
    tables = {f.role: f.table() for f in files.catalog.model("flashvsr-v1.1").files}
    transformer = {
        key: shape for key, shape in tables["transformer"].items()
        if not key.startswith("blocks.") or int(key.split(".")[1]) < LAYERS
    }  # fmt: skip
    return files.Shapes(
        transformer=transformer, projection=tables["projection"],
        decoder=tables["decoder" if mode == "tiny" else "vae"], prompt=tables["prompt"], heads=12,
    )  # fmt: skip


def on_meta(mode: str, size: tuple[int, int]) -> Model:
    """The model without values; attention gives a tensor of the right shape."""
    wide, tall = padded_size(size)

    def attend(queries: Tensor, keys: Tensor, values: Tensor, selection: object) -> Tensor:
        return torch.empty_like(queries)

    with META:
        dit = DiT(DiTConfig(layers=LAYERS))
        projector = Projector(ProjectorConfig(variant="causal"))
        decoder = TCDecoder(DecoderConfig()) if mode == "tiny" else WanVae(VaeConfig(encoder=False))
        parts = Parts({"projector": projector, "dit": dit, "decoder": decoder}).to(DTYPE)
        arrange(projector)
        arrange(decoder)
        constants = dit.prepare(torch.empty(1, 512, 4096, dtype=DTYPE))
    return Model(
        parts=parts, constants=constants,
        settings=Settings(topk_ratio=1.0, attend=attend, slice_tokens=memory.SLICE_TOKENS),
        kv=partial(
            KVState, layers=LAYERS, windows=wide * tall // 128**2, dim=1536, dtype=DTYPE,
            device=META,
        ),
        decoding=SmallDecoding if mode == "tiny" else VaeDecoding,
        noise=lambda window: lambda latents: torch.empty(
            1, 16, len(latents), tall // 8, wide // 8, dtype=DTYPE, device=META
        ),
        enlarge=lambda frame: torch.empty(1, 3, tall, wide, device=META),
        fix=adain, dtype=DTYPE, size=size, bits=8,
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["tiny", "full"])
@pytest.mark.parametrize("size", [(1408, 768), (1920, 1080)])
def test_a_stream_needs_what_was_said(tmp_path: Path, monkeypatch, mode, size) -> None:
    model = on_meta(mode, size)
    monkeypatch.setattr(stream, "to_pixels", lambda floats, made, number: None)
    frames = [Clip(pixels=np.zeros((33, 4, 4, 3), np.uint8), start=0)]
    traced = peak(lambda: deque(model.upscale(frames), maxlen=0))
    plan = tiny.planned(tiny.make(tmp_path / "flashvsr-v1.1"), mode=mode, scale=Fraction(2))
    recipe = replace(plan.recipe, numerics=replace(plan.recipe.numerics, dtype="bfloat16"))
    geometry = replace(plan.geometry, target=size)
    said = memory.footprint(geometry, recipe, official(mode), Footprint())
    assert traced <= said.state + said.activations <= 1.01 * traced
