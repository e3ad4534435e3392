"""Other libraries' nets, as what ours are compared with; and tiny nets of formula weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from longtake.nets.names import Names
from tests.nets.formula import by_formula

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "wan"

Net = TypeVar("Net", bound=nn.Module)


def filled(net: Net) -> Net:
    """The net with formula weights; norms about 1."""
    with torch.no_grad():
        by_formula(net)
        for name, weight in net.named_parameters():
            if weight.ndim == 1 and "norm" in name and name.endswith("weight"):
                weight.add_(1)
    return net.eval()


def handed(net: nn.Module, names: Names, other: Net) -> Net:
    """`other` with the weights of `net`, by the table from ours to theirs; all of them."""
    shapes = {key: value.shape for key, value in other.state_dict().items()}
    state = {}
    for ours, value in net.state_dict().items():
        parts = value.chunk(len(names[ours])) if len(names[ours]) > 1 else [value]
        for theirs, part in zip(names[ours], parts, strict=True):
            state[theirs] = part.reshape(shapes[theirs]).clone()
    lacking = other.load_state_dict(state, strict=False)
    assert not lacking.unexpected_keys
    return other.eval()


def stored(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A golden that an oracle made: tests/golden/make_wan_nets.py."""
    path = GOLDEN / f"{name}.safetensors"
    with safe_open(path, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return tensors, {k: json.loads(v) for k, v in (file.metadata() or {}).items()}


def library(name: str) -> Any:
    """The module, or the test is skipped."""
    return pytest.importorskip(
        name, reason=f"{name} is not installed: only its goldens are checked"
    )
