"""Wan 2.1's transformer: the published network, chunks, branches, explicit state, precision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from longtake.nets.wan.block import Flow, Settings
from longtake.nets.wan.dit import DiT
from longtake.nets.wan.sizes import DiTConfig, chunks, exact, parts
from tests.golden.make_wan_dit import NAME, SIZES, asked_of
from tests.nets.flashvsr.goldens import difference
from tests.nets.oracles import stored
from tests.nets.wan.dits import (
    I2V,
    T2V,
    Asked,
    ExactPhases,
    as_published,
    by_published,
    net_of,
    predicted,
)


@pytest.fixture(scope="module", params=[T2V, I2V], ids=["t2v", "i2v"])
def net(request: pytest.FixtureRequest) -> DiT:
    return net_of(request.param)


@pytest.fixture(scope="module")
def theirs(net: DiT) -> Any:
    return as_published(net)


# --- the published network -----------------------------------------------------------------------

TIMES = (1000.0, 714.25, 37.0, 0.0)


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("size", [(1, 2, 2), (3, 6, 14), (5, 10, 6)])
def test_equal_to_the_published_network(
    net: DiT, theirs: Any, size: tuple[int, int, int], time: float
):
    asked = [Asked.by_formula(net.config, size, time, seed) for seed in (0, 5)]
    length = net.config.text_length
    for count in (1, 2):
        made = torch.stack(predicted(net, asked[:count], Settings(chunk_tokens=32)))
        assert difference(made, by_published(theirs, asked[:count], length)) <= 1e-5
    assert difference(made[0], made[1]) > 0.1  # the test can tell


def test_equal_to_the_last_bits_with_exact_phases(net: DiT, theirs: Any):
    """What is left of the difference is the library's float32 time step."""
    asked = [Asked.by_formula(net.config, (3, 6, 14), 999.0)]
    kept = theirs.condition_embedder.timesteps_proj
    theirs.condition_embedder.timesteps_proj = ExactPhases(net.config.freq_dim)
    try:
        wanted = by_published(theirs, asked, net.config.text_length)[0]
    finally:
        theirs.condition_embedder.timesteps_proj = kept
    assert difference(predicted(net, asked)[0], wanted) <= 2e-6


@given(
    heads=st.integers(1, 3),
    head_dim=st.sampled_from([6, 12, 18, 24]),
    layers=st.integers(1, 3),
    ffn=st.integers(1, 5),
    seed=st.integers(0, 50),
    image=st.sampled_from([None, 8, 24]),
)
@settings(max_examples=6, deadline=None)
def test_equal_on_any_sizes(
    heads: int, head_dim: int, layers: int, ffn: int, seed: int, image: int | None
):
    config = DiTConfig(
        dim=heads * head_dim, heads=heads, layers=layers, ffn_dim=16 * ffn, text_dim=12,
        freq_dim=16, image_dim=image, enter=16 if image is None else 36,
    )  # fmt: skip
    with torch.inference_mode():
        net = net_of(config, seed)
        asked = [Asked.by_formula(config, (2, 6, 10), 500.0, seed, words=1 + seed)]
        wanted = by_published(as_published(net), asked, config.text_length)[0]
        assert difference(predicted(net, asked)[0], wanted) <= 1e-5


def test_as_stored():
    """What the published network made, where it is not installed."""
    wanted, _ = stored(NAME)
    for name, config in SIZES.items():
        net = net_of(config)
        made = torch.stack(predicted(net, asked_of(config)))
        assert difference(made, wanted[name]) <= 1e-5


# --- chunks --------------------------------------------------------------------------------------


@given(tokens=st.integers(1, 5000), size=st.integers(32, 3000))
def test_chunks_cover_and_none_is_short(tokens: int, size: int):
    found = chunks(tokens, size)
    assert [x for rows in found for x in range(tokens)[rows]] == list(range(tokens))
    sizes = [rows.stop - rows.start for rows in found]
    assert all(size <= x < size + 32 for x in sizes[:-1])
    assert min(tokens, 32) <= sizes[-1] < size + 32


@given(
    tokens=st.integers(1, 5000),
    size=st.none() | st.integers(32, 3000),
    queries=st.none() | st.integers(32, 3000),
)
def test_parts_are_runs_of_chunks(tokens: int, size: int | None, queries: int | None):
    found = parts(tokens, size, queries)
    rows = [rows for group in found for rows in group]
    assert [r.start for r in rows] == [0, *(r.stop for r in rows[:-1])]
    assert rows[-1].stop == tokens
    if queries is not None:
        asking = [group[-1].stop - group[0].start for group in found]
        assert max(asking) < max(queries, size or 0) + 32


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16], ids=str)
@given(
    frames=st.integers(1, 4),
    rows=st.integers(2, 11),
    columns=st.integers(2, 11),
    chunk=st.integers(32, 300),
    queries=st.none() | st.integers(32, 300),
    seed=st.integers(0, 99),
)
@settings(max_examples=12, deadline=None)
def test_chunks_change_no_bit(
    kind: torch.dtype, frames: int, rows: int, columns: int, chunk: int, queries: int | None,
    seed: int,
):  # fmt: skip
    for config in (T2V, I2V):
        with torch.inference_mode():
            net = net_of(replace(config, layers=1), seed).to(kind)
            asked = [Asked.by_formula(net.config, (frames, 2 * rows, 2 * columns), 600.0, seed)]
            whole = predicted(net, asked)[0]
            how = Settings(chunk_tokens=chunk, query_tokens=queries)
            assert torch.equal(predicted(net, asked, how)[0], whole)


def test_chunks_are_refused_where_too_small():
    with pytest.raises(ValueError, match="at least 32, not 31"):
        Settings(chunk_tokens=31)
    with pytest.raises(ValueError, match="at least 32, not 0"):
        Settings(query_tokens=0)
    with pytest.raises(ValueError, match="at least 32 tokens, not 8"):
        chunks(100, 8)


# --- branches and blocks -------------------------------------------------------------------------


def test_branches_through_one_phase_are_those_one_by_one(net: DiT):
    """Both branches of guidance, and one of another size, while the phase is there."""
    asked = [
        Asked.by_formula(net.config, (2, 6, 8), 600.0, 1),
        replace(Asked.by_formula(net.config, (2, 6, 8), 600.0, 1), text=torch.zeros(1, 20)),
        Asked.by_formula(net.config, (3, 4, 6), 900.0, 3),
    ]
    order: list[tuple[int, str, int]] = []
    layers = ("self_attn.v", "cross_attn", "ffn")
    hooks = [
        block.get_submodule(layer).register_forward_pre_hook(
            lambda _, given, at=(number, layer): order.append((*at, len(given[0])))
        )
        for number, block in enumerate(net.blocks)
        for layer in layers
    ]
    together = predicted(net, asked, Settings(chunk_tokens=32))
    assert order == [
        (number, layer, tokens)
        for number in range(len(net.blocks))
        for layer in layers
        for tokens in (24, 24, 18)
    ]
    for hook in hooks:
        hook.remove()
    for one, made in zip(asked, together, strict=True):
        assert torch.equal(predicted(net, [one], Settings(chunk_tokens=32))[0], made)
    assert not torch.equal(together[0], together[1])


def test_steps_can_be_called_on_their_own(net: DiT):
    """Embedding, each block from elsewhere, head: nothing but the flow lies between."""
    how = Settings(chunk_tokens=32)
    sample = Asked.by_formula(net.config, (2, 6, 8), 600.0).of(net)
    wanted = net([sample], how)[0]
    flow = net.enter(sample, net.turns(net.grid(sample.latents), torch.device("cpu")), how)
    for block in net.blocks:
        flow = Flow(flow.x.clone(), flow.turns, flow.grid, flow.given, flow.moment, how)
        block(flow)
    assert torch.equal(net.leave(flow), wanted)


def test_forward_only_iterates_over_blocks(net: DiT):
    """Blocks may come from a sequence that brings them as they are needed."""
    asked = [Asked.by_formula(net.config, (2, 6, 8), 600.0)]
    wanted = predicted(net, asked)[0]
    there: list[int] = []

    class Bringing(torch.nn.Module):
        def __init__(self, blocks: Any) -> None:
            super().__init__()
            self.held = list(blocks)

        def __iter__(self) -> Any:
            for number, block in enumerate(self.held):
                there.append(number)
                yield block

    blocks = net.blocks
    net.blocks = Bringing(blocks)  # type: ignore[assignment]
    try:
        assert torch.equal(predicted(net, asked)[0], wanted)
    finally:
        net.blocks = blocks
    assert there == list(range(net.config.layers))


def test_inputs_are_left_as_they_are(net: DiT):
    sample = Asked.by_formula(net.config, (2, 6, 8), 600.0).of(net)
    tensors = [sample.latents, sample.given.text, sample.moment.modulation]
    before = [x.clone() for x in tensors]
    net([sample], Settings())
    assert all(map(torch.equal, tensors, before))


# --- what is given -------------------------------------------------------------------------------


def test_a_prompt_is_filled_up_with_zeros(net: DiT):
    asked = Asked.by_formula(net.config, (1, 4, 4), 600.0)
    longer = torch.nn.functional.pad(asked.text, (0, 0, 0, 3))
    assert torch.equal(net.give(asked.text, asked.image).text, net.give(longer, asked.image).text)
    too_long = torch.zeros(net.config.text_length + 1, net.config.text_dim)
    with pytest.raises(ValueError, match=f"not {net.config.text_length + 1}"):
        net.give(too_long, asked.image)


def test_what_does_not_fit_is_refused(net: DiT):
    asked = Asked.by_formula(net.config, (1, 4, 4), 600.0)
    image = torch.zeros(257, 40) if asked.image is None else None
    with pytest.raises(ValueError, match="this net takes"):
        net.give(asked.text, image)
    odd = replace(asked, latents=asked.latents[:, :, :3])
    with pytest.raises(ValueError, match="3 x 4 values"):
        predicted(net, [odd])


def test_released_it_predicts_the_same(net: DiT):
    own = net_of(net.config)
    asked = Asked.by_formula(net.config, (2, 6, 8), 600.0)
    sample = asked.of(own)
    wanted = own([sample], Settings())[0]
    own.release()
    assert torch.equal(own([sample], Settings())[0], wanted)
    with pytest.raises(RuntimeError, match="release"):
        own.moment(3.0)
    with pytest.raises(RuntimeError, match="release"):
        own.give(asked.text, asked.image)


# --- precision -----------------------------------------------------------------------------------


def halved(net: DiT, keep: bool) -> DiT:
    """The net in bfloat16; with what is `exact` in float32, or that too rounded."""
    for key, parameter in net.named_parameters():
        if not (keep and exact(key)):
            parameter.data = parameter.data.bfloat16()
    return net


def test_bfloat16_is_near_and_exact_parts_make_it_nearer(net: DiT):
    asked = [
        Asked.by_formula(net.config, (3, 6, 10), time, seed) for seed, time in enumerate(TIMES)
    ]
    wanted = torch.stack(predicted(net, asked))

    def error(keep: bool) -> Tensor:
        made = torch.stack(predicted(halved(net_of(net.config), keep), asked))
        assert made.dtype == torch.float32
        return (made - wanted).square().mean().sqrt() / wanted.square().mean().sqrt()

    assert error(True) <= 0.02
    assert error(True) < error(False)
