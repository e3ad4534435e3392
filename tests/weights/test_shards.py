"""Models whose roles have several files, or files that hold no tensors: pulled, checked, listed;
and block files through the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from longtake.core.errors import BadInput, WeightsMissing
from longtake.runtime.transformers import RECOGNISE
from longtake.weights import catalog, home, listing, manifest
from longtake.weights.check import check
from longtake.weights.convert import convert
from longtake.weights.into_blocks import BlockOptions
from longtake.weights.pull import Hashing, Source, Stored, pull

from . import wan

ROOT = Path(__file__).resolve().parents[2]
SHARD = "diffusion_pytorch_model-{:05}-of-00003.safetensors"


@pytest.fixture
def model(monkeypatch, tmp_path):
    """A transformer in three shards and an index."""
    made = wan.model("toy", 3)
    monkeypatch.setitem(catalog.MODELS, made.name, made)
    monkeypatch.setenv("LONGTAKE_WEIGHTS", str(tmp_path / "home"))
    return made


def served(host, folder: Path) -> None:
    """The host knows files by the last part of their address."""
    host.files = {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def stored(events) -> dict[str, bool]:
    return {e.file: e.fetched for e in events if isinstance(e, Stored)}


def test_all_files_of_a_role_are_pulled_into_the_official_folders(host, model, tmp_path) -> None:
    there, here = wan.write(tmp_path / "there", model), tmp_path / "home/wan-toy"
    served(host, there)
    first = stored(pull(model, here, Source(text=host.url), ["transformer"]))
    assert list(first) == [f.name for f in model.of_role("transformer")]
    assert len(first) == 4
    assert listing.look(model, here).state == "partial"
    assert stored(pull(model, here, Source(text=host.url))) == {
        **dict.fromkeys(first, False), "models_t5.pth": True, "google/umt5-xxl/tokenizer.json": True
    }  # fmt: skip
    assert ("/google/umt5-xxl/tokenizer.json", "") in host.asked
    assert wan.hashes(here) == wan.hashes(there)
    assert listing.look(model, here).state == "whole"
    assert set(manifest.read(here)) == {f.name for f in model.files}
    assert {c.state for c in check(here, model)} == {"good"}
    assert home.find("wan-toy", "tokenizer") == here / "google/umt5-xxl/tokenizer.json"
    found = home.find_all("wan-toy", "transformer")
    assert [path.name for path in found] == [SHARD.format(i) for i in (1, 2, 3)]
    assert not list(here.rglob("*.partial*"))
    again = tmp_path / "again"
    assert all(stored(pull(model, again, Source.of(str(here)))).values())
    assert wan.hashes(again) == wan.hashes(there)


def test_each_file_is_held_to_its_part(host, model, tmp_path) -> None:
    """A shard may hold some of the tensors and no others; together they hold each once."""
    folder = wan.write(tmp_path / "wan-toy", model)
    assert {c.state for c in check(folder, model)} == {"note"}
    path = folder / SHARD.format(2)
    state = load_file(path)
    name, value = next((k, v) for k, v in state.items() if v.ndim == 2)
    for change, says in (
        ({**state, "blocks.7.modulation": value.clone()}, "blocks.7.modulation is unknown"),
        ({**state, name: value[:-1].contiguous()}, f"{name} is ["),
        ({k: v for k, v in state.items() if k != name}, f"{name} is missing"),
    ):
        save_file(change, path)
        bad = [c for c in check(folder, model) if c.state == "bad"]
        assert len(bad) == 1, says
        assert says in bad[0].says
    save_file(state, path)
    first = load_file(folder / SHARD.format(1))
    name, value = next(iter(first.items()))
    save_file({**state, name: value}, path)
    (bad,) = (c for c in check(folder, model) if c.state == "bad")
    assert f"{name} is there 2 times" in bad.says
    (folder / "google/umt5-xxl/tokenizer.json").write_text("<html>")
    bad = [c.role for c in check(folder, model) if c.state == "bad"]
    assert bad == ["tokenizer", "transformer"]
    (folder / SHARD.format(3)).unlink()
    with pytest.raises(WeightsMissing, match=r"00003-of-00003.*pull wan-toy --to"):
        home.find_all("wan-toy", "transformer", folder)


def test_a_page_in_the_place_of_a_tokenizer_is_not_kept(host, model, tmp_path) -> None:
    served(host, wan.write(tmp_path / "there", model))
    host.files["tokenizer.json"] = b"<html>please log in</html>"
    with pytest.raises(BadInput, match=r"is not google/umt5-xxl/tokenizer\.json"):
        list(pull(model, tmp_path / "here", Source(text=host.url), ["tokenizer"]))
    assert not (tmp_path / "here/google/umt5-xxl/tokenizer.json").exists()


# --- through the command line --------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path):
    """`longtake weights ...` as a process with the toys in its catalogue: code, output, errors."""

    def run(*words: object) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-c", "from tests.weights import wan; wan.main()", "weights",
             *map(str, words)],
            cwd=ROOT, capture_output=True, text=True, timeout=120,
            env=os.environ | {
                "LONGTAKE_WEIGHTS": str(tmp_path / "home"), "NO_COLOR": "1", "COLUMNS": "200",
                "PYTHONPATH": "src", "OMP_NUM_THREADS": "1",
            },
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout, done.stderr

    return run


def events(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.parametrize("quant", ["int8", "dit=int8,text=fp8,image=none"])
def test_convert_check_and_list(weights, model, tmp_path, quant) -> None:
    """Shards go one by one, in the folder that `pull` fills; damage is found and told."""
    folder = wan.write(tmp_path / "home/wan-toy", model)
    code, out, err = weights("convert", folder, folder, "--model", "wan-toy", "--quant", quant,
                             "--move", "--json")  # fmt: skip
    assert (code, err) == (0, "")
    *taken, made, text, read = events(out)
    assert [(t["event"], t["removed"]) for t in [*taken, text]] == [("taken", True)] * 4
    assert (made["event"], read["event"]) == ("converted", "converted")
    assert "3 blocks of" in made["says"]
    assert "matrices in int8" in made["says"]
    assert "2 blocks of" in read["says"]
    assert ("fp8" in quant) == ("matrices in bfloat16, float8_e4m3fn" in read["says"])
    assert not list(folder.glob("*-of-*"))
    assert not list(folder.glob("models_t5*"))
    assert [c.state for c in check(folder, model)] == ["good", "good", "note"]
    code, out, _ = weights("list", "--json")
    listed = {e["name"]: e for e in events(out)}
    assert {"wan-t2v-1.3b", "wan-t2v-14b", "wan-i2v-14b-480p", "wan-i2v-14b-720p"} <= set(listed)
    assert listed["wan-t2v-1.3b"]["state"] == "absent"
    (blocks,) = (f for f in listed["wan-toy"]["files"] if f["role"] == "transformer")
    assert (blocks["state"], blocks["here"]) == ("whole", made["bytes"])
    block = folder / "transformer/block.01.bin"
    body = bytearray(block.read_bytes())
    body[len(body) // 2] ^= 1
    block.write_bytes(body)
    code, out, _ = weights("check", "wan-toy")
    assert code == 1
    assert "bad  transformer" in out
    assert "block.01.bin is damaged" in out


@pytest.mark.parametrize(
    "quant", ["int9", "dit=int9", "vae=int8", "text=int8,text=fp8", "image=fp8"]
)
def test_a_quant_that_there_is_not(weights, tmp_path, quant) -> None:
    code, _, err = weights("convert", tmp_path, tmp_path, "--model", "wan-toy", "--quant", quant)
    assert code == 2
    assert quant.partition("=")[0] in err


def test_a_second_model_is_refused(weights, model, tmp_path) -> None:
    """Finding of others' disk caches: the second model would run with the first one's weights."""
    folder, cache = wan.write(tmp_path / "a", model), tmp_path / "cache"
    list(convert(folder, cache, model, None, BlockOptions(recognise=RECOGNISE["wan"])))
    wan.write(tmp_path / "b", model, seed=5)
    before = wan.hashes(cache)
    code, _, err = weights("convert", tmp_path / "b", cache, "--model", "wan-other")
    assert (code, "belongs to wan-toy, not to wan-other" in err) == (2, True)
    assert wan.hashes(cache) == before


def test_pull_reads_block_files_in_full(host, model, tmp_path) -> None:
    there = wan.write(tmp_path / "there", model)
    served(host, there)
    here = wan.write(tmp_path / "home/wan-toy", model)
    options = BlockOptions(move=True, recognise=RECOGNISE["wan"])
    list(convert(here, here, model, None, options))
    seen = list(pull(model, here, Source(text=host.url)))
    assert stored(seen) == {
        "transformer/blocks.json": False, "text/blocks.json": False,
        "google/umt5-xxl/tokenizer.json": False,
    }  # fmt: skip
    (read,) = (e for e in seen if isinstance(e, Hashing) and e.file == "transformer/blocks.json")
    assert read.bytes == listing.look(model, here).files[0].here
    assert host.asked == []
    block = here / "transformer/block.02.bin"
    body = bytearray(block.read_bytes())
    body[-1] ^= 1
    block.write_bytes(body)
    assert listing.look(model, here).files[0].state == "unchecked"
    with pytest.raises(BadInput, match=r"block\.02\.bin is damaged.*Remove .*transformer, pull"):
        list(pull(model, here, Source(text=host.url)))
    block.write_bytes(body[:-1])
    assert listing.look(model, here).files[0].state == "damaged"
