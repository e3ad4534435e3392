"""The real nets, small, with values by a formula, and what they are asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from longtake.nets.flashvsr import dit as flashvsr
from longtake.nets.flashvsr.block import DiTConfig
from longtake.nets.flashvsr.state import KVState
from longtake.nets.linear import KINDS, QuantLinear
from longtake.nets.lite import Lite, LiteConfig
from longtake.nets.umt5 import UmT5
from longtake.nets.umt5_needs import UmT5Config
from longtake.nets.wan.block import Settings
from longtake.weights.quantize import quantize
from tests.nets.formula import formula
from tests.nets.wan.dits import I2V, T2V, Asked, by_formula, net_of, predicted

Ask = Callable[[], list[Tensor]]


def wan(layers: int, dtype: torch.dtype, image: bool = False) -> tuple[nn.Module, Ask]:
    """Two samples, as guidance asks them, in chunks."""
    net = net_of(replace(I2V if image else T2V, layers=layers)).to(dtype)
    asked = [Asked.by_formula(net.config, (2, 6, 10), 714.0, seed) for seed in (0, 5)]

    def ask() -> list[Tensor]:
        return predicted(net, asked, Settings(chunk_tokens=32))

    return net, ask


def flash(layers: int, dtype: torch.dtype) -> tuple[nn.Module, Ask]:
    """Two chunks of a film of 8 x 16 tokens, with state between."""
    config = DiTConfig(dim=48, heads=2, layers=layers, ffn_dim=64, text_dim=16, freq_dim=32)
    net = flashvsr.DiT(config).eval().to(dtype)
    by_formula(net)
    with torch.no_grad():
        constants = net.prepare(formula((1, 5, 16), 3))
    net.release()
    chunks = [
        (formula((1, 16, f, 16, 32), f).to(dtype), formula((1, f * 128, 48), f + 1).to(dtype), at)
        for f, at in ((6, 0), (2, 6))
    ]

    def ask() -> list[Tensor]:
        state = KVState(
            layers=layers, windows=2, dim=48, dtype=dtype, device=torch.device("cpu")
        )  # fmt: skip
        settings = flashvsr.Settings(topk_ratio=1.2, local_range=3)
        return [net(x, lq, state, at, constants, settings) for x, lq, at in chunks]

    return net, ask


def lite(layers: int, dtype: torch.dtype) -> tuple[nn.Module, Ask]:
    """Its convolutions have the channels last."""
    net = Lite(LiteConfig(width=8, depth=layers, scales=(2,))).trunk_to(dtype).eval()
    picture = formula((1, 3, 9, 7), 1).abs()
    return net, lambda: [net(picture, 2)]


def text(layers: int, dtype: torch.dtype) -> tuple[nn.Module, Ask]:
    config = UmT5Config(dim=32, layers=layers, heads=2, ffn_dim=48, vocabulary=50)
    net = UmT5(config).to(dtype).eval()
    ids = torch.arange(12).view(1, -1) % 50
    return net, lambda: [net(ids)]


def eight(layers: int, dtype: torch.dtype, kind: str) -> tuple[nn.Module, Ask]:
    """Matrices of the blocks in 8 bits."""
    net, ask = wan(layers, dtype)
    for name, layer in list(net.get_submodule("blocks").named_modules()):
        if isinstance(layer, nn.Linear):
            stored = QuantLinear(layer.in_features, layer.out_features, bias=True, kind=kind)
            values, scales = quantize(layer.weight.detach().float(), kind)
            stored.weight.data, stored.weight_scale.data = values, scales
            stored.bias = layer.bias
            above, _, own = f"blocks.{name}".rpartition(".")
            setattr(net.get_submodule(above), own, stored)
    return net, ask


NETS: dict[str, Callable[[int, torch.dtype], tuple[nn.Module, Ask]]] = {
    "wan": wan,
    "wan from an image": lambda layers, dtype: wan(layers, dtype, image=True),
    **{
        f"wan in {kind}": lambda layers, dtype, kind=kind: eight(layers, dtype, kind)
        for kind in KINDS
    },
    "flashvsr": flash,
    "lite": lite,
    "umt5": text,
}
