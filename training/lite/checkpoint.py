"""Files of the training: the whole state of a run, and the weights that ship."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from longtake.nets.lite import Lite, LiteConfig
from training.lite.network import merge

WEIGHTS_VERSION = "1"


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Replace the file at once, so that an interrupted run leaves the old one."""
    fresh = path.with_suffix(".new")
    torch.save(state, fresh)
    fresh.replace(path)


def read_checkpoint(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def load_plain(path: Path) -> Lite:
    """The net of a file that `export` wrote, float32."""
    with safe_open(path, "pt") as stored:
        sizes = json.loads(stored.metadata()["config"])
        tensors = {name: stored.get_tensor(name).float() for name in stored.keys()}  # noqa: SIM118
    sizes["scales"] = tuple(sizes["scales"])
    net = Lite(LiteConfig(**sizes))
    net.load_state_dict(tensors)
    return net


def export(net: Lite, path: Path, steps: int) -> None:
    """Write a trained net as a plain one. float16, but the bases float32: their sums decide the
    brightness."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in merge(net).state_dict().items():
        kept = torch.float32 if name.startswith("bases.") else torch.float16
        tensors[name] = tensor.detach().to("cpu", kept).contiguous()
    metadata = {
        "model": "lite",
        "version": WEIGHTS_VERSION,
        "config": json.dumps(asdict(net.config)),
        "steps": str(steps),
        "licence": "Apache-2.0",
    }
    save_file(tensors, path, metadata=metadata)
