"""The projection of the low-quality film: official numbers, both variants, streams."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from longtake.nets.flashvsr.projector import Projector, ProjectorConfig, ProjectorState
from longtake.nets.wan.causal import arrange
from tests.nets.flashvsr.goldens import difference, golden, weights
from tests.nets.formula import by_formula, formula, video

VARIANTS = ("buffer", "causal")


def tiny(variant) -> Projector:
    net = Projector(ProjectorConfig(variant=variant, hidden=(8, 12), dim=16, layers=2)).eval()
    by_formula(net)
    return net


def stream(net: Projector, clip: torch.Tensor, step: int) -> list[torch.Tensor]:
    """The tokens of each linear layer for the whole clip, `step` frames a call."""
    state = net.begin(clip[:, :, :1])
    calls = [net(clip[:, :, i : i + step], state) for i in range(1, clip.shape[2], step)]
    return [torch.cat(layer, dim=1) for layer in zip(*calls, strict=True)]


@pytest.mark.parametrize(
    ("variant", "name"), [("buffer", "lq_proj_buffer_v10"), ("causal", "lq_proj_causal_v11")]
)
def test_official_tokens(variant, name):
    stored, _ = golden("lq_proj_buffer_v10")
    wanted, _ = golden(name)
    config = ProjectorConfig(variant=variant, hidden=(16, 40), dim=128, layers=2)
    net = Projector(config).eval()
    net.load_state_dict(weights(stored))
    made = stream(net, video(stored["clip_u8"], 2), 4)
    for layer, tokens in enumerate(made):
        official = torch.cat([wanted[f"out{n}.layer{layer}"] for n in range(10)], dim=1)
        assert difference(tokens, official) <= 1e-5


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_same_as_whole_conv3d(variant):
    """The definition, over all frames at once and with the library's own Conv3d."""

    def activated(conv, norm, x, front):
        around = F.pad(torch.cat((front, x), dim=2), (1, 1, 1, 1, 0, 0), mode="replicate")
        y = F.conv3d(around, conv.weight, conv.bias, conv.stride)
        return F.silu(y / y.norm(dim=1, keepdim=True) * y.shape[1] ** 0.5 * norm.gamma)

    net, clip = tiny(variant), formula((1, 3, 13, 48, 32), 5)
    cells = torch.stack([F.pixel_unshuffle(x, 16) for x in clip.unbind(2)], dim=2)
    groups = [cells[:, :, i : i + 4] for i in range(1, 13, 4)]
    before = cells[:, :, :1].expand(-1, -1, 2, -1, -1)
    begun = cells[:, :, :1].expand(-1, -1, 4, -1, -1)
    felt = activated(net.conv1, net.norm1, begun, before)
    before, latents = begun[:, :, 2:], []
    for group in groups:
        buffered = variant == "buffer"
        y = activated(net.conv1, net.norm1, group, group[:, :, 2:] if buffered else before)
        latents.append(activated(net.conv2, net.norm2, y, y if buffered else felt))
        before, felt = group[:, :, 2:], y
    features = torch.cat(latents, dim=2).flatten(2).transpose(1, 2)
    for made, linear in zip(stream(net, clip, 4), net.linear_layers, strict=True):
        assert difference(made, linear(features)) <= 1e-5


@pytest.mark.parametrize("variant", VARIANTS)
def test_frames_per_call_and_other_streams_change_no_bit(variant):
    net = tiny(variant)
    clips = [formula((1, 3, 17, 32, 48), seed) for seed in (1, 2)]
    wanted = [stream(net, clip, 16) for clip in clips]
    states = [net.begin(clip[:, :, :1]) for clip in clips]
    made = [[], []]
    for i in range(1, 17, 4):
        for clip, state, calls in zip(clips, states, made, strict=True):
            calls.append(net(clip[:, :, i : i + 4], state)[1])
    for calls, layers in zip(made, wanted, strict=True):
        assert torch.equal(torch.cat(calls, dim=1), layers[1])


def test_only_causal_looks_at_the_group_before():
    clip = formula((1, 3, 9, 32, 32), 3)
    other = torch.cat((clip[:, :, :5].flip(3), clip[:, :, 5:]), dim=2)
    for variant in VARIANTS:
        net = tiny(variant)
        last = [stream(net, x, 4)[0][:, -4:] for x in (clip, other)]
        assert torch.equal(*last) == (variant == "buffer")


def test_arranged_weights_are_the_same_net():
    net, clip = tiny("causal"), formula((1, 3, 9, 32, 48), 4)
    wanted, before = stream(net, clip, 4), {k: v.clone() for k, v in net.state_dict().items()}
    arrange(net)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(difference(x, y) <= 1e-6 for x, y in zip(stream(net, clip, 4), wanted, strict=True))


def test_official_names_and_sizes():
    with torch.device("meta"):
        net = Projector(ProjectorConfig(variant="causal"))
        tokens = stream(net, torch.empty(1, 3, 9, 768, 1408), 8)
    assert {k: tuple(v.shape) for k, v in net.state_dict().items()} == {
        "conv1.weight": (2048, 768, 4, 3, 3), "conv1.bias": (2048,), "norm1.gamma": (2048, 1, 1, 1),
        "conv2.weight": (3072, 2048, 4, 3, 3), "conv2.bias": (3072,),
        "norm2.gamma": (3072, 1, 1, 1),
        "linear_layers.0.weight": (1536, 3072), "linear_layers.0.bias": (1536,),
    }  # fmt: skip
    assert sum(p.numel() for p in net.parameters()) == 287_845_888
    assert [tuple(x.shape) for x in tokens] == [(1, 2 * 48 * 88, 1536)]


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="v2"):
        ProjectorConfig(variant="v2")
    net = tiny("causal")
    for shape in ((1, 3, 3, 32, 32), (1, 3, 4, 40, 32)):
        with pytest.raises(ValueError, match="multiple"):
            net(torch.zeros(shape), ProjectorState())
    with pytest.raises(ValueError, match="1 frame, not 4"):
        net.begin(torch.zeros(1, 3, 4, 32, 32))
