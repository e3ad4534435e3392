"""Small transformers of Wan 2.1 with values by a formula, and the published network beside them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from longtake.nets.wan.block import Settings
from longtake.nets.wan.dit import DiT, Sample
from longtake.nets.wan.keys import named
from longtake.nets.wan.keys_diffusers import DIFFUSERS
from longtake.nets.wan.sizes import DiTConfig
from tests.nets.formula import formula
from tests.nets.oracles import handed, library

T2V = DiTConfig(
    dim=48, heads=4, layers=2, ffn_dim=128, text_dim=20, text_length=16, freq_dim=32
)  # fmt: skip
I2V = DiTConfig(
    dim=72, heads=4, layers=2, ffn_dim=192, enter=36, text_dim=20, text_length=512, freq_dim=32,
    image_dim=40,
)  # fmt: skip


def by_formula(net: nn.Module, seed: int = 0) -> None:
    """Fill the net: norms near 1, matrices scaled by what they sum, biases and modulation small."""
    with torch.no_grad():
        for number, (name, weight) in enumerate(net.named_parameters()):
            values = formula(weight.shape, 1000 * seed + number)
            if name.endswith("modulation"):
                values = values / 3
            elif weight.ndim > 1:
                values = values * (3 / weight[0].numel()) ** 0.5
            else:
                norm = "norm" in name or ".proj.0." in name or ".proj.4." in name
                values = values / 5 + (1 if norm and name.endswith("weight") else 0)
            weight.copy_(values)


def net_of(config: DiTConfig, seed: int = 0) -> DiT:
    net = DiT(config).eval()
    by_formula(net, seed)
    return net


@dataclass(frozen=True)
class Asked:
    """Inputs of one prediction."""

    latents: Tensor
    time: float
    text: Tensor
    image: Tensor | None

    @classmethod
    def by_formula(
        cls,
        config: DiTConfig,
        size: tuple[int, int, int],
        time: float,
        seed: int = 0,
        words: int = 7,
    ) -> Asked:
        image = config.image_dim
        return cls(
            2 * formula((config.enter, *size), seed + 1),
            time,
            2 * formula((words, config.text_dim), seed + 2),
            None if image is None else 2 * formula((257, image), seed + 3),
        )

    def of(self, net: DiT) -> Sample:
        return Sample(self.latents, net.moment(self.time), net.give(self.text, self.image))


def predicted(net: DiT, asked: Iterable[Asked], settings: Settings | None = None) -> list[Tensor]:
    return net([one.of(net) for one in asked], settings or Settings())


# --- the published network -----------------------------------------------------------------------


def published(config: DiTConfig) -> Any:
    """A WanTransformer3DModel of the same sizes; skips where the library is absent."""
    diffusers = library("diffusers")
    return diffusers.WanTransformer3DModel(
        patch_size=config.patch,
        num_attention_heads=config.heads,
        attention_head_dim=config.head_dim,
        in_channels=config.enter,
        out_channels=config.leave,
        text_dim=config.text_dim,
        freq_dim=config.freq_dim,
        ffn_dim=config.ffn_dim,
        num_layers=config.layers,
        eps=config.eps,
        image_dim=config.image_dim,
        added_kv_proj_dim=None if config.image_dim is None else config.dim,
        rope_max_seq_len=64,
    ).eval()


def as_published(net: DiT) -> Any:
    """The same with the net's weights."""
    return handed(net, named(net.config, DIFFUSERS), published(net.config))


def by_published(theirs: Any, asked: list[Asked], length: int) -> Tensor:
    """What it predicts for a batch [B, channels, F, H, W]; the prompts filled up with zeros."""
    text = [nn.functional.pad(a.text, (0, 0, 0, length - len(a.text))) for a in asked]
    images = [a.image for a in asked if a.image is not None]
    made: Tensor = theirs(
        torch.stack([a.latents for a in asked]),
        torch.tensor([a.time for a in asked]),
        torch.stack(text),
        torch.stack(images) if images else None,
        return_dict=False,
    )[0]
    return made


class ExactPhases(nn.Module):
    """Sines and cosines of a time step with phases in float64, as officially; the library has them
    in float32, which is 6e-5 off at step 1000."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, times: Tensor) -> Tensor:
        half = self.dim // 2
        steps = 10000 ** (-torch.arange(half, dtype=torch.float64) / half)
        phases = times.double()[:, None] * steps
        return torch.cat((phases.cos(), phases.sin()), dim=1).float()
