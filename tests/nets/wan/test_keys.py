"""Files of both layouts are known by their names, load whole, and wrong ones are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from longtake.nets.names import adopted
from longtake.nets.wan import keys, sizes
from longtake.nets.wan.dit import DiT
from longtake.nets.wan.keys_diffusers import DIFFUSERS
from longtake.nets.wan.keys_official import OFFICIAL
from longtake.nets.wan.sizes import DiTConfig, Table
from longtake.weights import tables
from tests.nets.flashvsr.goldens import difference
from tests.nets.wan.dits import I2V, T2V, Asked, by_published, net_of, predicted, published

LAYOUTS = (OFFICIAL, DIFFUSERS)
PUBLISHED = {"t2v-1.3b": sizes.T2V_1_3B, "t2v-14b": sizes.T2V_14B, "i2v-14b": sizes.I2V_14B}

each_config = pytest.mark.parametrize("config", [T2V, I2V], ids=["t2v", "i2v"])
each_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)


def shapes_of(path: Path) -> Table:
    with safe_open(path, "pt") as file:
        return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118


def loaded(path: Path, heads: int) -> DiT:
    """As a loader does: what the file is for, a net on meta, the file's tensors assigned."""
    found = keys.read(shapes_of(path), LAYOUTS, heads)
    with torch.device("meta"):
        net = DiT(found.config)
    with safe_open(path, "pt") as file:
        given = {name: file.get_tensor(name) for (name,) in found.names.values()}
    net.load_state_dict(adopted(net, found.names, given), assign=True)
    return net.eval()


def written(path: Path, config: DiTConfig, layout: keys.Layout, prefix: str = "") -> DiT:
    """A file of random weights in that layout, and the net that they are of."""
    net = net_of(config, seed=3)
    names = keys.named(config, layout)
    save_file({prefix + names[key][0]: value for key, value in net.state_dict().items()}, path)
    return net


# --- files ---------------------------------------------------------------------------------------


@each_config
@each_layout
def test_a_file_loads_whole(tmp_path: Path, config: DiTConfig, layout: keys.Layout):
    path = tmp_path / "model.safetensors"
    wanted = written(path, config, layout).state_dict()
    assert keys.read(shapes_of(path), LAYOUTS, config.heads).layout == layout.name
    made = loaded(path, config.heads).state_dict()
    assert made.keys() == wanted.keys()
    assert all(torch.equal(made[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize("prefix", OFFICIAL.prefixes)
def test_a_prefix_of_all_keys_is_taken_off(tmp_path: Path, prefix: str):
    path = tmp_path / "model.safetensors"
    wanted = written(path, T2V, OFFICIAL, prefix).state_dict()
    made = loaded(path, T2V.heads).state_dict()
    assert all(torch.equal(made[key], wanted[key]) for key in wanted)


@each_config
def test_a_file_of_the_library_predicts_what_the_library_does(tmp_path: Path, config: DiTConfig):
    torch.manual_seed(4)
    theirs: Any = published(config)
    with torch.inference_mode():
        theirs.save_pretrained(tmp_path)
        net = loaded(tmp_path / "diffusion_pytorch_model.safetensors", config.heads)
        asked = [Asked.by_formula(config, (2, 6, 10), 400.0)]
        wanted = by_published(theirs, asked, net.config.text_length)[0]
        assert difference(predicted(net, asked)[0], wanted) <= 1e-5


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [*PUBLISHED.values(), T2V, I2V], ids=[*PUBLISHED, "t2v", "i2v"])
def test_the_table_is_the_net(config: DiTConfig):
    with torch.device("meta"):
        state = DiT(config).state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == sizes.tensors(config)


def test_the_table_is_the_one_of_the_catalog():
    assert sizes.tensors(sizes.T2V_1_3B) == tables.wan_transformer()


@pytest.mark.parametrize("config", PUBLISHED.values(), ids=PUBLISHED)
@each_layout
def test_published_sizes_are_told_from_shapes(config: DiTConfig, layout: keys.Layout):
    table = sizes.tensors(config)
    names = keys.named(config, layout)
    found = keys.read({names[key][0]: shape for key, shape in table.items()}, LAYOUTS)
    assert found.config == config
    assert found.names == names


@each_config
def test_names_of_the_library_go_both_ways(config: DiTConfig):
    theirs = set(published(config).state_dict())
    names = keys.named(config, DIFFUSERS)
    assert {name for (name,) in names.values()} == theirs
    assert {DIFFUSERS.ours(name) for name in theirs} == names.keys()
    assert all(DIFFUSERS.ours(name) == key for key, (name,) in names.items())
    with pytest.raises(KeyError):
        DIFFUSERS.theirs("img_emb.emb_pos")


def table_in(layout: keys.Layout, config: DiTConfig = I2V) -> Table:
    names = keys.named(config, layout)
    return {names[key][0]: shape for key, shape in sizes.tensors(config).items()}


def test_what_nobody_needs_is_left_out():
    table = table_in(DIFFUSERS) | {"blocks.0.attn2.norm_added_q.weight": (72,)}
    found = keys.read(table, LAYOUTS, I2V.heads)
    assert ("blocks.0.attn2.norm_added_q.weight",) not in found.names.values()


@each_layout
def test_wrong_files_are_refused_by_the_files_own_names(layout: keys.Layout):
    lost, bent = (
        layout.theirs(f"blocks.1.cross_attn.{part}") for part in ("k_img.bias", "norm_k.weight")
    )
    table = table_in(layout)
    del table[lost]
    table[bent] = (5,)
    table["blocks.0.more.weight"] = (1,)
    with pytest.raises(ValueError) as refused:
        keys.read(table, LAYOUTS, I2V.heads)
    message = str(refused.value)
    assert f"{lost} is missing" in message
    assert f"{bent} is [5] instead of [72]" in message
    assert "blocks.0.more.weight is unknown" in message


def test_a_file_of_something_else_is_refused():
    with pytest.raises(ValueError, match="no transformer of Wan"):
        keys.read({"conv1.weight": (1,)}, LAYOUTS)
    table = table_in(OFFICIAL)
    del table["blocks.0.ffn.0.weight"]
    with pytest.raises(ValueError, match=r"blocks\.0\.ffn\.0\.weight missing"):
        keys.read(table, LAYOUTS, I2V.heads)
    with pytest.raises(ValueError, match="multiple of 128"):
        keys.read(table_in(OFFICIAL), LAYOUTS)


def test_missing_parts_of_a_strict_load_are_named(tmp_path: Path):
    """A net takes no tensor that is not its own, whoever loads it."""
    net = net_of(T2V)
    state: dict[str, Tensor] = dict(net.state_dict())
    del state["head.head.bias"]
    with pytest.raises(ValueError, match=r"head\.head\.bias is missing"):
        adopted(net, keys.named(T2V, OFFICIAL), state)
