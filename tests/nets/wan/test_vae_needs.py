"""Predicted bytes of Wan's VAE are those of the net, counted on meta tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import pairwise
from math import prod
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from longtake.nets.wan import tiles, vae_needs
from longtake.nets.wan.causal import History, arrange
from longtake.nets.wan.tiles import Histories, TiledVae, Tiling
from longtake.nets.wan.vae import VaeConfig, WanVae
from longtake.nets.wan.vae_needs import WAN_2_1, Half, Sizes, Tiles
from tests.engines.meta_trace import peak
from tests.nets.on_meta import attending, close, efficient

META = torch.device("meta")
ODD = Sizes(base=16, widths=(1, 3, 2, 4), over_time=(True, False, True), blocks=1, latent=12)
SMALL = Sizes(base=16, blocks=1)
each_net = pytest.mark.parametrize("sizes", [WAN_2_1, ODD], ids=["published", "odd"])


def net_of(sizes: Sizes, dtype: str, *, encoder: bool = True) -> WanVae:
    said = {k: v for k, v in asdict(sizes).items() if k != "latent"}
    ones = (1.0,) * sizes.latent
    with META:
        net = WanVae(VaeConfig(**said, mean=ones, std=ones, encoder=encoder))
    arrange(net.to(getattr(torch, dtype)))
    return net


Step = Callable[[Tensor, Any], Iterator[Tensor]]


def traced(step: Step, state: Any, shape: tuple[int, ...], many: int, dtype: str) -> int:
    """Bytes of so many steps; frames that are encoded come one by one, and are counted."""
    kind = getattr(torch, dtype)
    latent = torch.empty(shape, dtype=kind, device=META) if shape[1] != 3 else None

    def stream() -> None:
        for _ in range(many):
            new = torch.empty(shape, dtype=kind, device=META) if latent is None else latent
            made = step(new, state)
            del new
            for _frame in made:
                pass

    with attending(efficient):
        return peak(stream)


def shape_of(sizes: Sizes, half: Half, size: tuple[int, int]) -> tuple[int, ...]:
    if half == "decode":
        return (1, sizes.latent, *size)
    return (1, 3, *(side * vae_needs.CELL for side in size))


# --- weights -------------------------------------------------------------------------------------


def test_the_sizes_are_those_of_the_net() -> None:
    config = VaeConfig()
    said = {key: getattr(config, key) for key in asdict(WAN_2_1) if key != "latent"}
    assert Sizes(**said, latent=len(config.mean)) == WAN_2_1


@each_net
@pytest.mark.parametrize("encoder", [True, False])
def test_tensors_and_weights_are_those_of_the_net(sizes: Sizes, encoder: bool) -> None:
    state = net_of(sizes, "bfloat16", encoder=encoder).state_dict()
    found = vae_needs.tensors(sizes, encoder=encoder)
    assert found == {key: tuple(x.shape) for key, x in state.items()}
    made = vae_needs.weights(sizes, "bfloat16", encoder=encoder)
    assert made == sum(x.nbytes for x in state.values())


def test_sizes_of_the_published_net() -> None:
    both, one = (
        sum(map(prod, vae_needs.tensors(WAN_2_1, encoder=encoder).values()))
        for encoder in (True, False)
    )
    assert (round(one / 1e6, 1), round((both - one) / 1e6, 1)) == (73.3, 53.6)
    assert round(vae_needs.weights(WAN_2_1, "float32") / (1 << 30), 2) == 0.47


# --- whole frames --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("half", "steps"),
    [("decode", 1), ("decode", 2), ("decode", 5), ("encode", 1), ("encode", 4), ("encode", 18)],
)
@pytest.mark.parametrize(
    ("sizes", "size", "dtype"), [(WAN_2_1, (60, 104), "bfloat16"), (ODD, (10, 14), "float32")]
)
def test_a_stream_needs_what_was_said(
    sizes: Sizes, half: Half, steps: int, size: tuple[int, int], dtype: str
) -> None:
    net, history = net_of(sizes, dtype), dict[Any, Any]()
    step = net.decode if half == "decode" else net.encode
    real = traced(step, history, shape_of(sizes, half, size), steps, dtype)
    said = vae_needs.need(sizes, half, size, dtype, steps=steps)
    assert close(said.peak, real), (said, real)
    left = sum(x.nbytes for kept in history.values() for x in kept)
    assert left <= said.state <= 1.1 * left  # an encoder has one frame less after some steps
    if half == "decode":
        assert said.state == left


def test_a_history_is_what_the_net_says_of_it() -> None:
    """The formula at the head of vae.py."""
    px = 480 * 832
    values = 7 * 2 * 96 + 6 * 2 * 192 / 4 + (6 * 2 * 384 - 2 * 192 + 2 * 384) / 16
    values += (10 * 2 * 384 + 2 * 384 + 2 * 16) / 64
    assert (
        vae_needs.need(WAN_2_1, "decode", (60, 104), "float32", steps=21).state == 4 * px * values
    )


# --- tiles ---------------------------------------------------------------------------------------

HOST = object()


def apart(history: History, device: Any) -> History:
    """A copy that is counted, or, on the host, one that is not."""
    if device is not HOST:
        return {layer: tuple(map(torch.empty_like, kept)) for layer, kept in history.items()}
    with _disable_current_modes():
        return {layer: tuple(map(torch.empty_like, kept)) for layer, kept in history.items()}


@pytest.mark.parametrize("parked", [False, True])
@pytest.mark.parametrize(
    ("half", "steps"),
    [("decode", 1), ("decode", 3), ("encode", 1), ("encode", 6)],
)
@pytest.mark.parametrize(
    ("tile", "stride", "dtype"),
    [((24, 24), (20, 20), "bfloat16"), ((30, 24), (30, 20), "float32"),
     ((60, 104), (30, 52), "float32")],
)  # fmt: skip
def test_tiles_need_what_was_said(
    monkeypatch: pytest.MonkeyPatch, parked: bool, half: Half, steps: int,
    tile: tuple[int, int], stride: tuple[int, int], dtype: str,
) -> None:  # fmt: skip
    size = (30, 44)
    if parked:
        monkeypatch.setattr(tiles, "moved", apart)
    monkeypatch.setattr(
        tiles, "feather",
        lambda at, frame, tiling, leave: torch.empty([(b - a) * leave for a, b in at], device=META),
    )  # fmt: skip
    waits: Any = HOST if parked else None
    net = TiledVae(vae=net_of(SMALL, dtype), tiling=Tiling(size=tile, stride=stride), parked=waits)
    histories: Histories = {}
    step = net.decode if half == "decode" else net.encode
    real = traced(step, histories, shape_of(SMALL, half, size), steps, dtype)
    how = Tiles(size=tile, stride=stride, parked=parked)
    said = vae_needs.tiled(SMALL, half, size, dtype, how, steps=steps)
    assert close(said.peak, real), (said, real)
    left = sum(x.nbytes for h in histories.values() for kept in h.values() for x in kept)
    waiting = vae_needs.waiting(SMALL, half, size, dtype, how, steps=steps)
    assert left <= waiting <= 1.1 * left
    assert list(histories) == tiles.tiles(*size, net.tiling)
    assert vae_needs.tile_sizes(size, how) == [(b - a, d - c) for (a, b), (c, d) in histories]


def test_the_defaults_of_tiles_are_those_of_the_net() -> None:
    assert (Tiles().size, Tiles().stride) == (Tiling().size, Tiling().stride)


# --- properties ----------------------------------------------------------------------------------

sides = st.integers(2, 100)


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(["encode", "decode"]), sides, sides, st.integers(1, 30))
def test_more_never_needs_less(half: Half, height: int, width: int, steps: int) -> None:
    def needed(height: int, width: int, steps: int) -> int:
        need = vae_needs.need(WAN_2_1, half, (height, width), "bfloat16", steps=steps)
        assert need.state > 0
        assert need.activations > 0
        return need.peak

    least = needed(height, width, steps)
    assert least < needed(height + 1, width, steps)
    assert least < needed(height, width + 1, steps)
    assert least <= needed(height, width, steps + 1)


def test_a_film_s_length_does_not_count() -> None:
    for half, enough in (("decode", 4), ("encode", 17)):
        needs = [
            vae_needs.need(WAN_2_1, half, (60, 104), "float32", steps=steps)  # type: ignore[arg-type]
            for steps in (enough, 1000, 10**9)
        ]
        assert all(a == b for a, b in pairwise(needs))


def test_small_tiles_that_wait_elsewhere_fit_where_frames_do_not() -> None:
    size, how = (90, 160), Tiles(size=(32, 32), stride=(24, 24), parked=True)
    whole = vae_needs.need(WAN_2_1, "decode", size, "bfloat16", steps=21).peak
    assert vae_needs.tiled(WAN_2_1, "decode", size, "bfloat16", how, steps=21).peak < whole / 5
