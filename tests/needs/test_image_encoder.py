"""A film from a picture, whose encoder was brought into 8 bits: all through the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from longtake.media import stills
from tests.generators.wan_models import small_clip
from tests.needs.test_generate import asked, done, folder_of, frames, known, plan_of

ROOT = Path(__file__).resolve().parents[2]
NAME = "i2v-14b-480p"
FILE = small_clip().file("image")


def weights(*words: str) -> list[dict]:
    """What `longtake weights ... --json` says, with a small CLIP in the catalogue; any exit."""
    code = "from tests.generators import wan_models; wan_models.main()"
    ended = subprocess.run(
        [sys.executable, "-c", code, "weights", *words, "--json"], cwd=ROOT,
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": "src"}, check=False,
    )  # fmt: skip
    assert not ended.stderr, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """With CLIP's file as it is published."""
    made = folder_of(tmp_path_factory.mktemp("weights"), NAME)
    torch.save(load_file(made / FILE.converted), made / FILE.name)
    (made / FILE.converted).unlink()
    known(made, NAME, FILE.name, FILE.role)
    return made


def test_the_same_film_in_every_place_and_near_the_exact_one(job, folder, tmp_path) -> None:
    picture = tmp_path / "cat.png"
    draw = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    picture.write_bytes(stills.png(draw))

    def words(target: Path) -> list[str]:
        return asked(folder, target, "--image", str(picture), model=NAME)

    done(job, *words(tmp_path / "whole.mkv"))
    before = plan_of(*words(tmp_path / "x.mkv"))
    (made,) = weights("convert", str(folder / FILE.name), str(folder), "--quant", "image=int8")
    assert (made["event"], Path(made["path"]).name) == ("converted", FILE.converted)
    assert (folder / FILE.name).is_file()
    (image,) = (c for c in weights("check", str(folder)) if c["role"] == "image")
    assert (image["state"], image["sha256"]) == ("good", made["sha256"])
    after = plan_of(*words(tmp_path / "x.mkv"))
    assert after["recipe"]["weights"] != before["recipe"]["weights"]
    films = {}
    for offload in ("resident", "swap", "ring"):
        target = tmp_path / f"{offload}.mkv"
        done(job, *words(target), "--place", f"offload={offload}")
        films[offload] = frames(target)
    assert all(np.array_equal(found, films["resident"]) for found in films.values())
    whole = frames(tmp_path / "whole.mkv")
    assert 0 < np.abs(films["ring"].astype(int) - whole).mean() < whole.std() / 4


def test_what_cannot_be_asked_for_is_said(longtake, folder, tmp_path) -> None:
    for asked_for, says in (
        ("image=int4", "give one of none, int8, fp8"),
        ("image=int8,image=fp8", "image is named twice"),
    ):
        ended = longtake("weights", "convert", str(folder), str(tmp_path), "--quant", asked_for)
        assert ended.returncode == 2
        assert says in ended.stderr
        assert "Traceback" not in ended.stderr
