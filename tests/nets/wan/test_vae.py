"""The VAE of Wan 2.1: official numbers, streams, tiles."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from longtake.nets.wan.causal import arrange, moved
from longtake.nets.wan.tiles import TiledVae, Tiling, spans, tiles
from longtake.nets.wan.vae import VaeConfig, WanVae
from tests.nets.flashvsr.goldens import SMALL, difference, golden
from tests.nets.formula import by_formula, each, formula, video
from tests.nets.wan.goldens import official, official_error, second_hand


@pytest.fixture(scope="module")
def net():
    net = WanVae(VaeConfig(base=4)).eval()
    with torch.no_grad():
        by_formula(net)
    return net


def test_official_frames_and_latents():
    net, stored = official()
    assert official_error() <= 1e-4
    again = each(net.decode, stored["encode"], {}).clamp(-1, 1)
    assert difference(again, stored["decode_of_encode"]) <= 1e-4


def test_official_tiles():
    net, stored = official()
    wanted, sizes = golden("wan_vae_tiled")
    tiling = Tiling(size=tuple(sizes["tile_size"]), stride=tuple(sizes["tile_stride"]))
    decoder = TiledVae(vae=net, tiling=tiling, parked=torch.device("cpu"))
    made = each(decoder.decode, stored["z_rand"], {}).clamp(-1, 1)
    assert difference(made, wanted["tiled_decode"]) <= 1e-4
    tiling = Tiling(size=tuple(sizes["enc_tile_size"]), stride=tuple(sizes["enc_tile_stride"]))
    encoder = TiledVae(vae=net, tiling=tiling)
    made = each(encoder.encode, video(stored["clip_u8"]), {})
    assert difference(made, wanted["encode_tiled"]) <= 1e-4


def test_results_as_stored():
    wanted, _ = golden("vae", SMALL)
    for name, made in second_hand().items():
        assert difference(made, wanted[name]) <= 1e-5, name


def test_streams_do_not_touch_each_other(net):
    clips = [formula((1, 16, 3, 4, 5), seed) for seed in (1, 2)]
    wanted = [each(net.decode, clip, {}) for clip in clips]
    films = [each(net.encode, images, {}) for images in wanted]
    assert [x.shape[2] for x in wanted + films] == [9, 9, 3, 3]
    histories, made = [{}, {}], [[], []]
    for t in range(3):
        for clip, history, images in zip(clips, histories, made, strict=True):
            images.extend(net.decode(clip[:, :, t], history))
    for images, whole in zip(made, wanted, strict=True):
        assert torch.equal(torch.stack(images, dim=2), whole)
    histories, made = [{}, {}], [[], []]
    for t in range(9):
        for film, history, latents in zip(wanted, histories, made, strict=True):
            latents.extend(net.encode(film[:, :, t], history))
    for latents, whole in zip(made, films, strict=True):
        assert torch.equal(torch.stack(latents, dim=2), whole)


def test_history_stays_as_large_as_said(net):
    history, kept = {}, []
    for t in range(4):
        list(net.decode(formula((1, 16, 2, 3), t), history))
        kept.append(sum(x.numel() for frames in history.values() for x in frames))
    base, m = net.config.base, 16 * 24
    lower = (6 * 2 * 4 - 2 * 2 + 2 * 4) * base / 16 + ((10 * 2 * 4 + 2 * 4) * base + 32) / 64
    assert kept[2] == kept[3] == m * ((7 * 2 + 6 * 2 * 2 / 4) * base + lower)


def test_arranged_weights_are_the_same_net(net):
    clip = formula((1, 16, 2, 3, 4), 1)
    wanted = each(net.decode, clip, {})
    laid = WanVae(net.config).eval()
    laid.load_state_dict(net.state_dict())
    arrange(laid)
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in laid.state_dict().items())
    assert difference(each(laid.decode, clip, {}), wanted) <= 1e-5


def test_one_tile_is_the_whole_frame(net):
    clip, histories = formula((1, 16, 2, 4, 5), 1), {}
    one = TiledVae(vae=net, tiling=Tiling(size=(4, 5), stride=(2, 3)))
    assert torch.equal(each(one.decode, clip, histories), each(net.decode, clip, {}))
    assert list(histories) == [((0, 4), (0, 5))]


def test_tiles_cover_everything_once_over():
    for length in range(1, 40):
        for size, stride in ((8, 4), (8, 8), (5, 3), (1, 1)):
            made = spans(length, size, stride)
            assert made[0][0] == 0
            assert [stop == length for _, stop in made] == [False] * (len(made) - 1) + [True]
            assert all(b[0] - a[0] == stride for a, b in pairwise(made))
            assert all(b[0] <= a[1] for a, b in pairwise(made))
    assert len(tiles(96, 176, Tiling())) == 3 * 3
    with pytest.raises(ValueError, match="stride"):
        Tiling(size=(4, 4), stride=(5, 4))


def test_history_moves_whole(net):
    history = {}
    list(net.decode(formula((1, 16, 2, 3), 0), history))
    away = moved(history, torch.device("meta"))
    assert {k: [x.shape for x in v] for k, v in away.items()} == {
        k: [x.shape for x in v] for k, v in history.items()
    }


def test_official_names_and_sizes():
    with torch.device("meta"):
        whole, half = WanVae(VaeConfig()), WanVae(VaeConfig(encoder=False))
        frames = each(half.decode, torch.empty(1, 16, 2, 96, 176), {})
    names = {k: tuple(v.shape) for k, v in whole.state_dict().items()}
    assert len(names) == 194
    assert sum(p.numel() for p in whole.parameters()) == 126_892_531
    assert names["decoder.upsamples.3.time_conv.weight"] == (768, 384, 3, 1, 1)
    assert names["decoder.upsamples.4.shortcut.weight"] == (384, 192, 1, 1, 1)
    assert names["encoder.downsamples.8.time_conv.weight"] == (384, 384, 3, 1, 1)
    assert names["decoder.middle.1.norm.gamma"] == (384, 1, 1)
    assert names["encoder.head.0.gamma"] == (384, 1, 1, 1)
    wanted = {k for k in names if k.startswith(("conv2.", "decoder."))}
    assert set(half.state_dict()) == wanted
    assert sum(p.numel() for p in half.decoder.parameters()) == 73_295_331
    assert frames.shape == (1, 3, 5, 768, 1408)
