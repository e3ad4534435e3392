"""FlashVSR with tiny nets in files of the official names; their values follow from a formula."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file
from torch import Tensor, nn

from longtake.core.plan import Plan
from longtake.core.plugins import find
from longtake.engines._flashvsr_stream import Model
from longtake.engines.flashvsr import plugin
from longtake.nets.flashvsr.block import DiTConfig
from longtake.nets.flashvsr.decoder import DecoderConfig, TCDecoder
from longtake.nets.flashvsr.dit import DiT
from longtake.nets.flashvsr.projector import Projector, ProjectorConfig
from longtake.nets.wan.vae import VaeConfig, WanVae
from longtake.weights import catalog, manifest
from longtake.weights.manifest import Entry, sha256
from tests.nets.formula import by_formula, formula
from tests.plans import a_plan, an_info

HEADS, DIM, TEXT = 2, 24, 8


def make(folder: Path, version: str = "1.1", layers: int = 2) -> Path:
    """Write the files into a new folder; the manifest says what they are."""
    model = catalog.model(f"flashvsr-v{version}")
    nets: dict[str, nn.Module] = {
        "transformer": DiT(
            DiTConfig(dim=DIM, heads=HEADS, layers=layers, ffn_dim=32, text_dim=TEXT)
        ),
        "projection": Projector(ProjectorConfig(variant="causal", hidden=(6, 8), dim=DIM)),
        "decoder": TCDecoder(DecoderConfig(widths=(8, 6, 4, 4))),
        "vae": WanVae(VaeConfig(base=2)),
    }
    folder.mkdir(parents=True)
    for role, net in nets.items():
        by_formula(net)
        for name, weight in net.named_parameters():
            if "norm" in name and name.endswith("weight"):
                weight.data.add_(1)
        state = {key: value.contiguous() for key, value in net.state_dict().items()}
        _store(folder, model, role, state)
    _store(folder, model, "prompt", {"prompt": formula((1, 5, TEXT), 1)})
    return folder


def _store(folder: Path, model: catalog.Model, role: str, tensors: dict[str, Tensor]) -> None:
    path = folder / model.file(role).converted
    save_file(tensors, path, {"heads": str(HEADS)} if role == "transformer" else None)
    entry = Entry(
        model=model.name, role=role, sha256=sha256(path), bytes=0, mtime_ns=0, source="a test",
        trusted="first use",
    )  # fmt: skip
    manifest.add(folder, path.name, manifest.stamped(entry, path))


def planned(
    folder: Path,
    size: tuple[int, int] = (48, 40),
    scale: Fraction = Fraction(2),
    bits: int = 8,
    frames: int = 100,
    **knobs: Any,
) -> Plan:
    """A plan for a film of that size, in float32 on a CPU."""
    task = {
        "engine": "flashvsr", "scale": scale,
        "set": {"folder": str(folder), "dtype": "float32", **knobs},
    }  # fmt: skip
    info = an_info(width=size[0], height=size[1], chroma="444", frames=frames)
    plan = a_plan(task, info)
    output = replace(plan.recipe.output, bits=bits)
    placement = replace(plan.placement, threads=1)
    return replace(plan, placement=placement, recipe=replace(plan.recipe, output=output))


@contextmanager
def opened(plan: Plan) -> Iterator[Model]:
    with plugin.open(plan, "cpu", find("offload", plan.placement.offload)) as model:
        yield model


def film(frames: int, size: tuple[int, int] = (48, 40), seed: int = 0) -> np.ndarray:
    """A picture that moves, [T, H, W, 3] uint8."""
    width, height = size
    rng = np.random.default_rng(seed)
    still = rng.integers(0, 256, (-(-height // 4), -(-width // 4), 3), dtype=np.uint8)
    still = still.repeat(4, 0).repeat(4, 1)[:height, :width]
    return np.stack([np.roll(still, (i, 2 * i), (0, 1)) for i in range(frames)])
