"""The file that an engine asks for: found, missing with the command to run, or refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from longtake.core.errors import BadInput, Usage, WeightsMissing
from longtake.weights.catalog import MODELS, model
from longtake.weights.convert import convert
from longtake.weights.home import find, home, told
from longtake.weights.pull import Source, pull

from . import toy


def test_missing_ends_with_the_command_to_run(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("LONGTAKE_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsMissing) as missing:
        find("flashvsr-v1.1", "decoder")
    assert str(missing.value).endswith("Run: longtake weights pull flashvsr-v1.1")
    assert "TCDecoder.ckpt" in str(missing.value)
    assert missing.value.exit_code == 2
    with pytest.raises(Usage, match=re.escape("there are flashvsr-v1.1")):
        model("flashvsr-v1.2")


def test_home() -> None:
    assert home({"LONGTAKE_WEIGHTS": "/w"}) == Path("/w")
    assert home({"XDG_DATA_HOME": "/d"}) == Path("/d/longtake/weights")


def test_found_in_the_home_official_or_converted(toys, official, tmp_path) -> None:
    there = toy.write(tmp_path / "files", "v1.1")
    list(pull(toys[1], tmp_path / "home/toy-v1.1", Source.of(str(there))))
    assert find("toy-v1.1", "decoder") == tmp_path / "home/toy-v1.1/Decoder.ckpt"
    list(convert(there, tmp_path / "home/toy-v1.0", toys[0], "bfloat16"))
    assert find("toy-v1.0", "decoder").name == "Decoder.safetensors"
    with pytest.raises(KeyError):
        find("toy-v1.1", "vae")


def test_a_folder_of_the_users(toys, tmp_path) -> None:
    """Its manifest and its name may not say another version than the user does."""
    mine = toy.write(tmp_path / "mine", "v1.0")
    assert find("toy-v1.0", "net", mine) == mine / "net.safetensors"
    named = toy.write(tmp_path / "Toy-v1.1", "v1.1")
    with pytest.raises(BadInput, match=r"named v1\.1, but toy-v1\.0"):
        find("toy-v1.0", "net", named)
    list(pull(toys[1], tmp_path / "kept", Source.of(str(named))))
    with pytest.raises(BadInput, match=r"belongs to toy-v1\.1, not to toy-v1\.0"):
        find("toy-v1.0", "net", tmp_path / "kept")
    with (named / "net.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BadInput, match="damaged"):
        find("toy-v1.1", "net", named)


def test_the_version_of_a_folder_is_never_guessed(toys, tmp_path) -> None:
    for name, says in (("toy-v1.0", "toy-v1.0"), ("TOY_1.1", "toy-v1.1")):
        (tmp_path / name).mkdir()
        assert told(tmp_path / name, None, MODELS).name == says
    with pytest.raises(Usage, match="Nothing says which model"):
        told(tmp_path, None, MODELS)
    assert told(tmp_path, "toy-v1.0", MODELS) is toys[0]
