"""Predicted bytes of umT5 are those of the net, counted on meta tensors."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longtake.core.blocks import ALIGNED, slab
from longtake.nets import umt5, umt5_needs
from longtake.nets.umt5 import UmT5
from longtake.nets.umt5_needs import XXL, UmT5Config
from tests.engines.meta_trace import peak
from tests.nets.on_meta import attending, close, efficient

META = torch.device("meta")
SMALL = UmT5Config(vocabulary=90, dim=64, heads=2, head_dim=32, ffn_dim=900, layers=3)
GIB = 1 << 30


def net_of(sizes: UmT5Config, dtype: str) -> UmT5:
    with META:
        return UmT5(UmT5Config(**asdict(sizes))).to(getattr(torch, dtype))


def test_the_sizes_are_those_of_the_net() -> None:
    assert UmT5Config(**{key: getattr(UmT5Config(), key) for key in asdict(XXL)}) == XXL


@pytest.mark.parametrize("sizes", [XXL, SMALL], ids=["xxl", "small"])
def test_tensors_and_weights_are_those_of_the_net(sizes: UmT5Config) -> None:
    state = net_of(sizes, "bfloat16").state_dict()
    assert umt5_needs.tensors(sizes) == {key: tuple(x.shape) for key, x in state.items()}
    made = umt5_needs.weights(sizes, "bfloat16")
    exactly = sum(x.nbytes for x in state.values())
    assert exactly <= made.total <= exactly + ALIGNED * len(state)
    assert made.embedding == state["token_embedding.weight"].nbytes
    assert made.blocks == sizes.layers * made.block
    block = umt5_needs.block_tensors(sizes)
    laid = slab((key, "bfloat16", shape) for key, shape in block.items())
    assert laid.bytes - 4096 < made.block <= laid.bytes  # to the page


def test_sizes_of_the_published_encoder() -> None:
    values = sum(map(torch.Size.numel, map(torch.Size, umt5_needs.tensors(XXL).values())))
    assert values == pytest.approx(5.681e9, rel=2e-4)
    whole, small = (umt5_needs.weights(XXL, "bfloat16", m) for m in (None, "int8"))
    assert (round(whole.total / GIB, 2), round(small.total / GIB, 2)) == (10.58, 6.27)
    assert (whole.block >> 20, small.block >> 20) == (368, 184)


def test_only_matrices_are_kept_in_8_bits_and_each_row_has_a_scale() -> None:
    dim, ffn, inner = XXL.dim, XXL.ffn_dim, XXL.heads * XXL.head_dim
    values = 4 * dim * inner + 3 * dim * ffn
    rows = 3 * inner + dim + 2 * ffn + dim
    others = 2 * (2 * dim + XXL.buckets * XXL.heads)
    assert sum(umt5_needs.block_sizes(XXL, "bfloat16", "int8")) == values + 4 * rows + others
    assert sum(umt5_needs.block_sizes(XXL, "bfloat16", "float16")) == 2 * values + others


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float16"])
@pytest.mark.parametrize(
    ("sizes", "tokens", "samples", "padded"),
    [
        (UmT5Config(layers=2), 512, 1, False),
        (UmT5Config(layers=2), 512, 2, True),
        (UmT5Config(layers=2), 300, 1, False),
        (UmT5Config(layers=2), 77, 3, True),
        (UmT5Config(layers=2), 9, 1, False),
        (SMALL, 40, 2, False),
    ],
)
def test_activations_are_those_of_the_real_pass(
    monkeypatch: pytest.MonkeyPatch,
    sizes: UmT5Config,
    tokens: int,
    samples: int,
    padded: bool,
    dtype: str,
) -> None:
    """Buckets are made on the host, and counted where they are brought to."""
    net = net_of(sizes, dtype)
    buckets = torch.empty((), device=META).new_empty
    monkeypatch.setattr(umt5, "distance_buckets", lambda n, *_: buckets(n, n, dtype=torch.int64))
    ids = torch.empty(samples, tokens, dtype=torch.int64, device=META)
    mask = torch.empty(samples, tokens, device=META) if padded else None
    with attending(efficient):
        traced = peak(lambda: net(ids, mask))
    said = umt5_needs.activations(sizes, tokens, dtype, samples=samples, padded=padded)
    assert close(said, traced), (said, traced)


@given(st.integers(1, 512), st.integers(1, 3), st.booleans())
def test_more_never_needs_less(tokens: int, samples: int, padded: bool) -> None:
    def needed(tokens: int, samples: int, padded: bool) -> int:
        return umt5_needs.activations(XXL, tokens, "bfloat16", samples=samples, padded=padded)

    least = needed(tokens, samples, padded)
    assert 0 < least < needed(tokens + 8, samples, padded)
    assert least < needed(tokens, samples + 1, padded)
    assert least <= needed(tokens, samples, True)
