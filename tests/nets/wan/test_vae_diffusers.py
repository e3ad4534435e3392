"""The VAE of Wan 2.1 against the diffusers library's, and what holds for any cut of a clip."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.nets.names import adopted
from longtake.nets.wan.vae import VaeConfig, WanVae
from longtake.nets.wan.vae_names import names, only_encodes
from tests.nets.flashvsr.goldens import difference
from tests.nets.formula import each, formula
from tests.nets.oracles import filled, handed, library, stored

SMALL = VaeConfig(base=8)


@pytest.fixture(scope="module")
def net():
    return filled(WanVae(SMALL))


def oracle(net: WanVae):
    diffusers = library("diffusers")
    return handed(net, names(net.config), diffusers.AutoencoderKLWan(base_dim=net.config.base))


def encoded_there(other, clip):
    """Normalised as Wan's pipelines do."""
    mean, std = (
        torch.tensor(v)[None, :, None, None, None]
        for v in (other.config.latents_mean, other.config.latents_std)
    )
    return (other.encode(clip).latent_dist.mode() - mean) / std


def decoded_there(other, latents):
    mean, std = (
        torch.tensor(v)[None, :, None, None, None]
        for v in (other.config.latents_mean, other.config.latents_std)
    )
    return other.decode(latents * std + mean).sample


@pytest.mark.parametrize(
    ("batch", "frames", "height", "width"), [(1, 1, 8, 8), (2, 5, 40, 24), (1, 13, 16, 56)]
)
def test_it_is_the_library_s(net, batch, frames, height, width) -> None:
    other = oracle(net)
    clip = formula((batch, 3, frames, height, width), 3)
    latents = each(net.encode, clip, {})
    assert latents.shape == (batch, 16, 1 + (frames - 1) // 4, height // 8, width // 8)
    assert difference(latents, encoded_there(other, clip)) <= 1e-4
    decoded = each(net.decode, latents, {}).clamp(-1, 1)
    assert difference(decoded, decoded_there(other, latents)) <= 1e-4


def test_it_is_what_the_library_said(net) -> None:
    tensors, _ = stored("vae")
    made = each(net.encode, formula((1, 3, 9, 24, 32), 2), {})
    assert difference(made, tensors["encoded"]) <= 1e-4


def test_their_files_are_ours(net) -> None:
    theirs = oracle(net).state_dict()
    with torch.device("meta"):
        whole, half = WanVae(SMALL), WanVae(VaeConfig(base=8, encoder=False))
    whole.load_state_dict(adopted(whole, names(SMALL), theirs), assign=True)
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in whole.state_dict().items())
    half.load_state_dict(adopted(half, names(half.config), theirs, only_encodes), assign=True)
    latents = formula((1, 16, 2, 2, 3), 1)
    assert torch.equal(each(half.decode, latents, {}), each(net.decode, latents, {}))
    with pytest.raises(ValueError, match=r"encoder\.conv_in\.bias is unknown"):
        adopted(half, names(half.config), theirs)


def test_all_names_of_the_official_sizes_are_known() -> None:
    config = VaeConfig()
    with torch.device("meta"):
        table = names(config)
        assert table.keys() == WanVae(config).state_dict().keys()
    assert len({theirs for parts in table.values() for theirs in parts}) == 194
    assert table["decoder.upsamples.4.shortcut.weight"] == (
        "decoder.up_blocks.1.resnets.0.conv_shortcut.weight",
    )


@settings(max_examples=12, deadline=None)
@given(groups=st.integers(0, 3), cut=st.integers(0, 12), data=st.integers(0, 99))
def test_encoding_is_the_same_wherever_it_is_put_down(net, groups, cut, data) -> None:
    with torch.inference_mode():
        clip = formula((1, 3, 1 + 4 * groups, 16, 8), data)
        whole = each(net.encode, clip, {})
        cut = min(cut, clip.shape[2])
        history, made = {}, []
        for t in range(cut):
            made.extend(net.encode(clip[:, :, t], history))
        assert len(made) == (cut + 3) // 4
        history = {layer: tuple(x.clone() for x in kept) for layer, kept in history.items()}
        for t in range(cut, clip.shape[2]):
            made.extend(net.encode(clip[:, :, t], history))
        assert torch.equal(torch.stack(made, dim=2), whole)


def test_history_stays_as_large_as_said(net) -> None:
    history, kept = {}, []
    for t in range(13):
        list(net.encode(formula((1, 3, 16, 24), t), history))
        kept.append(sum(x.numel() for frames in history.values() for x in frames))
    base, m = net.config.base, 16 * 24
    higher = 4 * 2 + (2 + 3 * 2 * 2) / 4
    lower = (2 * 2 + 2 * 2 + 3 * 2 * 4) / 16 + (2 * 4 + 9 * 2 * 4) / 64
    assert max(kept) == kept[7] == kept[11] == m * (2 * 3 + (higher + lower) * base)


def test_later_frames_do_not_count(net) -> None:
    clip = formula((1, 3, 9, 16, 16), 5)
    changed = clip.clone()
    changed[:, :, 5:] += 1
    made, other = each(net.encode, clip, {}), each(net.encode, changed, {})
    assert torch.equal(made[:, :, :2], other[:, :, :2])
    assert difference(made[:, :, 2], other[:, :, 2]) > 1e-3
