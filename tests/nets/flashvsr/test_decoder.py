"""TCDecoder: official numbers, streams, bands of rows, fused layers."""

from __future__ import annotations

import pytest
import torch

from longtake.nets.flashvsr.decoder import DecoderConfig, DecoderState, TCDecoder, fused
from tests.nets.flashvsr.goldens import SMALL, difference, golden, weights
from tests.nets.formula import by_formula, formula, video


def official(stored) -> TCDecoder:
    net = TCDecoder(DecoderConfig(widths=(32, 16, 12, 8))).eval()
    net.load_state_dict(weights(stored))
    return net


def tiny(widths=(8, 8, 8, 8)) -> TCDecoder:
    net = TCDecoder(DecoderConfig(widths=widths)).eval()
    by_formula(net)
    return net


def stream(net, latents, condition, steps, rows=None) -> torch.Tensor:
    """The whole clip, with as many latents a call as `steps` says."""
    state, made, at, first = DecoderState(), [], 0, 0
    for count in steps:
        frames = 4 * count - (0 if at else 3)
        part = (latents[:, :, at : at + count], condition[:, :, first : first + frames])
        made.append(net(*part, state, rows))
        at, first = at + count, first + frames
    return torch.cat(made, dim=2)


def test_official_images():
    stored, _ = golden("tcdecoder", SMALL)
    net, condition = official(stored), video(stored["clip_u8"], 2)
    for made in (net, fused(net)):
        images = stream(made, stored["latents"], condition, (6, 2))
        assert difference(images[..., ::4, ::4], stored["decode_all"]) <= 1e-4


def test_official_memories_and_clip():
    stored, _ = golden("tcdecoder")
    net, condition = official(stored), video(stored["clip_u8"], 2)
    state = DecoderState()
    net(stored["latents"][:, :, :6], condition[:, :, :21], state)
    assert {f"mem_after_chunk0.{i}" for i in state.past} <= set(stored)
    for number, past in state.past.items():
        assert difference(past, stored[f"mem_after_chunk0.{number}"]) <= 1e-5
    images = stream(net, stored["latents"], condition, (6, 2, 2))
    assert difference(images, stored["decode_all"]) <= 1e-4


def test_latents_per_call_and_other_streams_change_no_bit():
    net = tiny()
    latents = [formula((1, 16, 5, 3, 4), seed) for seed in (1, 2)]
    conditions = [formula((1, 3, 17, 24, 32), seed) for seed in (3, 4)]
    wanted = [stream(net, *both, (5,)) for both in zip(latents, conditions, strict=True)]
    assert not torch.equal(*wanted)
    states, made = [DecoderState(), DecoderState()], [[], []]
    for at in range(5):
        for i in (0, 1):
            frames = slice(max(4 * at - 3, 0), 4 * at + 1)
            part = (latents[i][:, :, at : at + 1], conditions[i][:, :, frames])
            made[i].append(net(*part, states[i]))
    for images, whole in zip(made, wanted, strict=True):
        assert torch.equal(torch.cat(images, dim=2), whole)


@pytest.mark.parametrize("rows", [2, 12, 30, 200])
@pytest.mark.parametrize("merge", [False, True], ids=["plain", "fused"])
def test_bands_change_nothing(rows, merge):
    """But last bits: a library may take another algorithm for a smaller picture."""
    net = tiny((16, 16, 128, 128))  # the official widths where bands are
    net = fused(net) if merge else net
    latents, condition = formula((1, 16, 1, 4, 16), 1), formula((1, 3, 1, 32, 128), 2)
    wanted = stream(net, latents, condition, (1,))
    assert difference(stream(net, latents, condition, (1,), rows), wanted) <= 1e-6


def test_fused_layers_compute_the_same():
    net = tiny((12, 10, 8, 6))
    latents, condition = formula((2, 16, 3, 3, 5), 1), formula((2, 3, 9, 24, 40), 2)
    wanted = stream(net, latents, condition, (3,))
    merged = fused(net)
    assert difference(stream(merged, latents, condition, (2, 1)), wanted) <= 1e-5
    assert torch.equal(stream(net, latents, condition, (3,)), wanted)  # left as it was
    last = merged.to(memory_format=torch.channels_last)
    assert difference(stream(last, latents, condition, (2, 1)), wanted) <= 1e-5


def test_official_names_and_sizes():
    with torch.device("meta"):
        net = TCDecoder(DecoderConfig())
        latents, condition = torch.empty(1, 16, 2, 96, 176), torch.empty(1, 3, 5, 768, 1408)
        images = [stream(x, latents, condition, (1, 1), 128) for x in (net, fused(net))]
    names = {"decoder.1.weight", "decoder.1.bias", "decoder.26.weight", "decoder.26.bias"}
    names |= {f"decoder.{i}.weight" for i in (3, 10, 16, 22, 24)}
    names |= {f"decoder.{i}.conv.weight" for i in (9, 15, 21)}
    names |= {
        f"decoder.{i}.conv.{j}.{what}"
        for i in (5, 6, 7, 11, 12, 13, 17, 18, 19)
        for j in (0, 2, 4)
        for what in ("weight", "bias")
    }
    assert set(net.state_dict()) == names
    assert sum(p.numel() for p in net.parameters()) == 45_338_371
    assert net.decoder[21].conv.weight.shape == (256, 128, 1, 1)
    assert [tuple(x.shape) for x in images] == [(1, 3, 5, 768, 1408)] * 2


def test_wrong_input_is_refused():
    net, latents = tiny(), torch.zeros(1, 16, 2, 3, 4)
    with pytest.raises(ValueError, match=r"\[B, 3, 5, 24, 32\], not \[1, 3, 8, 24, 32\]"):
        net(latents, torch.zeros(1, 3, 8, 24, 32), DecoderState())
    with pytest.raises(ValueError, match="even number of rows, not 3"):
        net(latents, torch.zeros(1, 3, 5, 24, 32), DecoderState(), rows=3)
