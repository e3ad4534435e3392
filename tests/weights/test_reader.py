"""Official files as they are: tensors only, one at a time; convert and check see the same."""

from __future__ import annotations

import os
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from longtake.core.errors import BadInput, Usage
from longtake.weights import _regions, manifest
from longtake.weights.check import check
from longtake.weights.convert import convert
from longtake.weights.pull import Source, pull
from longtake.weights.reader import load, open_weights

from . import toy


class Payload:
    """What a hostile pickle does when it is opened."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> object:
        return os.mkdir, (self.mark,)


def test_a_pickle_with_code_is_refused(tmp_path) -> None:
    mark, path = tmp_path / "ran", tmp_path / "net.pth"
    hostile = {"a": torch.zeros(2), "b": Payload(str(mark))}
    torch.save(hostile, path)
    for body in (path.read_bytes(), pickle.dumps(hostile)):
        path.write_bytes(body)
        with (
            pytest.raises(BadInput, match=r"net\.pth holds more than plain tensors"),
            open_weights(path),
        ):
            pass
    assert not mark.exists()


@pytest.mark.parametrize(
    ("stored", "keys", "strange"),
    [
        (torch.ones(2, 3), ["prompt"], ()),
        ({"a": torch.ones(2), "step": 3}, ["a"], ("step",)),
        ({"model_state": {"a": torch.ones(2)}, "epoch": 1}, ["a"], ("epoch",)),
        ({"state_dict": {"b": torch.ones(2), "n": "x"}}, ["b"], ("n",)),
    ],
)
def test_bare_tensors_and_wrappers(tmp_path, stored, keys, strange) -> None:
    for zipped in (True, False):
        torch.save(stored, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
        with open_weights(tmp_path / "x.pth") as weights:
            assert list(weights.shapes()) == keys
            assert weights.strange == strange
            assert weights.dtypes()[keys[0]] == "float32"
            assert bool((weights.tensor(keys[0]) == 1).all())


@pytest.mark.parametrize("stored", [[torch.ones(2)], {"a": 1}, {}])
def test_what_holds_no_tensors_by_name(tmp_path, stored) -> None:
    torch.save(stored, tmp_path / "x.pth")
    with pytest.raises(BadInput, match=r"x\.pth holds"), open_weights(tmp_path / "x.pth"):
        pass


def test_a_torn_file(tmp_path) -> None:
    torch.save({"a": torch.ones(2000)}, tmp_path / "x.pth")
    save_file({"a": torch.ones(2000)}, tmp_path / "x.safetensors")
    for name in ("x.pth", "x.safetensors"):
        whole = (tmp_path / name).read_bytes()
        for body in (whole[:3000], b""):
            (tmp_path / name).write_bytes(body)
            with pytest.raises(BadInput, match=name), open_weights(tmp_path / name):
                pass


@pytest.mark.parametrize("name", ["net.safetensors", "net.pth"])
def test_load_casts_and_is_strict(tmp_path, name) -> None:
    path = tmp_path / name
    wanted = nn.Linear(5, 3).state_dict()
    (save_file if name.endswith("safetensors") else torch.save)(wanted, path)
    net = load(lambda: nn.Linear(5, 3), path)
    assert torch.equal(net.weight, wanted["weight"])
    half = load(lambda: nn.Linear(5, 3), path, dtype=torch.bfloat16)
    assert torch.equal(half.bias, wanted["bias"].bfloat16())
    with pytest.raises(BadInput, match=r"bias is \[3\] instead of \[4\]|weight is \[3, 5\]"):
        load(lambda: nn.Linear(5, 4), path)
    with pytest.raises(BadInput, match="bias is unknown"):
        load(lambda: nn.Linear(5, 3, bias=False), path)
    spare = load(lambda: nn.Linear(5, 3, bias=False), path, unused=lambda key: key == "bias")
    assert list(spare.state_dict()) == ["weight"]


# --- convert and check ---------------------------------------------------------------------------


def found(folder, model) -> dict[str, tuple[str, str]]:
    return {c.role: (c.state, c.says) for c in check(folder, model)}


@pytest.mark.parametrize("dtype", ["keep", "bfloat16"])
def test_converted_files_hold_the_same_values(toys, tmp_path, dtype) -> None:
    official = toy.write(tmp_path / "toy-v1.1", "v1.1")
    made = {c.path.name: c for c in convert(official, tmp_path / "out", toys[1], dtype)}
    assert sorted(made) == ["Decoder.safetensors", "net.safetensors", "prompt.safetensors"]
    assert "1 more that are not used (encoder.0.weight)" in made["Decoder.safetensors"].says
    assert "no tensors: epoch; step" in made["Decoder.safetensors"].says
    for name, source in zip(made, ("net.safetensors", "Decoder.ckpt", "prompt.pth"), strict=True):
        values = load_file(tmp_path / "out" / name)
        with open_weights(official / source) as weights:
            assert "encoder.0.weight" not in values
            for key, value in values.items():
                before = weights.tensor(key)
                assert value.dtype == (before.dtype if dtype == "keep" else torch.bfloat16)
                assert torch.equal(value, before.to(value.dtype))
    assert {s for s, _ in found(tmp_path / "out", toys[1]).values()} == {"good"}
    entry = manifest.read(tmp_path / "out")["Decoder.safetensors"]
    assert (entry.model, entry.trusted) == ("toy-v1.1", "published")


def test_convert_refuses_another_version(toys, tmp_path) -> None:
    official = toy.write(tmp_path / "files", "v1.0")
    with pytest.raises(BadInput, match="instead of"):
        list(convert(official, tmp_path / "out", toys[1]))
    with pytest.raises(Usage, match="holds the official files"):
        list(convert(official, official, toys[0]))
    with pytest.raises(Usage, match=r"no file of toy-v1\.0"):
        list(convert(tmp_path, tmp_path / "out", toys[0]))


def test_check_names_what_is_wrong(toys, official, tmp_path) -> None:
    folder = toy.write(tmp_path / "files", "v1.0")
    states = found(folder, toys[0])
    assert {s for s, _ in states.values()} == {"note"}
    assert "1 tensors, bfloat16; its sha256 is not known" in states["prompt"][1]
    (folder / "net.safetensors").write_bytes(official["v1.1"]["net.safetensors"])
    (folder / "Decoder.ckpt").unlink()
    torch.save(torch.ones(1, 4, 17), folder / "prompt.pth")
    states = found(folder, toys[0])
    assert states["decoder"] == ("bad", "missing: longtake weights pull toy-v1.0 --only decoder")
    assert "prompt is [1, 4, 17] instead of [1, 4, 16]" in states["prompt"][1]
    assert states["prompt"][0] == "bad"


def test_check_sees_mixed_versions(toys, official, tmp_path) -> None:
    """A file of v1.1 among those of v1.0: the same names and shapes, another hash."""
    list(pull(toys[0], tmp_path / "a", Source.of(str(toy.write(tmp_path / "files", "v1.0")))))
    (tmp_path / "a/net.safetensors").write_bytes(official["v1.1"]["net.safetensors"])
    state, says = found(tmp_path / "a", toys[0])["net"]
    assert (state, says) == ("bad", "this is the file of toy-v1.1: the versions must not be mixed")


def test_a_file_larger_than_memory_is_mapped_and_read(tmp_path) -> None:
    """An official transformer in one file is 57 GB; a tensor of it is all that is touched."""
    fields = _regions.packed([("large", "bfloat16", (1 << 20, 1 << 18)), ("odd", "uint8", (3,))])
    head = _regions.header(fields, {})
    path = tmp_path / "large.safetensors"
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + sum(field.bytes for field in fields))
        file.seek(len(head) + 4096)
        file.write(torch.full((4,), 2.0).bfloat16().view(torch.uint8).numpy().tobytes())
    try:
        with open_weights(path) as weights:
            assert weights.shapes() == {"large": (1 << 20, 1 << 18), "odd": (3,)}
            found = weights.tensor("large")
            assert found[0, 2048:2053].tolist() == [2, 2, 2, 2, 0]
            found[0, 0] = 5  # here alone
            assert weights.tensor("odd").tolist() == [0, 0, 0]
        with open_weights(path) as weights:
            assert weights.tensor("large")[0, 0] == 0
    finally:
        path.unlink()


def test_tensors_outlive_the_file_s_being_open(tmp_path) -> None:
    """In every dtype that there is, at whatever place they lie."""
    kinds = [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int8, torch.int64,
             torch.uint8, torch.bool, torch.float8_e4m3fn, torch.float8_e5m2]  # fmt: skip
    state = {str(k): torch.arange(5).to(k) for k in kinds} | {"empty": torch.empty(0, 3)}
    state["scalar"] = torch.tensor(7.5)
    save_file(state, tmp_path / "x.safetensors")
    with open_weights(tmp_path / "x.safetensors") as weights:
        found = {key: weights.tensor(key) for key in weights.shapes()}
        kept = weights.dtypes()
    assert found.keys() == state.keys()
    for key, value in state.items():
        assert f"torch.{kept[key]}" == str(value.dtype)
        assert found[key].shape == value.shape
        assert torch.equal(found[key].float(), value.float())
