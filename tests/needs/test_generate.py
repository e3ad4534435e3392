"""Films from words and from a picture, through the command line, with small nets in files of the
official names. What the pictures show is noise; what is kept of them is not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from longtake.generators.wan import _as_shaped
from longtake.media import stills
from longtake.nets.clip_vision import ClipVision
from longtake.runtime.transformers import RECOGNISE
from longtake.weights import catalog, manifest
from longtake.weights.convert import convert
from longtake.weights.files import digest
from longtake.weights.into_blocks import BlockOptions
from tests.generators.wan_models import CLIP, I2V, T2V, nets, tokenizer_json, written
from tests.jobs import Command, Outcome
from tests.nets.oracles import filled

UMT5 = "google/umt5-xxl"
SMALL = ("size=64x48", "frames=9", "steps=3", "dtype=float32", "text_dtype=float32")


def folder_of(root: Path, version: str) -> Path:
    """A folder as `weights pull` and `weights convert` leave it, of nets that fit a test."""
    image = version.startswith("i2v")
    made = nets(I2V if image else T2V, seed=1)
    folder = root / f"Wan2.1-{version.upper()}"
    (folder / UMT5).mkdir(parents=True)
    shards = {"diffusion_pytorch_model.safetensors": made.dit.state_dict()}
    if image:  # published in seven pieces
        keys = sorted(made.dit.state_dict())
        shards = {
            f"diffusion_pytorch_model-{i:05}-of-00007.safetensors": {
                key: made.dit.state_dict()[key] for key in keys[i - 1 :: 7]
            }
            for i in range(1, 8)
        }
        whole = filled(ClipVision(replace(CLIP, layers=CLIP.layers + 1))).state_dict()
        name = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.safetensors"
        behind = {"visual.post_norm.weight": torch.ones(CLIP.dim)}
        written(folder / name, whole | made.image.state_dict() | behind)
        (folder / "diffusion_pytorch_model.safetensors.index.json").write_text("{}")
    for name, state in shards.items():
        written(folder / name, state)
        known(folder, version, name, "transformer")
    written(folder / "models_t5_umt5-xxl-enc-bf16.safetensors", made.text.state_dict())
    written(folder / "Wan2.1_VAE.safetensors", made.vae.state_dict())
    tokenizer_json(folder / UMT5 / "tokenizer.json")
    for name in ("spiece.model", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / UMT5 / name).write_text("{}")
    for path in (folder / UMT5).iterdir():
        known(folder, version, f"{UMT5}/{path.name}", "tokenizer")
    return folder


def known(folder: Path, version: str, name: str, role: str) -> None:
    """A file of an official name is taken as it is where the manifest says so."""
    path = folder / name
    entry = manifest.Entry(
        model=f"wan-{version}", role=role, sha256=digest(path), bytes=0, mtime_ns=0,
        source="a test", trusted="first use",
    )  # fmt: skip
    manifest.add(folder, name, manifest.stamped(entry, path))


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    return folder_of(tmp_path_factory.mktemp("weights"), "t2v-1.3b")


@pytest.fixture(scope="module")
def seeing(tmp_path_factory) -> Path:
    return folder_of(tmp_path_factory.mktemp("weights"), "i2v-14b-480p")


def asked(folder: Path, target: Path, *more: str, model: str = "t2v-1.3b") -> list[str]:
    knobs = [f"model={model}", f"folder={folder}", *SMALL]
    return ["generate", "--prompt", "a cat walks", str(target), "--codec", "ffv1", "--devices",
            "cpu", "--set", *knobs, *more]  # fmt: skip


def done(job: Command, *words: str, **env: str) -> Outcome:
    outcome = job(*words, **env)
    assert outcome.code == 0, outcome.message
    return outcome


def plan_of(*words: str, **env: str) -> dict[str, Any]:
    """What `longtake plan ... --json` prints."""
    command = [sys.executable, "-m", "longtake", "plan", *words, "--json"]
    made = subprocess.run(command, check=True, capture_output=True, env=os.environ | env)
    return dict(json.loads(made.stdout))


def frames(path: Path) -> np.ndarray:
    with av.open(str(path)) as film:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)])


@pytest.fixture(scope="module")
def straight(text, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("straight") / "cat.mkv"
    command = [sys.executable, "-m", "longtake", *asked(text, target)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return target


def test_a_film_from_words(straight) -> None:
    found = frames(straight)
    assert found.shape == (9, 48, 64, 3)
    assert found.std() > 1
    with av.open(str(straight)) as film:
        (stream,) = film.streams
        assert stream.average_rate == 16
        assert not film.streams.audio
    assert [p.name for p in straight.parent.iterdir()] == [straight.name]


def test_the_same_command_gives_the_same_film_and_another_seed_another(
    job, text, straight, tmp_path
) -> None:
    done(job, *asked(text, tmp_path / "again.mkv"))
    done(job, *asked(text, tmp_path / "other.mkv", "--seed", "7"))
    assert (tmp_path / "again.mkv").read_bytes() == straight.read_bytes()
    assert not np.array_equal(frames(tmp_path / "other.mkv"), frames(straight))


def test_killed_after_a_step_it_goes_on_from_there(job, text, straight, tmp_path) -> None:
    """And says so: no step is made twice."""
    target = tmp_path / "cat.mkv"
    job.stopped(
        lambda e: e["event"] == "stepped" and e["steps"] == 2, signal.SIGKILL, *asked(text, target)
    )
    assert (tmp_path / "cat.mkv.longtake/checkpoint.safetensors").is_file()
    again = done(job, *asked(text, target))
    steps = [e["steps"] for e in again.events if e["event"] == "stepped"]
    assert steps in ([2, 3], [3])
    assert target.read_bytes() == straight.read_bytes()
    assert not (tmp_path / "cat.mkv.longtake").exists()


def test_a_kill_while_a_step_is_kept_leaves_nothing_strange(job, text, tmp_path) -> None:
    """What was half written is known for ours: the folder can be cleared away."""
    target, folder = tmp_path / "cat.mkv", tmp_path / "cat.mkv.longtake"
    job.stopped(lambda e: e["event"] == "stepped", signal.SIGKILL, *asked(text, target))
    (folder / "checkpoint.safetensors.0a1b2c3d4e5f.new").write_bytes(b"half of it")
    (folder / "mine.txt").write_text("not to be lost")
    refused = job("jobs", "--clear", str(folder))
    assert refused.code == 2
    assert "has not made (mine.txt)" in refused.message
    (folder / "mine.txt").unlink()
    done(job, "jobs", "--clear", str(folder))
    assert not (folder / "journal.jsonl").exists()


def test_out_of_memory_in_a_step_goes_on_or_says_what_to_do(job, text, straight, tmp_path) -> None:
    """Under the next placement, to the same bytes; below the last one, what is done is kept."""
    target = tmp_path / "cat.mkv"
    once = done(job, *asked(text, target), LONGTAKE_FAULT="oom:compute:1")
    assert once.named("replanned")
    assert target.read_bytes() == straight.read_bytes()
    later = tmp_path / "later.mkv"
    twice = job(*asked(text, later), LONGTAKE_FAULT="oom:compute:2")
    assert twice.code == 4
    assert "--set size= or frames=" in twice.message
    assert not later.exists()
    done(job, *asked(text, later))
    assert later.read_bytes() == straight.read_bytes()


def test_what_is_no_number_is_made_once_more_and_then_told(job, text, straight, tmp_path) -> None:
    target = tmp_path / "cat.mkv"
    done(job, *asked(text, target), LONGTAKE_FAULT="nan:values:1")
    assert target.read_bytes() == straight.read_bytes()
    failed = job(*asked(text, tmp_path / "no.mkv"), LONGTAKE_FAULT="nan:values:99")
    assert failed.code == 1
    assert "latents after step" in failed.message


def test_another_prompt_is_another_job(job, text, tmp_path) -> None:
    target = tmp_path / "cat.mkv"
    job.stopped(
        lambda e: e["event"] == "stepped" and e["steps"] == 1, signal.SIGKILL, *asked(text, target)
    )
    words = asked(text, target)
    words[2] = "a dog sleeps"
    refused = job(*words)
    assert refused.code == 2
    assert "a dog sleeps" in refused.message
    done(job, *words, "--restart")


def test_a_film_that_begins_with_a_picture(job, seeing, tmp_path) -> None:
    """In the picture's shape; another picture gives another film, and a changed one is refused."""
    draw = np.random.default_rng(0).integers(0, 255, (2, 60, 80, 3), np.uint8)
    picture, target = tmp_path / "cat.png", tmp_path / "cat.mkv"
    picture.write_bytes(stills.png(draw[0]))
    words = asked(seeing, target, "--image", str(picture), model="i2v-14b-480p")
    done(job, *words)
    first = frames(target)
    width, height = _as_shaped((64, 48), (80, 60))
    assert first.shape == (9, height, width, 3)
    picture.write_bytes(stills.png(draw[1]))
    done(job, *words, "--restart")
    assert not np.array_equal(frames(target), first)
    job.stopped(lambda e: e["event"] == "stepped", signal.SIGKILL, *words, "--restart")
    picture.write_bytes(stills.png(draw[0]))
    refused = job(*words)
    assert refused.code == 2
    assert "the bytes of the input changed" in refused.message


def test_the_plan_is_printed_stored_and_carried_out(job, text, straight, tmp_path) -> None:
    words = asked(text, tmp_path / "cat.mkv")
    stored = tmp_path / "plan.json"
    stored.write_text(json.dumps(plan_of(*words)))
    done(job, "run", str(stored))
    assert (tmp_path / "cat.mkv").read_bytes() == straight.read_bytes()


@pytest.mark.parametrize(
    ("machine", "knobs", "offload"),
    [
        ("rtx-4060-8gb", ("size=832x480",), "ring"),
        ("rtx-4090-24gb", ("size=832x480",), "resident"),
        ("rtx-4090-24gb", ("model=t2v-14b", "size=1280x720"), "ring"),
        ("h200", ("model=t2v-14b", "size=1280x720"), "resident"),
    ],
)
def test_a_machine_that_one_does_not_have(job, tmp_path, machine, knobs, offload) -> None:
    """Placement, memory and time before anything is fetched; without weights."""
    words = ["generate", "--prompt", "x", str(tmp_path / "x.mp4"), "--machine", machine]
    plan = plan_of(*words, "--set", *knobs, LONGTAKE_WEIGHTS=str(tmp_path))
    assert plan["placement"]["offload"] == offload
    assert plan["time"]["total"] > 10
    assert any("longtake weights pull wan-" in note for note in plan["notes"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("frames=10",), "take 9 or 13"),
        (("size=830x480",), "832 x 480"),
        (("size=big",), "WIDTHxHEIGHT"),
        (("model=i2v-14b-480p",), "--image"),
        (("sampler=magic",), "sampler"),
        (("tile=8",), "tile"),
    ],
)
def test_what_cannot_be_made_is_said(job, text, tmp_path, words, said) -> None:
    refused = job(*asked(text, tmp_path / "x.mkv"), *words)
    assert refused.code == 2
    assert said in refused.message
    assert not (tmp_path / "x.mkv.longtake").exists()


def test_without_weights_the_command_to_run_is_told(job, tmp_path) -> None:
    refused = job(
        "generate", "--prompt", "x", str(tmp_path / "x.mp4"), LONGTAKE_WEIGHTS=str(tmp_path)
    )
    assert refused.code == 2
    assert "longtake weights pull wan-t2v-1.3b" in refused.message


def test_a_long_prompt_is_cut_and_that_is_said(job, text, tmp_path) -> None:
    words = asked(text, tmp_path / "x.mkv")
    words[2] = "cat " * 600
    plan = plan_of(*words)
    assert any("are left out" in note for note in plan["notes"])


# --- block files ---------------------------------------------------------------------------------


def block_files(root: Path, quant: str) -> Path:
    """A folder whose transformer and text encoder were made into block files, and nothing else is
    left of them."""
    folder = folder_of(root, "t2v-1.3b")
    known = catalog.model("wan-t2v-1.3b")
    sources = {
        "transformer": folder / "diffusion_pytorch_model.safetensors",
        "text": folder / "models_t5_umt5-xxl-enc-bf16.safetensors",
    }
    tables = {
        role: {key: tuple(value.shape) for key, value in load_file(path).items()}
        for role, path in sources.items()
    }
    ours = tuple(
        replace(file, table=partial(tables.get, file.role), bytes=None, sha256=None)
        if file.role in tables
        else file
        for file in known.files
    )
    options = BlockOptions(
        quant=dict.fromkeys(tables, quant), recognise=RECOGNISE["wan"], move=True
    )
    steps = [*convert(folder, folder, replace(known, files=ours), "float32", options)]
    assert len(steps) == 4
    assert not any(path.exists() for path in sources.values())
    return folder


@pytest.fixture(scope="module", params=["none", "int8", "fp8"])
def blocks(request, tmp_path_factory) -> tuple[str, Path]:
    return request.param, block_files(tmp_path_factory.mktemp("blocks"), request.param)


def test_block_files_make_the_same_film_wherever_they_lie(job, blocks, straight, tmp_path) -> None:
    quant, folder = blocks
    made = {}
    for offload in ("resident", "swap", "ring", "disk"):
        target = tmp_path / f"{offload}.mkv"
        done(job, *asked(folder, target), "--place", f"offload={offload}")
        made[offload] = frames(target)
    assert all(np.array_equal(found, made["resident"]) for found in made.values())
    whole = frames(straight)
    if quant == "none":
        assert np.array_equal(made["resident"], whole)
    else:
        apart = np.abs(made["resident"].astype(int) - whole).mean()
        assert 0 < apart < whole.std() / 4


def test_block_files_are_used_as_they_are(job, blocks, tmp_path) -> None:
    _, folder = blocks
    refused = job(*asked(folder, tmp_path / "x.mkv"), "dtype=bfloat16")
    assert refused.code == 2
    assert "hold float32" in refused.message
    refused = job(*asked(folder, tmp_path / "x.mkv"), "text_dtype=bfloat16")
    assert refused.code == 2
    assert "text encoder's block files hold float32" in refused.message


def test_official_files_have_no_disk_to_stream_from(job, text, tmp_path) -> None:
    refused = job(*asked(text, tmp_path / "x.mkv"), "--place", "offload=disk")
    assert refused.code == 2
    assert "resident, swap, ring" in refused.message


@pytest.mark.parametrize("more", [(), ("size=256x192", "frames=33")])
def test_memory_is_as_planned(job, text, tmp_path, more) -> None:
    """On a CPU, where the host's memory is all there is; what else runs moves a peak by 2 %."""
    ended = done(job, *asked(text, tmp_path / "x.mkv"), *more).last
    assert 0.85 * ended["predicted_ram"] < ended["peak_ram"] < 1.04 * ended["predicted_ram"]
