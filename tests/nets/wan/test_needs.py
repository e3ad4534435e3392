"""Predicted bytes are those of the nets, counted on meta tensors."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from math import prod

import pytest
import torch

from longtake.nets.wan import needs, sizes
from longtake.nets.wan.block import Given, Moment, Settings
from longtake.nets.wan.dit import DiT, Sample
from longtake.nets.wan.sizes import DiTConfig
from tests.engines.meta_trace import peak

MIB = 1 << 20
GIB = 1 << 30
PUBLISHED = {"t2v-1.3b": sizes.T2V_1_3B, "t2v-14b": sizes.T2V_14B, "i2v-14b": sizes.I2V_14B}
each_config = pytest.mark.parametrize("config", PUBLISHED.values(), ids=PUBLISHED)

LONG, HIGH, SHORT, TINY = (21, 60, 104), (21, 90, 160), (5, 30, 52), (2, 16, 16)
"""Latents of 81 frames at 480p and 720p, of a few small ones, and of fewer tokens than a text."""


# --- weights -------------------------------------------------------------------------------------


def stored(config: DiTConfig, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        net = DiT(config)
    state = net.state_dict()
    return {key: x if sizes.exact(key) else x.to(dtype) for key, x in state.items()}


@each_config
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_are_those_of_the_net(config: DiTConfig, dtype: str):
    state = stored(config, getattr(torch, dtype))
    inside = {key: x for key, x in state.items() if key.startswith("blocks.")}
    made = needs.weights(config, dtype)
    exactly = sum(x.nbytes for x in inside.values())
    assert exactly <= made.blocks <= exactly + needs.ALIGNED * len(inside)
    assert made.block * config.layers == made.blocks
    assert made.ends + made.once == sum(x.nbytes for k, x in state.items() if k not in inside)
    assert made.total == made.blocks + made.ends + made.once


@each_config
def test_release_drops_what_is_counted_as_once(config: DiTConfig):
    with torch.device("meta"):
        net = DiT(replace(config, layers=1))
    before = sum(x.nbytes for x in net.state_dict().values())
    net.release()
    left = sum(x.nbytes for x in net.state_dict().values())
    assert before - left == needs.weights(config, "float32").once


@pytest.mark.parametrize(
    ("config", "values", "block", "eight"),
    [
        (sizes.T2V_1_3B, 1.419e9, 88.6, 44.3),
        (sizes.T2V_14B, 14.288e9, 670, 335),
        (sizes.I2V_14B, 16.395e9, 770, 385),
    ],
)
def test_sizes_of_the_published_models(
    config: DiTConfig, values: float, block: float, eight: float
):
    """Values, and MiB of a block in bfloat16 and in 8 bits."""
    assert sum(map(prod, sizes.tensors(config).values())) == pytest.approx(values, rel=5e-4)
    assert needs.weights(config, "bfloat16").block / MIB == pytest.approx(block, rel=2e-3)
    small = needs.weights(config, "bfloat16", "int8")
    assert small.block / MIB == pytest.approx(eight, rel=6e-3)
    assert small.once == needs.weights(config, "bfloat16").once


# --- activations ---------------------------------------------------------------------------------


def traced(
    config: DiTConfig, size: tuple[int, int, int], how: Settings, samples: int, dtype: torch.dtype
) -> int:
    """Bytes that live at once in a pass through one block: the others take its place."""
    with torch.device("meta"):
        net = DiT(replace(config, layers=1)).to(dtype)
        image = None if config.image_dim is None else torch.empty(257, config.dim, dtype=dtype)
        given = Given(torch.empty(config.text_length, config.dim, dtype=dtype), image)
        moment = Moment(torch.empty(config.dim), torch.empty(6, config.dim))
        sample = Sample(torch.empty(config.enter, *size), moment, given)
        turns = torch.Size((prod(size) // 4, config.head_dim // 2))

    def pass_() -> list[torch.Tensor]:
        net.turns = lambda *_: torch.empty(turns, dtype=torch.complex64, device="meta")
        return net([sample] * samples, how)

    with torch.inference_mode():
        return peak(pass_)


CASES = [
    (LONG, 8192, None, 1, "bfloat16"),
    (LONG, 8192, 8192, 2, "bfloat16"),
    (LONG, None, None, 1, "bfloat16"),
    (LONG, None, 8192, 1, "bfloat16"),
    (HIGH, 16384, None, 2, "bfloat16"),
    (SHORT, 512, None, 1, "float32"),
    (SHORT, None, 512, 1, "bfloat16"),
    (SHORT, 600, 1300, 2, "float32"),
    (TINY, None, None, 1, "bfloat16"),
    (TINY, 32, 32, 2, "float32"),
]


@each_config
@pytest.mark.parametrize(("size", "chunk", "queries", "samples", "dtype"), CASES)
def test_activations_are_those_of_the_real_pass(
    config: DiTConfig,
    size: tuple[int, int, int],
    chunk: int | None,
    queries: int | None,
    samples: int,
    dtype: str,
):
    how = Settings(chunk_tokens=chunk, query_tokens=queries)
    real = traced(config, size, how, samples, getattr(torch, dtype))
    made = needs.activations(
        config, prod(size) // 4, dtype,
        chunk_tokens=chunk, query_tokens=queries, samples=samples,
    )  # fmt: skip
    assert real <= made <= 1.001 * real


@pytest.mark.parametrize("size", [LONG, HIGH])
def test_chunks_bring_activations_down_to_five_times_the_tokens(size: tuple[int, int, int]):
    config, tokens = sizes.T2V_14B, prod(size) // 4
    u = tokens * config.dim * 2

    def needed(chunk: int | None, queries: int | None = None, samples: int = 1) -> float:
        return needs.activations(
            config, tokens, "bfloat16", chunk_tokens=chunk, query_tokens=queries, samples=samples
        ) / u  # fmt: skip

    assert needed(None) > 9
    assert needed(2048) < 5.13
    assert needed(2048, samples=2) < 6.13
    assert needed(2048, 8192) < 3.9


def test_fewer_tokens_at_a_time_never_need_more():
    for samples in (1, 2):
        needed = [
            needs.activations(
                sizes.T2V_14B, 32760, "bfloat16",
                chunk_tokens=chunk, query_tokens=queries, samples=samples,
            )
            for chunk, queries in ((None, None), (8192, None), (2048, None), (2048, 8192),
                                   (2048, 2048), (512, 512))
        ]  # fmt: skip
        assert all(a >= b for a, b in pairwise(needed))


def test_what_is_given_is_counted():
    config = replace(sizes.I2V_14B, layers=1)
    with torch.device("meta"):
        net = DiT(config).bfloat16()
        given = net.give(torch.empty(9, 4096), torch.empty(257, 1280))
        assert given.image is not None
        tensors = [given.text, given.image, torch.empty(config.dim), torch.empty(6, config.dim)]
    assert needs.given(config, "bfloat16") == sum(x.nbytes for x in tensors)


def test_sizes_need_no_torch():
    code = (
        "import sys; from longtake.nets.wan import needs, sizes, keys_official, keys_diffusers;"
        "print(needs.weights(sizes.T2V_14B, 'bfloat16').total, 'torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    total, loaded = said.stdout.split()
    assert int(total) == needs.weights(sizes.T2V_14B, "bfloat16").total
    assert loaded == "False"
