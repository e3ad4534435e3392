"""Predicted bytes of CLIP's tower are those of the net, counted on meta tensors."""

from __future__ import annotations

from dataclasses import asdict
from math import prod

import pytest
import torch

from longtake.core.blocks import ALIGNED
from longtake.nets import clip_vision_needs
from longtake.nets.clip_vision import ClipVision
from longtake.nets.clip_vision_needs import VIT_H, ClipConfig
from tests.engines.meta_trace import peak
from tests.nets.on_meta import attending, close, flash

META = torch.device("meta")
SMALL = ClipConfig(image=112, dim=320, heads=4, ffn_dim=320, layers=2)


def net_of(sizes: ClipConfig, dtype: str) -> ClipVision:
    with META:
        return ClipVision(ClipConfig(**asdict(sizes))).to(getattr(torch, dtype))


def test_the_sizes_are_those_of_the_net() -> None:
    assert ClipConfig(**{key: getattr(ClipConfig(), key) for key in asdict(VIT_H)}) == VIT_H
    assert VIT_H.tokens == ClipConfig().tokens


@pytest.mark.parametrize("sizes", [VIT_H, SMALL], ids=["vit-h", "small"])
def test_tensors_and_weights_are_those_of_the_net(sizes: ClipConfig) -> None:
    state = net_of(sizes, "float16").state_dict()
    assert clip_vision_needs.tensors(sizes) == {key: tuple(x.shape) for key, x in state.items()}
    made = clip_vision_needs.weights(sizes, "float16")
    exactly = sum(x.nbytes for x in state.values())
    assert exactly <= made.total <= exactly + ALIGNED * len(state)


def test_size_of_the_published_tower() -> None:
    """Which has one block more, and the norm and the head behind it: 0.631 billion values."""
    values = sum(map(prod, clip_vision_needs.tensors(VIT_H).values()))
    block = sum(map(prod, clip_vision_needs.block_tensors(VIT_H).values()))
    assert values + block + 2 * VIT_H.dim == pytest.approx(0.631e9, rel=1e-3)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float16"])
@pytest.mark.parametrize(
    ("sizes", "samples"), [(ClipConfig(layers=2), 1), (ClipConfig(layers=2), 4), (SMALL, 2)]
)
def test_activations_are_those_of_the_real_pass(
    sizes: ClipConfig, samples: int, dtype: str
) -> None:
    net = net_of(sizes, dtype)
    image = torch.empty(samples, 3, sizes.image, sizes.image, device=META)
    with attending(flash):
        traced = peak(lambda: net(image))
    said = clip_vision_needs.activations(sizes, dtype, samples=samples)
    assert close(said, traced), (said, traced)
