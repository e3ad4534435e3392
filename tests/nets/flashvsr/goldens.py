"""Outputs of the official code, kept as files: a few here, all of them in the design room."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

ROOT = Path(__file__).resolve().parents[3]
SMALL = ROOT / "tests" / "golden" / "flashvsr"
FULL = ROOT.parent / "shared" / "golden" / "flashvsr"


def golden(name: str, folder: Path = FULL) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors (float16 as float32, for it was exact) and metadata; skips where they are absent."""
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        pytest.skip(f"the official outputs are not here: {path}")
    with safe_open(path, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
    halves = {key for key, value in tensors.items() if value.dtype == torch.float16}
    return {k: v.float() if k in halves else v for k, v in tensors.items()}, metadata


def weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict among the tensors of a golden file."""
    return {k.removeprefix("sd."): v for k, v in tensors.items() if k.startswith("sd.")}


def difference(made: Tensor, wanted: Tensor) -> float:
    """The largest error, relative to the largest value wanted."""
    assert made.shape == wanted.shape
    return float((made.double() - wanted.double()).abs().max() / wanted.double().abs().max())
