"""A model's files: each is fetched, checked and named; versions are never mixed."""

from __future__ import annotations

import threading
import time

import pytest

from longtake.core.errors import BadInput, Usage
from longtake.weights import listing, manifest
from longtake.weights.catalog import MODELS
from longtake.weights.pull import Damaged, Source, Stored, Waiting, pull

from . import toy


def stored(events) -> dict[str, bool]:
    """Files by name: fetched, or found in place."""
    return {e.file: e.fetched for e in events if isinstance(e, Stored)}


def state(model, folder) -> str:
    return listing.look(model, folder).state


@pytest.mark.parametrize("version", ["v1.0", "v1.1"])
def test_pull_then_pull_again(host, toys, official, tmp_path, version) -> None:
    model, source = MODELS[f"toy-{version}"], Source(text=host.url)
    host.files = official[version]
    assert state(model, tmp_path) == "absent"
    assert stored(pull(model, tmp_path, source)) == dict.fromkeys(official[version], True)
    assert {n: (tmp_path / n).read_bytes() for n in official[version]} == official[version]
    assert state(model, tmp_path) == "whole"
    asked = len(host.asked)
    assert stored(pull(model, tmp_path, source)) == dict.fromkeys(official[version], False)
    assert len(host.asked) == asked
    trusted = {e.trusted for e in manifest.read(tmp_path).values()}
    assert trusted == {"published" if version == "v1.1" else "first use"}
    assert not list(tmp_path.glob("*.partial*"))


@pytest.mark.parametrize("version", ["v1.0", "v1.1"])
def test_a_damaged_file_is_named_and_fetched_again(host, toys, official, tmp_path, version) -> None:
    model, source = MODELS[f"toy-{version}"], Source(text=host.url)
    host.files = official[version]
    list(pull(model, tmp_path, source))
    path = tmp_path / "net.safetensors"
    body = bytearray(path.read_bytes())
    body[-1] ^= 1
    path.write_bytes(body)
    assert state(model, tmp_path) == "unchecked"  # its size is right, its time is not
    events = list(pull(model, tmp_path, source))
    assert [e.file for e in events if isinstance(e, Damaged)] == ["net.safetensors"]
    assert stored(events) == {
        "net.safetensors": True, "Decoder.ckpt": False, "prompt.pth": False
    }  # fmt: skip
    assert path.read_bytes() == official[version]["net.safetensors"]
    path.write_bytes(body[:-5])
    assert state(model, tmp_path) == "damaged"


def test_wrong_bytes_are_refused_after_a_second_try(host, toys, official, tmp_path) -> None:
    host.files = official["v1.0"]  # of the other version: the same names and shapes
    with pytest.raises(BadInput, match=r"net\.safetensors of toy-v1\.1.*twice"):
        list(pull(toys[1], tmp_path, Source(text=host.url)))
    assert len(host.asked) == 2
    assert [p.name for p in tmp_path.iterdir()] == [".lock"]


def test_bytes_of_no_published_hash_must_hold_the_tensors(host, toys, official, tmp_path) -> None:
    source = Source(text=host.url)
    host.files = {**official["v1.0"], "net.safetensors": b"<html>please log in</html>"}
    with pytest.raises(BadInput, match="not a safetensors file"):
        list(pull(toys[0], tmp_path, source))
    host.files = {**official["v1.0"], "Decoder.ckpt": official["v1.0"]["prompt.pth"]}
    with pytest.raises(BadInput, match=r"not the decoder: decoder\.1\.weight is missing"):
        list(pull(toys[0], tmp_path, source))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        ".lock", "manifest.json", "net.safetensors"
    ]  # fmt: skip


def test_a_hash_that_the_hub_names_is_compared(host, toys, official, tmp_path) -> None:
    host.files, host.redirect = official["v1.0"], True
    list(pull(toys[0], tmp_path, Source(text=host.url)))
    assert {e.trusted for e in manifest.read(tmp_path).values()} == {"published"}


def test_what_was_seen_first_is_kept_to(host, toys, official, tmp_path) -> None:
    """No published hash: the manifest's holds, also against the host."""
    host.files = official["v1.0"]
    list(pull(toys[0], tmp_path, Source(text=host.url)))
    (tmp_path / "prompt.pth").unlink()
    host.files = official["v1.1"]
    with pytest.raises(BadInput, match=r"prompt\.pth of toy-v1\.0"):
        list(pull(toys[0], tmp_path, Source(text=host.url)))


def test_from_a_folder(toys, official, tmp_path) -> None:
    there = toy.write(tmp_path / "toy-v1.1", "v1.1")
    into = tmp_path / "home"
    assert all(stored(pull(toys[1], into, Source.of(str(there)))).values())
    assert (into / "Decoder.ckpt").read_bytes() == official["v1.1"]["Decoder.ckpt"]
    with pytest.raises(BadInput, match=r"named v1\.1, but toy-v1\.0"):
        list(pull(toys[0], tmp_path / "other", Source.of(str(there))))
    with pytest.raises(BadInput, match=r"belongs to toy-v1\.1, not to toy-v1\.0"):
        list(pull(toys[0], into, Source.of(str(into))))


def test_one_role(host, toys, official, tmp_path) -> None:
    host.files = official["v1.1"]
    assert stored(pull(toys[1], tmp_path, Source(text=host.url), ["prompt"])) == {
        "prompt.pth": True
    }
    assert state(toys[1], tmp_path) == "partial"
    with pytest.raises(Usage, match="no vae; it has net, decoder, prompt"):
        list(pull(toys[1], tmp_path, Source(text=host.url), ["vae"]))


def test_addresses() -> None:
    model = MODELS["flashvsr-v1.1"]
    file, prompt = model.file("decoder"), model.file("prompt")
    at = "/JunhaoZhuang/FlashVSR-v1.1/resolve/ad1aceeac60dbd288e51acea9096b821a8703bee/"
    hub = Source.of("hf", {})
    assert hub.of_file(model, file) == "https://huggingface.co" + at + "TCDecoder.ckpt"
    mirror = Source.of("hf", {"HF_ENDPOINT": "https://hf-mirror.com/"})
    assert mirror.of_file(model, file) == "https://hf-mirror.com" + at + "TCDecoder.ckpt"
    assert str(hub.of_file(model, prompt)).startswith("https://raw.githubusercontent.com/")
    scope = Source.of("modelscope", {}).of_file(model, prompt)
    assert scope == "https://modelscope.cn/models/kuohao/FlashVSR-v1.1/resolve/master/" + (
        "posi_prompt.pth"
    )
    plain = Source.of("https://x.org/w/", {}).of_file(model, prompt)
    assert plain == "https://x.org/w/posi_prompt.pth"
    with pytest.raises(Usage, match="ModelScope"):
        Source.of("modelscope", {}).of_file(MODELS["flashvsr-v1.0"], prompt)
    with pytest.raises(Usage, match="give hf, modelscope"):
        Source.of("nowhere", {})


def test_two_at_once_fetch_once(host, toys, official, tmp_path) -> None:
    host.files, host.trickle = official["v1.1"], 0.01
    first: list[object] = []
    thread = threading.Thread(
        target=lambda: first.extend(pull(toys[1], tmp_path, Source(text=host.url)))
    )
    thread.start()
    while not host.asked:
        time.sleep(0.01)
    second = list(pull(toys[1], tmp_path, Source(text=host.url)))
    thread.join()
    assert isinstance(second[0], Waiting)
    assert all(stored(first).values())
    assert not any(stored(second).values())
    assert len(host.asked) == 3
