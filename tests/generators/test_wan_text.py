"""Embeddings of prompts: the library's numbers, and a cache that may be damaged or full."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from longtake.core.errors import BadInput, NotANumber
from longtake.engines._parts import Parts
from longtake.generators._wan_load import load
from longtake.generators._wan_prompt import Prompt, Tokenizer
from longtake.generators._wan_text import Cache, Words, embeddings
from tests.generators.wan_models import (
    CORPUS,
    CPU,
    EXACT,
    T2V,
    nets,
    official,
    opened,
    theirs,
    tokenizer_json,
)
from tests.nets.flashvsr.goldens import difference


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return opened(tmp_path_factory.mktemp("wan"), T2V)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> list[Prompt]:
    tokenizer = Tokenizer(tokenizer_json(tmp_path_factory.mktemp("umt5") / "tokenizer.json"))
    return [tokenizer.encode(text) for text in ("", CORPUS[0], CORPUS[2], "word " * 10_000)]


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(folder=tmp_path / "embeddings", identity="umt5 of now", dtype="float32")


def only_text(parts: Parts) -> tuple[Parts, list[str]]:
    """The same nets, with a record of whose turn it was."""
    turns: list[str] = []
    other = Parts(dict(parts.items()))
    other.bring = turns.append
    return other, turns


def test_embeddings_are_the_library_s(parts: Parts, prompts: list[Prompt]) -> None:
    """Which is given padding and a mask, as officially."""
    other = theirs(nets(T2V))["text"]
    for prompt, made in zip(prompts, embeddings(parts, prompts, CPU), strict=True):
        ids, mask = (torch.tensor([x]) for x in prompt.filled())
        with torch.inference_mode():
            whole = other(input_ids=ids, attention_mask=mask).last_hidden_state[0]
        assert made.shape == (len(prompt.ids), T2V.text_dim)
        assert difference(made, whole[: len(prompt.ids)]) <= 1e-5


def test_what_is_known_is_not_made_again(parts: Parts, prompts: list[Prompt], cache: Cache) -> None:
    counted, turns = only_text(parts)
    first = embeddings(counted, [*prompts, prompts[0]], CPU, cache)
    assert turns == ["text"] * len(prompts)
    again = embeddings(counted, prompts, CPU, cache)
    assert turns == ["text"] * len(prompts)
    assert all(map(torch.equal, first, again))
    assert torch.equal(first[0], first[-1])
    assert not torch.equal(first[1][:1], first[2][:1])


def test_the_text_encoder_is_needed_until_all_is_known(
    parts: Parts, prompts: list[Prompt], cache: Cache
) -> None:
    counted, turns = only_text(parts)
    first = Words.read(prompts[:2], cache)
    assert not first.known
    made = first.embedded(counted, CPU)
    assert turns == ["text", "text"]
    again = Words.read(prompts[:2], cache)
    assert again.known
    assert all(map(torch.equal, made, again.embedded(Parts({}), CPU)))  # there is none to ask
    cache.path(prompts[0].text).unlink()
    assert all(map(torch.equal, made, again.embedded(Parts({}), CPU)))
    assert not Words.read(prompts[:2], cache).known
    assert not Words.read(prompts[:3], cache).known


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_dtype_is_kept(cache: Cache, dtype: torch.dtype) -> None:
    embedding = torch.randn(7, 24).to(dtype)
    cache.put("a cat", embedding)
    found = cache.get("a cat")
    assert found is not None
    assert found.dtype == dtype
    assert torch.equal(found, embedding)


def test_another_model_or_dtype_does_not_know_it(cache: Cache) -> None:
    cache.put("a cat", torch.ones(2, 3))
    others = [
        replace(cache, identity="umt5 of then"), replace(cache, dtype="bfloat16"),
        replace(cache, identity="umt5 of nowfloat32", dtype=""),
    ]  # fmt: skip
    assert cache.get("a cat") is not None
    assert cache.get("a cat ") is None
    assert [other.get("a cat") for other in others] == [None] * 3
    cache.path("a cat").rename(others[0].path("a cat"))  # a file in another's place
    assert others[0].get("a cat") is None


@pytest.mark.parametrize("how", ["cut", "flipped", "empty", "other"])
def test_damaged_files_are_written_again(
    parts: Parts, prompts: list[Prompt], cache: Cache, how: str
) -> None:
    counted, turns = only_text(parts)
    (whole,) = embeddings(counted, prompts[1:2], CPU, cache)
    path = cache.path(prompts[1].text)
    good = path.read_bytes()
    bad = {
        "cut": good[:-9], "flipped": good[:-9] + bytes([good[-9] ^ 1]) + good[-8:], "empty": b"",
        "other": b"not this" * 9,
    }  # fmt: skip
    path.write_bytes(bad[how])
    (again,) = embeddings(counted, prompts[1:2], CPU, cache)
    assert turns == ["text", "text"]
    assert torch.equal(whole, again)
    known = cache.get(prompts[1].text)
    assert known is not None
    assert torch.equal(known, whole)


def test_the_folder_is_bounded(tmp_path: Path) -> None:
    """What was used longest ago goes first; a stranger's files stay."""
    cache = Cache(folder=tmp_path, identity="i", dtype="float32", most=3500)
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    old = tmp_path / "left.safetensors.0.new"
    old.write_bytes(b"x")
    os.utime(old, (0, 0))
    for number in range(3):
        cache.put(f"prompt {number}", torch.ones(200))
        stamp = 1_000_000_000 + number
        os.utime(cache.path(f"prompt {number}"), (stamp, stamp))
    assert cache.get("prompt 0") is not None  # used now, so not the oldest any more
    cache.put("prompt 3", torch.ones(200))
    kept = [n for n in range(4) if cache.path(f"prompt {n}").exists()]
    assert kept == [0, 2, 3]
    assert sum(path.stat().st_size for path in tmp_path.glob("*.safetensors")) <= cache.most
    cache.put("a long one", torch.ones(2000))
    assert [path.name for path in tmp_path.glob("*.safetensors")] == [cache.path("a long one").name]
    assert (tmp_path / "notes.txt").exists()
    assert not old.exists()


def test_a_tokenizer_of_another_model_is_refused(parts: Parts) -> None:
    prompt = Prompt(text="x", ids=(5, 400, 1), tokens=3)
    with pytest.raises(BadInput, match="token 400, the text encoder knows 400"):
        embeddings(parts, [prompt], CPU)


def test_what_is_no_number_is_not_kept(tmp_path: Path, cache: Cache) -> None:
    parts = load(official(tmp_path / "wan", nets(T2V)), EXACT, "cpu")
    parts["text"].norm.weight.data[0] = float("nan")
    with pytest.raises(NotANumber, match="prompt of 2 tokens"):
        embeddings(parts, [Prompt(text="x", ids=(5, 1), tokens=2)], CPU, cache)
    assert cache.get("x") is None
