"""Predicted bytes of TAEHV's decoder are those of the net, counted on meta tensors."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longtake.nets import taehv, taehv_needs
from longtake.nets.taehv import Memory, Taehv
from longtake.nets.taehv_needs import TAEW2_1, TaehvConfig
from tests.engines.meta_trace import peak
from tests.nets.on_meta import close

META = torch.device("meta")
LOW, WIDE = TaehvConfig(widths=(512, 10, 8, 6)), TaehvConfig(latent=5, widths=(12, 40, 8, 70))


def net_of(sizes: TaehvConfig, dtype: str) -> Taehv:
    with META:
        return Taehv(TaehvConfig(**asdict(sizes))).to(getattr(torch, dtype))


def test_the_sizes_are_those_of_the_net() -> None:
    assert asdict(TAEW2_1) == asdict(TaehvConfig())
    assert taehv_needs.CUT == taehv.CUT


@pytest.mark.parametrize("sizes", [TAEW2_1, LOW, WIDE], ids=["published", "low", "wide"])
def test_tensors_and_weights_are_those_of_the_net(sizes: TaehvConfig) -> None:
    state = net_of(sizes, "float16").state_dict()
    assert taehv_needs.tensors(sizes) == {key: tuple(x.shape) for key, x in state.items()}
    assert taehv_needs.weights(sizes, "float16") == sum(x.nbytes for x in state.values())


@pytest.mark.parametrize("latents", [1, 2, 4])
@pytest.mark.parametrize("sizes", [TAEW2_1, LOW, WIDE], ids=["published", "low", "wide"])
@pytest.mark.parametrize(("size", "dtype"), [((60, 104), "bfloat16"), ((31, 20), "float32")])
def test_decoding_needs_what_was_said(
    sizes: TaehvConfig, size: tuple[int, int], dtype: str, latents: int
) -> None:
    net, kind = net_of(sizes, dtype), getattr(torch, dtype)
    latent = torch.empty(1, sizes.latent, *size, dtype=kind, device=META)
    memory: Memory = {}

    def clip() -> None:
        for _ in range(latents):
            for _frame in net.decode(latent, memory):
                pass

    said = taehv_needs.decoding(sizes, *size, dtype, latents=latents)
    traced = peak(clip)
    assert close(said.peak, traced), (said, traced)
    assert said.state == sum(x.nbytes for x in memory.values())


@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 9))
def test_more_never_needs_less(height: int, width: int, latents: int) -> None:
    def needed(height: int, width: int, latents: int) -> int:
        need = taehv_needs.decoding(TAEW2_1, height, width, "float16", latents=latents)
        assert need.state > 0
        assert need.activations > 0
        return need.peak

    least = needed(height, width, latents)
    assert least < needed(height + 1, width, latents)
    assert least <= needed(height, width, latents + 1)
