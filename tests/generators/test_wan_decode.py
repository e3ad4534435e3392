"""Frames from latents: as the nets make them, one latent at a time, tiled or whole."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest
import torch

from longtake.core.errors import NotANumber
from longtake.core.media import Clip
from longtake.engines._parts import Parts
from longtake.generators._wan_decode import Decoding, decode
from longtake.generators._wan_load import Dtypes, load
from longtake.nets.wan.tiles import Tiling
from longtake.offload import swap
from tests.generators.wan_models import CPU, EXACT, T2V, nets, official, opened
from tests.nets.formula import each, formula

TILED = Decoding(tiling=Tiling(size=(4, 4), stride=(2, 3)))
DECODINGS = [Decoding(), TILED, Decoding(net="taehv")]
NAMES = ["vae", "tiles", "taehv"]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return opened(tmp_path_factory.mktemp("wan"), T2V)


def latents(frames: int, height: int = 6, width: int = 4) -> torch.Tensor:
    return formula((16, frames, height, width), 30) / 2


def values() -> int:
    """In all tensors that there are."""
    gc.collect()
    return sum(x.numel() for x in gc.get_objects() if issubclass(type(x), torch.Tensor))


def joined(clips: list[Clip]) -> np.ndarray:
    return np.concatenate([clip.pixels for clip in clips])


@pytest.mark.parametrize("decoding", DECODINGS, ids=NAMES)
@pytest.mark.parametrize("frames", [1, 2, 4])
def test_four_frames_for_each_latent_but_the_first(
    parts: Parts, decoding: Decoding, frames: int
) -> None:
    clips = list(decode(parts, latents(frames), decoding, CPU, start=100))
    assert [(c.start, c.stop) for c in clips] == [
        (100, 101), *((97 + 4 * n, 101 + 4 * n) for n in range(1, frames))
    ]  # fmt: skip
    made = joined(clips)
    assert made.shape == (4 * frames - 3, 48, 32, 3)
    assert made.dtype == np.uint8
    assert made.std() > 1


@pytest.mark.parametrize("decoding", DECODINGS, ids=NAMES)
def test_a_film_begins_as_a_longer_one_does(parts: Parts, decoding: Decoding) -> None:
    long = joined(list(decode(parts, latents(4), decoding, CPU)))
    short = joined(list(decode(parts, latents(4)[:, :2], decoding, CPU)))
    assert np.array_equal(short, long[:5])


@pytest.mark.parametrize("net", ["vae", "taehv"])
def test_pixels_are_the_net_s(parts: Parts, net: str) -> None:
    with torch.inference_mode():
        made = getattr(nets(T2V), net)
        whole = each(made.decode, latents(3)[None], {})[0].permute(1, 2, 3, 0)
    wanted = ((whole.clamp(-1, 1) + 1) / 2 * 255 + 0.5).floor().numpy().astype(np.uint8)
    found = joined(list(decode(parts, latents(3), Decoding(net=net), CPU)))
    assert np.abs(found.astype(int) - wanted).max() <= 1
    assert (found != wanted).mean() < 1e-3


def test_one_tile_is_the_whole_frame(parts: Parts) -> None:
    whole = joined(list(decode(parts, latents(2), Decoding(), CPU)))
    one = Decoding(tiling=Tiling(size=(8, 8), stride=(8, 8)), parked=CPU)
    assert np.array_equal(joined(list(decode(parts, latents(2), one, CPU))), whole)
    assert not np.array_equal(joined(list(decode(parts, latents(2), TILED, CPU))), whole)


def test_deep_frames_say_the_same(parts: Parts) -> None:
    shallow = joined(list(decode(parts, latents(2), Decoding(), CPU)))
    deep = joined(list(decode(parts, latents(2), Decoding(bits=10), CPU)))
    assert deep.dtype == np.uint16
    assert np.abs(deep / 257 - shallow).max() <= 0.51
    assert len(np.unique(deep)) > 2 * len(np.unique(shallow))


@pytest.mark.parametrize("decoding", DECODINGS, ids=NAMES)
def test_nothing_kept_grows_with_the_film(parts: Parts, decoding: Decoding) -> None:
    whole = latents(7, 4, 4)
    held = []
    for number, clip in enumerate(decode(parts, whole, decoding, CPU)):
        del clip
        if number in (2, 5):
            held.append(values())
    assert held[0] == held[1] > values()


@pytest.mark.parametrize("decoding", DECODINGS, ids=NAMES)
def test_swapped_and_between_other_nets_it_is_the_same(
    parts: Parts, tmp_path: Path, decoding: Decoding
) -> None:
    wanted = joined(list(decode(parts, latents(3), decoding, CPU)))
    other = load(official(tmp_path, nets(T2V)), EXACT, "cpu")
    with swap.plugin.attach(other, "cpu"):
        brought, bring, clips = [], other.bring, []
        other.bring = lambda name: (brought.append(name), bring(name))[0]
        for clip in decode(other, latents(3), decoding, CPU):
            clips.append(clip)
            other.turn("transformer")
    assert brought.count(decoding.net) == 3
    assert np.array_equal(joined(clips), wanted)


def test_bfloat16_is_near(parts: Parts, tmp_path: Path) -> None:
    half = load(official(tmp_path, nets(T2V)), Dtypes(), "cpu")
    half["vae"].to(torch.bfloat16)
    exact = joined(list(decode(parts, latents(2), Decoding(), CPU)))
    made = joined(list(decode(half, latents(2), Decoding(), CPU)))
    assert 0 < np.abs(made.astype(int) - exact).mean() < 3


def test_what_is_no_number_is_told_by_frame(parts: Parts) -> None:
    bad = latents(3)
    bad[0, 2, 0, 0] = float("nan")
    clips = decode(parts, bad, Decoding(), CPU, start=40)
    assert [next(clips).start, next(clips).start] == [40, 41]
    with pytest.raises(NotANumber, match="Frame 45"):
        next(clips)


def test_tiles_of_the_small_net_are_refused() -> None:
    with pytest.raises(ValueError, match="no tiles"):
        Decoding(net="taehv", tiling=Tiling())
