"""umT5's encoder: the transformers library's numbers, masks, names, blocks one by one."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.nets.names import adopted
from longtake.nets.umt5 import StoredRows, UmT5, distance_buckets
from longtake.nets.umt5_keys import names, read, useless
from longtake.nets.umt5_needs import UmT5Config
from longtake.weights import reader
from tests.nets.flashvsr.goldens import difference
from tests.nets.formula import formula
from tests.nets.oracles import filled, handed, library, stored

SMALL = UmT5Config(vocabulary=97, dim=32, heads=4, head_dim=8, ffn_dim=48, layers=3)
ODD = UmT5Config(
    vocabulary=61, dim=24, heads=3, head_dim=16, ffn_dim=40, layers=2, buckets=8, reach=20
)
CPU = torch.device("cpu")


def tokens(config: UmT5Config, batch: int, length: int) -> torch.Tensor:
    return ((formula((batch, length), 3) + 1) / 2 * (config.vocabulary - 1)).long()


def oracle(config: UmT5Config, net: UmT5):
    transformers = library("transformers")
    other = transformers.UMT5EncoderModel(
        transformers.UMT5Config(
            vocab_size=config.vocabulary,
            d_model=config.dim,
            d_kv=config.head_dim,
            d_ff=config.ffn_dim,
            num_layers=config.layers,
            num_heads=config.heads,
            relative_attention_num_buckets=config.buckets,
            relative_attention_max_distance=config.reach,
            feed_forward_proj="gated-gelu",
        )
    )
    return handed(net, names(config, other.state_dict()), other)


def padding(batch: int, length: int, *, holes: bool) -> torch.Tensor:
    """Rows of growing length; with holes in them, where asked for. Each row sees a token."""
    mask = torch.zeros(batch, length, dtype=torch.long)
    for row in range(batch):
        mask[row, : max(1, length * (row + 1) // (batch + 1))] = 1
    if holes:
        mask *= (formula((batch, length), 9) > -0.3).long()
        mask[:, 0] = 1
    return mask


@pytest.mark.parametrize("config", [SMALL, ODD], ids=["small", "odd"])
def test_it_is_the_library_s(config) -> None:
    net = filled(UmT5(config))
    other = oracle(config, net)
    for batch, length in ((1, 1), (2, 7), (1, 23), (2, 150), (1, 512)):
        ids = tokens(config, batch, length)
        for mask in (None, padding(batch, length, holes=False), padding(batch, length, holes=True)):
            wanted = other(input_ids=ids, attention_mask=mask).last_hidden_state
            assert difference(net(ids, mask), wanted) <= 1e-5, (batch, length)
    assert difference(net(ids), net(tokens(config, 1, 512).flip(1))) > 0.1


def test_it_is_what_the_library_said() -> None:
    tensors, _ = stored("umt5")
    net = filled(UmT5(SMALL))
    made = net(tensors["ids"], tensors["mask"])
    assert difference(made, tensors["made"]) <= 1e-5
    assert difference(net(tensors["ids"]), tensors["made"]) > 1e-3  # the mask counts


def test_bfloat16_is_the_library_s() -> None:
    net = filled(UmT5(SMALL))
    other = oracle(SMALL, net).to(torch.bfloat16)
    ids, mask = tokens(SMALL, 2, 40), padding(2, 40, holes=False)
    exact = net(ids, mask)
    made = net.to(torch.bfloat16)(ids, mask)
    wanted = other(input_ids=ids, attention_mask=mask).last_hidden_state
    assert made.dtype == torch.bfloat16
    assert difference(made, exact) <= 1.5 * difference(wanted, exact)


@settings(max_examples=15, deadline=None)
@given(length=st.integers(1, 40), more=st.integers(0, 30))
def test_padding_changes_nothing(length, more) -> None:
    net = filled(UmT5(SMALL))
    with torch.inference_mode():
        ids = tokens(SMALL, 1, length + more)
        mask = (torch.arange(length + more) < length).long()[None]
        assert difference(net(ids, mask)[:, :length], net(ids[:, :length])) <= 1e-5


def test_blocks_can_be_run_one_by_one() -> None:
    net = filled(UmT5(SMALL))
    ids, mask = tokens(SMALL, 2, 9), padding(2, 9, holes=True)
    x = net.embed(ids)
    sight = net.sight(9, mask, CPU)
    for block in net.blocks:
        x = block(x, sight)
    assert torch.equal(net.finish(x), net(ids, mask))


def test_rows_of_a_table_that_lies_elsewhere() -> None:
    """The same numbers, only the rows that are asked for, and nothing that moves with the net."""
    net, other = filled(UmT5(SMALL)), filled(UmT5(SMALL))
    table, asked = net.token_embedding.weight.detach(), []

    def rows(ids: torch.Tensor) -> torch.Tensor:
        asked.append(ids)
        return table[ids]

    other.token_embedding = StoredRows(rows)
    ids = tokens(SMALL, 2, 9)
    assert torch.equal(other(ids), net(ids))
    assert [x.tolist() for x in asked] == [ids.flatten().tolist()]
    assert net.state_dict().keys() - other.state_dict().keys() == {"token_embedding.weight"}


def test_float16_stays_finite() -> None:
    net = filled(UmT5(SMALL))
    for block in net.blocks:
        block.ffn.fc2.weight.data *= 2e5
    net.half()
    assert net(tokens(SMALL, 1, 9)).isfinite().all()


def test_buckets_are_those_of_exact_arithmetic() -> None:
    """Of the official sizes: 8 + floor(2 log2(distance / 8)), by squares of integers."""
    table = distance_buckets(512, 32, 128)
    for ahead in range(-511, 512):
        distance = abs(ahead)
        far = 8 + sum(distance**2 >= 64 << k for k in range(1, 8))
        wanted = (distance if distance < 8 else far) + 16 * (ahead > 0)
        assert table[max(0, -ahead), max(0, ahead)] == wanted, ahead
    assert table.max() == 31
    assert math.prod(distance_buckets(1, 32, 128).shape) == 1


def test_official_names_and_sizes() -> None:
    with torch.device("meta"):
        whole = UmT5(UmT5Config())
    sizes = {key: tuple(value.shape) for key, value in whole.state_dict().items()}
    assert len(sizes) == 242
    assert sum(p.numel() for p in whole.parameters()) == 5_680_910_336
    assert sizes["token_embedding.weight"] == (256_384, 4096)
    assert sizes["blocks.23.ffn.gate.0.weight"] == (10_240, 4096)
    assert sizes["blocks.0.pos_embedding.embedding.weight"] == (32, 64)
    assert {"norm.weight", "blocks.7.attn.o.weight", "blocks.7.norm2.weight"} <= sizes.keys()
    made = whole(torch.empty(1, 512, dtype=torch.long, device="meta"))
    assert made.shape == (1, 512, 4096)


def test_both_layouts_of_files(tmp_path) -> None:
    net = filled(UmT5(SMALL))
    ids = tokens(SMALL, 1, 11)
    official = tmp_path / "models_t5_umt5-xxl-enc-bf16.pth"
    torch.save(net.state_dict(), official)
    assert torch.equal(reader.load(lambda: UmT5(SMALL), official)(ids), net(ids))
    theirs = oracle(SMALL, net).state_dict()
    assert set(theirs) >= {"shared.weight", "encoder.final_layer_norm.weight"}
    for left_out in ("nothing", "shared.weight", "encoder.embed_tokens.weight"):
        kept = {key: value for key, value in theirs.items() if key != left_out}
        with torch.device("meta"):
            empty = UmT5(SMALL)
        state = adopted(empty, names(SMALL, kept), kept, useless)
        empty.load_state_dict(state, assign=True)
        assert torch.equal(empty(ids), net(ids))


@pytest.mark.parametrize("config", [SMALL, ODD], ids=["small", "odd"])
def test_sizes_and_names_are_read_from_shapes(config) -> None:
    net = UmT5(config)
    official = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    found = read(official)
    assert (found.config.reach, found.names) == (128, {key: (key,) for key in official})
    assert replace(found.config, reach=config.reach) == config
    table = names(config, ["shared.weight"])
    theirs = {table[key][0]: shape for key, shape in official.items()} | {"spiece_model": (99,)}
    assert read(theirs).config == found.config
    assert read(theirs).names == table
    for shapes in (official, theirs):
        for key in shapes.keys() - {"spiece_model"}:
            with pytest.raises(ValueError, match=r"is missing|no umT5") as refused:
                read({k: v for k, v in shapes.items() if k != key})
            assert key in str(refused.value)
    with pytest.raises(ValueError, match="stranger is unknown"):
        read(official | {"stranger": (2,)})
    with pytest.raises(ValueError, match=r"blocks\.1\.norm1\.weight is \[3\] instead of"):
        read(official | {"blocks.1.norm1.weight": (3,)})


def test_a_file_that_does_not_fit_is_refused() -> None:
    net = filled(UmT5(SMALL))
    table = names(SMALL, ["shared.weight"])
    theirs = {parts[0]: net.state_dict()[ours] for ours, parts in table.items()}
    gone = "encoder.block.1.layer.0.SelfAttention.o.weight"
    wrong = {k: v for k, v in theirs.items() if k != gone} | {"decoder.block.0.x": torch.ones(1)}
    with pytest.raises(ValueError, match=r"SelfAttention\.o\.weight is missing; decoder\.block\.0"):
        adopted(net, table, wrong, useless)
    short = theirs | {gone: torch.ones(3, 4)}
    with pytest.raises(ValueError, match=r"SelfAttention\.o\.weight is \[3, 4\] for \[32, 32\]"):
        adopted(net, table, short, useless)


def test_sizes_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="30 and 128"):
        UmT5Config(buckets=30)
