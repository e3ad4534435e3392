"""Windows, the rule that keeps blocks, backends of attention: official outputs and properties."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from longtake.nets.flashvsr import attention, backends
from longtake.nets.flashvsr.attention import (
    BLOCK,
    block_budget,
    block_means,
    block_scores,
    from_windows,
    keep_blocks,
    local_mask,
    to_windows,
)
from longtake.nets.flashvsr.backends import Selection, gathered, reference
from longtake.nets.flashvsr.block import DiTConfig, SelfAttention, Sight
from longtake.nets.flashvsr.state import KVState
from longtake.nets.rope import grid_rotation
from tests.nets.flashvsr.goldens import SMALL, difference, golden, weights

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _inference():
    torch.manual_seed(0)
    with torch.inference_mode():
        yield


# --- windows -------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(slabs=st.integers(1, 3), rows=st.integers(1, 3), columns=st.integers(1, 3))
def test_windows_hold_their_tokens_and_come_back(slabs, rows, columns) -> None:
    f, h, w = 2 * slabs, 8 * rows, 8 * columns
    axes = torch.meshgrid(*map(torch.arange, (f, h, w)), indexing="ij")
    grid = torch.stack(axes, dim=-1)
    windows = to_windows(grid)
    assert torch.equal(from_windows(windows, h, w), grid)
    blocks = windows.view(slabs, rows * columns, BLOCK, 3)
    for slab, row, column in ((0, 0, 0), (slabs - 1, rows - 1, columns - 1)):
        block = blocks[slab, row * columns + column]
        assert block[0].tolist() == [2 * slab, 8 * row, 8 * column]
        assert block[9].tolist() == [2 * slab, 8 * row + 1, 8 * column + 1]
        assert block[64].tolist() == [2 * slab + 1, 8 * row, 8 * column]


@pytest.mark.parametrize("size", [(1, 8, 8), (2, 12, 8), (2, 8, 4)])
def test_a_grid_without_whole_windows_is_refused(size) -> None:
    with pytest.raises(ValueError, match="whole windows"):
        to_windows(torch.zeros(*size, 1))


# --- the rule ------------------------------------------------------------------------------------


def test_masks_are_the_official_ones() -> None:
    stored, meta = golden("masks", SMALL)
    for name in (name for name in stored if name.startswith("local.")):
        grid, reach = name.removeprefix("local.").split("_win")
        rows, columns = map(int, grid.split("x"))
        made = local_mask(rows, columns, int(reach.split("x")[0]), CPU)
        assert torch.equal(made, stored[name]), name
    for number, case in enumerate(meta["cases"]):
        q, k = (
            stored[f"draft{number}.{kind}_mean"].unflatten(-1, (case["heads"], case["head_dim"]))
            for kind in "qk"
        )
        local = local_mask(case["nh"], case["nw"], case["local_range"], CPU)
        made = [
            keep_blocks(block_scores(slab, k), local, case["topk"])
            for slab in q.split(case["nh"] * case["nw"])
        ]
        assert torch.equal(torch.cat(made, dim=1)[None], stored[f"draft{number}.mask"]), number


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 4),
    columns=st.integers(1, 4),
    slabs=st.integers(1, 4),
    reach=st.integers(1, 6),
    budget=st.integers(0, 300),
    levels=st.sampled_from([2, 9, 10**6]),
    seed=st.integers(0, 2**31),
)
def test_what_is_kept(rows, columns, slabs, reach, budget, levels, seed) -> None:
    n, heads = rows * columns, 2
    scores = torch.randint(
        levels, (heads, n, slabs * n), generator=torch.Generator().manual_seed(seed)
    )
    scores = scores.double().div(levels).float()
    local = local_mask(rows, columns, reach, CPU)
    kept = keep_blocks(scores, local, budget)
    assert not (kept & ~local.repeat(1, slabs)).any()
    allowed = scores.masked_fill(~local.repeat(1, slabs), -torch.inf).softmax(-1)
    room = min(n * slabs * n - 1, budget)
    for head in range(heads):
        chosen, left = allowed[head][kept[head]], allowed[head][~kept[head]]
        assert len(chosen) <= room
        assert len(chosen) == 0 or chosen.min() > left.max()  # ties fall together
        ties = int((allowed[head] == left.max()).sum())
        assert len(chosen) + ties > room  # no more could have been kept


def test_scores_are_rounded_as_the_official_bf16_code_rounds() -> None:
    q, k = torch.randn(2, 5, 3, 128).bfloat16().unbind(0)
    products = torch.einsum("lhd,mhd->hlm", q.float(), k.float()).bfloat16()
    assert torch.equal(block_scores(q, k), products / 128**0.5)
    assert block_means(torch.randn(256, 4).bfloat16()).dtype == torch.bfloat16


def test_a_budget_of_nothing_is_refused() -> None:
    assert block_budget(66, 2.0 * 768 * 1280 / (768 * 1408)) == 7919
    with pytest.raises(ValueError, match=r"0\.0625"):
        block_budget(4, 0.05)


# --- backends ------------------------------------------------------------------------------------


def case(blocks: int, ring: int, used: int, share: float) -> tuple:
    """Queries, keys, values of a ring whose unused blocks hold NaN, and a random selection."""
    queries = torch.randn(blocks * BLOCK, 2, 32)
    keys, values = torch.full((2, ring, BLOCK, 2, 32), torch.nan).unbind(0)
    columns = torch.randperm(ring)[:used]
    keys[columns], values[columns] = torch.randn(2, used, BLOCK, 2, 32).unbind(0)
    return queries, keys, values, Selection(torch.rand(2, blocks, used) < share, columns)


@pytest.mark.parametrize("attend", [reference, gathered])
def test_all_blocks_kept_is_plain_attention(attend) -> None:
    queries, keys, values, selection = case(3, 6, 5, 2.0)
    made = attend(queries, keys, values, selection)
    q, k, v = (
        x.transpose(0, 1)
        for x in (
            queries,
            keys[selection.columns].flatten(0, 1),
            values[selection.columns].flatten(0, 1),
        )
    )
    wanted = F.scaled_dot_product_attention(q, k, v).transpose(0, 1)
    assert difference(made, wanted) <= 1e-5


def test_backends_agree_and_an_empty_row_gives_nothing(monkeypatch) -> None:
    queries, keys, values, selection = case(4, 7, 6, 0.4)
    selection.kept[0, 1] = selection.kept[1, 3] = False
    made = reference(queries, keys, values, selection)
    assert not made[BLOCK : 2 * BLOCK, 0].any()
    assert not made[3 * BLOCK :, 1].any()
    for limit in (backends.GATHERED_BYTES, 1):  # many rows at once, or one by one
        monkeypatch.setattr(backends, "GATHERED_BYTES", limit)
        assert difference(gathered(queries, keys, values, selection), made) <= 1e-5


@settings(max_examples=20, deadline=None)
@given(used=st.integers(1, 6), share=st.floats(0, 1), seed=st.integers(0, 2**31))
def test_packed_lists_places_in_order_of_time(used, share, seed) -> None:
    torch.manual_seed(seed)
    *_, selection = case(2, 6, used, share)
    counts, places = selection.packed(6)
    assert places.shape == (2, 2, 6)
    assert counts.dtype == places.dtype == torch.int32
    for head in range(2):
        for row in range(2):
            wanted = selection.columns[selection.kept[head, row]].tolist()
            assert places[head, row, : counts[head, row]].tolist() == wanted


def test_a_backend_says_why_it_cannot_run() -> None:
    assert [backends.unusable(name, CPU) for name in ("reference", "gathered")] == [None, None]
    assert "needs a CUDA device, not cpu" in (backends.unusable("flex", CPU) or "")
    with pytest.raises(KeyError):
        backends.unusable("fast", CPU)


# --- the whole layer, streamed -------------------------------------------------------------------


def test_streamed_attention_is_the_official_one() -> None:
    stored, _ = golden("attn128_weights")
    config = DiTConfig(dim=256, heads=2)
    with torch.device("meta"):
        layer = SelfAttention(config)
    layer.load_state_dict(weights(stored), assign=True)
    state = KVState(layers=1, windows=6, dim=256, dtype=torch.float32, device=CPU)
    for number in range(4):
        chunk, meta = golden(f"attn128_chunk{number}")
        made, kept, means = run(layer, chunk, meta, state)
        assert torch.equal(kept, chunk["mask"][0])
        assert difference(made[::2], chunk["y_even"][0]) <= 1e-5
        assert difference(means, chunk["cache_k_mean"]) <= 1e-5


def run(layer: SelfAttention, chunk: dict, meta: dict, state: KVState) -> tuple:
    """Output in raster order, what was kept, means of the keys that stay."""
    f, h, w = meta["f"], meta["h"], meta["w"]
    times = range(meta["f_offset"], meta["f_offset"] + f)
    turns = to_windows(grid_rotation(times, h, w, 128, CPU)).flatten(0, 1)
    x = to_windows(chunk["x"][0].view(f, h, w, -1))
    masks = []

    def attend(q, k, v, selection):
        masks.append(selection.kept)
        return reference(q, k, v, selection)

    with state.chunk(len(x)), state.layer(0) as kv:
        queries, keys, values = (y.view_as(x) for y in layer.project(x.flatten(0, 1), turns))
        for slab in range(len(x)):
            kv.write(slab, slice(None), keys[slab], values[slab])
        kv.summarise()
        columns = torch.tensor([place * 6 + i for place in state.order for i in range(6)])
        local = local_mask(h // 8, w // 8, meta["local_range"], CPU)
        sight = Sight(2, meta["topk"], local, columns, attend)
        made = layer.o(torch.stack([sight(slab, kv) for slab in queries]))
    means = torch.cat([kv.key_means[place] for place in state.order])
    return from_windows(made, h, w).flatten(0, 2), torch.cat(masks, dim=1), means


# --- state ---------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(kv_ratio=st.integers(1, 6), chunks=st.integers(1, 12))
def test_the_ring_holds_the_last_slabs_as_the_official_cache_does(kv_ratio, chunks) -> None:
    state = KVState(layers=1, windows=1, dim=1, kv_ratio=kv_ratio, dtype=torch.float32, device=CPU)
    cache, number = [], 0.0
    for chunk in range(chunks):
        slabs = 3 if chunk == 0 else 1
        with state.chunk(slabs), state.layer(0) as kv:
            for slab in range(slabs):
                number += 1
                cache.append(number)
                full = torch.full((BLOCK, 1), number)
                kv.write(slab, slice(0, 100), full[:100], -full[:100])
                kv.write(slab, slice(100, BLOCK), full[100:], -full[100:])
            kv.summarise()
            for kind, sign in ((kv.keys, 1), (kv.values, -1), (kv.key_means, 1)):
                assert [float(sign * kind[place].mean()) for place in state.order] == cache
        if len(cache) > kv_ratio:  # exactly one goes
            del cache[0]
        assert len(state.order) == len(cache)


def test_a_failed_chunk_leaves_the_state_as_it_was() -> None:
    state = KVState(layers=1, windows=1, dim=1, dtype=torch.float32, device=CPU)
    with state.chunk(3):
        pass
    before = state.order
    with pytest.raises(RuntimeError), state.chunk(1), state.layer(0):
        raise RuntimeError
    assert state.order == before
    with pytest.raises(ValueError, match="6 latent frames does not fit"), state.chunk(3):
        pass
    with pytest.raises(ValueError, match="kv_ratio"):
        KVState(layers=1, windows=1, dim=1, kv_ratio=0, dtype=torch.float32, device=CPU)


def test_the_window_is_what_the_names_say() -> None:
    assert (attention.WINDOW, BLOCK) == ((2, 8, 8), 128)
