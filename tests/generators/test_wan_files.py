"""What files hold, whatever they are called: sizes from headers, 8 bits with scales, and what is
refused by the name of the tensor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from longtake.core.errors import BadInput, WeightsMissing
from longtake.core.knobs import settle
from longtake.core.media import Knobs
from longtake.generators import _wan_files
from longtake.generators._wan_load import load
from longtake.generators.wan import WanKnobs
from longtake.nets import taehv_needs, umt5_keys, umt5_needs
from longtake.nets.linear import QuantLinear
from longtake.nets.wan import sizes
from longtake.weights.quantize import dequantize, quantize
from tests.generators.wan_models import CLIP, EXACT, I2V, T2V, TEXT, VAE, in_fp8, nets, written

Tables = dict[str, dict[str, Tensor]]
FP8 = torch.float8_e4m3fn


def tables(config: sizes.DiTConfig = I2V) -> Tables:
    """Tensors by role, under their official names."""
    made = nets(config)
    whole = {"transformer": made.dit, "text": made.text, "vae": made.vae, "image": made.image}
    found = {role: dict(net.state_dict()) for role, net in whole.items()}
    more = {"visual.transformer.2.mlp.0.weight": torch.ones(2, 2)}  # a block that is not run
    more["visual.post_norm.weight"] = torch.ones(CLIP.dim)
    found["image"] |= more
    return found if config is I2V else {k: v for k, v in found.items() if k != "image"}


def stray(folder: Path, given: Tables) -> Path:
    """Files under names that nobody knows."""
    folder.mkdir(parents=True, exist_ok=True)
    for role, state in given.items():
        written(folder / f"my_{role}.safetensors", state)
    return folder


def knobs(folder: Path, **more: Any) -> Knobs:
    return settle(WanKnobs, {"folder": str(folder), **more})


# --- sizes ---------------------------------------------------------------------------------------


def test_files_of_any_name_are_known_by_their_tensors(tmp_path: Path) -> None:
    given = knobs(stray(tmp_path, tables()), model="i2v-14b-480p")
    found = _wan_files.there(given)
    assert {role: [p.name for p in paths] for role, paths in found.items()} == {
        role: [f"my_{role}.safetensors"] for role in ("transformer", "text", "image", "vae")
    }
    read = _wan_files.sizes(given)
    assert (read.transformer, read.text) == (replace(I2V, text_length=512), TEXT)
    assert (read.image, read.vae.base) == (CLIP, VAE.base)
    assert (read.matrices, read.text_matrices, read.stored) == (None, None, frozenset())
    assert read.tokenizer > 1 << 20  # of the published one: there is none here
    with pytest.raises(WeightsMissing, match=r"tokenizer .*longtake weights pull wan-i2v"):
        _wan_files.find(given)


def test_two_files_for_one_net_are_not_guessed_between(tmp_path: Path) -> None:
    folder = stray(tmp_path, tables(T2V))
    written(folder / "a_text.safetensors", load_file(folder / "my_text.safetensors"))
    with pytest.raises(BadInput, match=r"2 files that may be the text: a_text\.safetensors, my_"):
        _wan_files.sizes(knobs(folder))


@pytest.mark.parametrize(
    ("role", "key"),
    [
        ("text", "blocks.0.pos_embedding.embedding.weight"),
        ("text", "blocks.0.attn.q.weight"),
        ("text", "blocks.0.ffn.fc1.weight"),
        ("text", "norm.weight"),
        ("image", "visual.patch_embedding.weight"),
        ("image", "visual.pos_embedding"),
        ("image", "visual.transformer.0.mlp.0.weight"),
        ("transformer", "blocks.1.ffn.2.bias"),
    ],
)
def test_a_file_without_a_tensor_is_refused_by_its_name(
    tmp_path: Path, role: str, key: str
) -> None:
    """By the plan, and by whoever loads it."""
    given = tables()
    del given[role][key]
    folder = stray(tmp_path, given)
    asked = knobs(folder, model="i2v-14b-480p")
    found = _wan_files.there(asked)
    for look in (lambda: _wan_files.sizes(asked), lambda: load(found, EXACT, "cpu")):
        with pytest.raises(BadInput) as refused:
            look()
        assert key in str(refused.value)
        assert f"my_{role}.safetensors" in str(refused.value)


def test_taehv_is_found_beside_the_model_or_where_it_was_pulled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGTAKE_WEIGHTS", str(tmp_path / "home"))
    folder = stray(tmp_path / "wan", tables(T2V))
    (folder / "my_vae.safetensors").unlink()  # which is not needed then
    asked = knobs(folder, decoder="taehv")
    with pytest.raises(WeightsMissing, match=r"longtake weights pull taew-2\.1"):
        _wan_files._files(asked, "taehv")
    assert _wan_files.sizes(asked).taehv == taehv_needs.TAEW2_1
    pulled, beside = tmp_path / "home/taew-2.1/taew2_1.pth", folder / "taew2_1.safetensors"
    pulled.parent.mkdir(parents=True)
    small = dict(nets(T2V).taehv.state_dict())
    for path in (pulled, beside):
        written(path, small)
        assert _wan_files.there(asked)["taehv"] == (path,)
    assert _wan_files.sizes(asked).taehv.widths == (12, 10, 8, 6)
    assert set(load(_wan_files.there(asked), EXACT, "cpu")) >= {"text", "taehv"}


# --- 8 bits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["scale_weight", "weight_scale"])
def test_scaled_fp8_is_kept_as_it_is(tmp_path: Path, name: str) -> None:
    """By ComfyUI's names and by LightX2V's: the layer multiplies by number times scale."""
    plain, eight = tables(T2V), tables(T2V)
    mark = torch.zeros(2).to(FP8)
    dit = in_fp8(plain["transformer"], name, sizes.matrix, scaled_fp8=mark)
    eight["transformer"] = {f"model.diffusion_model.{k}": v for k, v in dit.items()}
    text = in_fp8(plain["text"], name, umt5_needs.matrix)
    table = umt5_keys.names(TEXT, ["shared.weight"])
    theirs = {
        key.removesuffix(".weight"): one.removesuffix(".weight") for key, (one,) in table.items()
    }
    eight["text"] = {
        f"{theirs[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": value
        for key, value in text.items()
    } | {"spiece_model": torch.zeros(5, dtype=torch.uint8), "scaled_fp8": mark}
    asked = knobs(stray(tmp_path, eight))
    read = _wan_files.sizes(asked)
    assert (read.matrices, read.text_matrices) == ("float8_e4m3fn", "float8_e4m3fn")
    assert (read.transformer, read.text) == (T2V, TEXT)
    parts = load(_wan_files.there(asked), EXACT, "cpu")
    for net, state, narrow in (
        ("transformer", plain["transformer"], dit),
        ("text", plain["text"], text),
    ):
        layers = {k: x for k, x in parts[net].named_modules() if isinstance(x, QuantLinear)}
        assert {f"{k}.weight" for k in layers} == {
            k for k, v in narrow.items() if v.dtype == FP8
        } - {"scaled_fp8"}
        for key, layer in layers.items():
            kept = narrow[f"{key}.weight"]
            assert torch.equal(layer.weight.view(torch.uint8), kept.view(torch.uint8))
            assert torch.equal(layer.matrix(), dequantize(kept, narrow[f"{key}.{name}"]))
        others = {
            k: v for k, v in parts[net].state_dict().items() if not k.startswith(tuple(layers))
        }
        assert all(torch.equal(value, state[key]) for key, value in others.items())


def test_int8_with_a_scale_for_each_row(tmp_path: Path) -> None:
    """As LightX2V stores it, [out, 1]."""
    given = tables(T2V)
    for key, value in list(given["transformer"].items()):
        if key.startswith("blocks.") and sizes.matrix(key, tuple(value.shape)):
            numbers, scale = quantize(value, "int8")
            given["transformer"] |= {key: numbers, f"{key}_scale": scale[:, None]}
    asked = knobs(stray(tmp_path, given))
    assert _wan_files.sizes(asked).matrices == "int8"
    net = load(_wan_files.there(asked), EXACT, "cpu")["transformer"]
    layer = net.get_submodule("blocks.1.ffn.0")
    assert torch.equal(
        layer.weight_scale, given["transformer"]["blocks.1.ffn.0.weight_scale"][:, 0]
    )


def test_what_is_only_partly_in_8_bits_is_made_wide(tmp_path: Path) -> None:
    """Blocks must be alike, and a plan must know what they are."""
    given = tables(T2V)
    odd = "blocks.1.ffn.0.weight"
    state = given["transformer"]
    scale = state[odd].abs().amax() / 448
    given["transformer"] = state | {
        odd: (state[odd] / scale).to(FP8), "blocks.1.ffn.0.scale_weight": scale,
    }  # fmt: skip
    asked = knobs(stray(tmp_path, given))
    assert _wan_files.sizes(asked).matrices is None
    net = load(_wan_files.there(asked), EXACT, "cpu")["transformer"]
    made = net.state_dict()
    assert torch.equal(made[odd], dequantize(given["transformer"][odd], scale))
    assert made.keys() <= state.keys()


def test_a_table_of_tokens_in_fp8(tmp_path: Path) -> None:
    given = tables(T2V)
    table = given["text"][umt5_keys.TABLE]
    scale = table.abs().amax() / 448
    given["text"] |= {
        umt5_keys.TABLE: (table / scale).to(FP8), "token_embedding.scale_weight": scale,
    }  # fmt: skip
    found = load(_wan_files.there(knobs(stray(tmp_path, given))), EXACT, "cpu")
    ids = torch.tensor([[5, 0, 5, 399]])
    wide = dequantize(given["text"][umt5_keys.TABLE], scale)
    assert torch.equal(found["text"].embed(ids), wide[ids])


@pytest.mark.parametrize("role", ["transformer", "text"])
def test_fp8_without_scales_is_refused_unless_asked_for(tmp_path: Path, role: str) -> None:
    given = tables(T2V)
    odd = "blocks.1.attn.q.weight" if role == "text" else "blocks.1.ffn.0.weight"
    given[role][odd] = given[role][odd].to(FP8)
    folder = stray(tmp_path, given)
    found = _wan_files.there(knobs(folder))
    for look in (lambda: _wan_files.sizes(knobs(folder)), lambda: load(found, EXACT, "cpu")):
        with pytest.raises(BadInput, match=r"1 tensors .* without scales.*raw_fp8=true"):
            look()
    assert _wan_files.sizes(knobs(folder, raw_fp8=True)).matrices is None
    made = load(found, EXACT, "cpu", raw=True)[role].state_dict()
    assert torch.equal(made[odd], given[role][odd].float())
    given[role][odd] = torch.ones_like(given[role][odd]).to(torch.int8)
    with pytest.raises(BadInput, match="is int8, and there are no scales"):
        load(_wan_files.there(knobs(stray(tmp_path / "2", given))), EXACT, "cpu", raw=True)
