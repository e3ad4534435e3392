"""Nets from files: both layouts, shards, dtypes, what is refused; and parts that take turns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from longtake.core.errors import BadInput
from longtake.engines._parts import Parts
from longtake.generators._wan_load import Dtypes, load
from longtake.nets.umt5_keys import TABLE
from longtake.nets.wan.dit import DiT
from longtake.nets.wan.sizes import DiTConfig, exact, once
from longtake.offload import resident, swap
from tests.generators.wan_models import (
    EXACT,
    I2V,
    T2V,
    Nets,
    nets,
    official,
    shards,
    theirs,
    written,
)

MIXED = Dtypes()


def tensors(parts: Parts) -> dict[str, Tensor]:
    return parts.state_dict()


def wanted(made: Nets) -> dict[str, Tensor]:
    """What the parts should hold."""
    state = made.dit.state_dict()
    first = DiT(replace(made.dit.config, layers=0)).state_dict()
    table = {f"conditioner.{key}": state[key] for key in first}
    table |= {f"transformer.{key}": value for key, value in state.items() if not once(key)}
    others = {"text": made.text, "image": made.image, "vae": made.vae, "taehv": made.taehv}
    for name, net in others.items():
        table |= {f"{name}.{key}": value for key, value in net.state_dict().items()}
    del table[f"text.{TABLE}"]  # stays where it is stored
    return table


@pytest.mark.parametrize("config", [T2V, I2V], ids=["t2v", "i2v"])
def test_official_files(tmp_path: Path, config: DiTConfig) -> None:
    made = nets(config)
    parts = load(official(tmp_path, made), EXACT, "cpu")
    found, expected = tensors(parts), wanted(made)
    if config is T2V:  # nobody looks at an image, nobody encodes
        assert "image" not in parts
        lacking = {key for key in expected if key.startswith(("image.", "vae.enc", "vae.conv1."))}
        expected = {key: value for key, value in expected.items() if key not in lacking}
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in found)
    assert not any(net.training for net in parts.values())
    ids = torch.tensor([[3, 399, 0, 3]])
    assert torch.equal(parts["text"].embed(ids), made.text.embed(ids))


@pytest.mark.parametrize("config", [T2V, I2V], ids=["t2v", "i2v"])
def test_the_library_s_files_in_shards(tmp_path: Path, config: DiTConfig) -> None:
    made = nets(config)
    one = official(tmp_path / "official", made)
    other = shards(tmp_path / "theirs", theirs(made)) | {"taehv": one["taehv"]}
    found, expected = (tensors(load(files, EXACT, "cpu")) for files in (other, one))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in found)


def test_large_files_are_read_in_portions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = nets(I2V)
    files = official(tmp_path, made)
    expected = tensors(load(files, EXACT, "cpu"))
    monkeypatch.setattr("longtake.generators._wan_load._PORTION", 3000)
    found = tensors(load(files, EXACT, "cpu"))
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_dtypes_but_for_what_must_be_exact(tmp_path: Path) -> None:
    parts = load(official(tmp_path, nets(I2V)), MIXED, "cpu")
    for name in ("conditioner", "transformer"):
        kinds = {key: value.dtype for key, value in parts[name].state_dict().items()}
        assert kinds == {k: torch.float32 if exact(k) else torch.bfloat16 for k in kinds}
        assert set(kinds.values()) == {torch.float32, torch.bfloat16}
    for name, kind in (("text", MIXED.text), ("image", MIXED.image), ("vae", MIXED.vae)):
        assert {value.dtype for value in parts[name].parameters()} == {kind}


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["transformer", "text", "image", "vae", "taehv"])
@pytest.mark.parametrize("how", ["lacking", "unknown", "shape", "8-bit"])
def test_files_that_do_not_fit_are_refused(tmp_path: Path, role: str, how: str) -> None:
    files = official(tmp_path, nets(I2V))
    (path,) = files[role]
    safe = path.suffix == ".safetensors"
    state = load_file(path) if safe else torch.load(path, weights_only=True)
    ends = {
        "transformer": "blocks.1.self_attn.k.weight", "text": "blocks.1.ffn.fc1.weight",
        "image": "visual.transformer.1.attn.proj.weight",
        "vae": "decoder.middle.0.residual.2.weight", "taehv": "decoder.3.conv.0.weight",
    }  # fmt: skip
    key = ends[role]
    words = key.replace(".", r"\.")
    if how == "lacking":
        del state[key]
        words += " is missing"
    elif how == "unknown":
        state["decoder.stranger" if role == "taehv" else "stranger"] = torch.ones(2)
        words = "stranger is unknown"
    elif how == "shape":
        state[key] = state[key][1:].clone()
    else:
        state[key] = state[key].to(torch.float8_e4m3fn)
        words = "float8"
    written(path, state)
    with pytest.raises(BadInput, match=words) as refused:
        load(files, EXACT, "cpu")
    assert path.name in str(refused.value)


def test_files_of_another_thing_are_refused(tmp_path: Path) -> None:
    files = official(tmp_path, nets(I2V))
    for role in ("transformer", "text", "image", "vae", "taehv"):
        other = "text" if role != "text" else "vae"
        with pytest.raises(BadInput):
            load(files | {role: files[other]}, EXACT, "cpu")


def test_an_image_model_needs_its_files(tmp_path: Path) -> None:
    files = official(tmp_path, nets(I2V))
    for role in ("image", "vae"):
        some = {name: paths for name, paths in files.items() if name != role}
        with pytest.raises(BadInput, match=f"needs files for: {role}"):
            load(some, EXACT, "cpu")
    with pytest.raises(BadInput, match='neither a "vae" nor a "taehv"'):
        load({"transformer": files["transformer"]}, EXACT, "cpu")


def test_a_shard_given_twice_is_refused(tmp_path: Path) -> None:
    files = official(tmp_path, nets(T2V))
    with pytest.raises(BadInput, match="once more"):
        load(files | {"transformer": files["transformer"] * 2}, EXACT, "cpu")


# --- turns ---------------------------------------------------------------------------------------


def test_strategies_work_on_the_parts_as_they_are(tmp_path: Path) -> None:
    files = official(tmp_path, nets(I2V))
    expected = tensors(load(files, MIXED, "cpu"))
    parts = load(files, MIXED, swap.plugin.home("cpu"))
    brought: list[str] = []
    with swap.plugin.attach(parts, "cpu"):
        before = parts.bring
        parts.bring = lambda name: (brought.append(name), before(name))[0]
        for name in parts:
            net: nn.Module = parts.turn(name)
            assert all(
                torch.equal(value, expected[f"{name}.{key}"])
                for key, value in net.state_dict().items()
            )
    assert brought == ["text", "image", "conditioner", "transformer", "vae", "taehv"]
    with resident.plugin.attach(load(files, MIXED, resident.plugin.home("cpu")), "cpu") as there:
        found = there.state_dict()
        assert all(torch.equal(found[key], expected[key]) for key in expected)
