"""Hostile, empty, truncated and wrong files: exit 2 with a reason; no hang, traceback or theft."""

from __future__ import annotations

import time

import av
import pytest

from tests.media import films
from tests.media.hostile import CORPUS

FAST = ("--engine", "resize", "--scale", "2")
PATIENCE = 30  # s, on a busy machine; a good answer takes half a second


@pytest.mark.parametrize("name", sorted(CORPUS))
def test_a_hostile_file_is_refused_with_a_reason(longtake, tmp_path, name) -> None:
    place = tmp_path / "in"
    place.mkdir()
    source = CORPUS[name](place)
    began = time.monotonic()
    refused = longtake("upscale", source, tmp_path / "out.mkv", *FAST, timeout=PATIENCE)
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert refused.stderr.startswith("longtake: ")
    assert len(refused.stderr.strip()) > 40
    assert "Traceback" not in refused.stderr
    assert "Internal error" not in refused.stderr
    assert not (tmp_path / "out.mkv").exists()
    assert time.monotonic() - began < PATIENCE


def broken_off(film, keep: float):
    whole = film.read_bytes()
    film.write_bytes(whole[: int(len(whole) * keep)])
    return film


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".avi"])
def test_a_broken_download_gives_what_is_there_only_when_told(longtake, tmp_path, suffix) -> None:
    options = {"movflags": "faststart"} if suffix == ".mp4" else {}
    codec = "mpeg4" if suffix == ".avi" else "libx264"
    source = films.make(
        tmp_path / f"in{suffix}", frames=100, codec=codec, container_options=options
    )
    broken_off(source, 0.6)
    refused = longtake("upscale", source, tmp_path / "out.mkv", *FAST)
    assert refused.returncode == 2
    assert "broke off" in refused.stderr
    assert "--drop tail" in refused.stderr.replace("\n", " ")
    done = longtake("upscale", source, tmp_path / "out.mkv", *FAST, "--drop", "tail")
    assert done.returncode == 0, done.stderr
    assert "broke off" in done.stdout
    with av.open(str(tmp_path / "out.mkv")) as made:
        seen = [films.read_counter(f.to_ndarray(format="rgb24")) for f in made.decode(video=0)]
    assert 30 < len(seen) < 100
    assert seen == list(range(len(seen)))


def test_damage_in_the_middle_is_named_and_left_out_only_when_told(longtake, tmp_path) -> None:
    source = films.make(tmp_path / "in.mkv", frames=60, codec="ffv1", options={"slicecrc": "1"})
    whole = bytearray(source.read_bytes())
    for at in range(len(whole) // 2, len(whole) // 2 + 40):
        whole[at] ^= 0xFF
    source.write_bytes(whole)
    refused = longtake("upscale", source, tmp_path / "out.mkv", *FAST)
    assert refused.returncode == 2
    assert "--drop damaged" in refused.stderr.replace("\n", " ")
    done = longtake("upscale", source, tmp_path / "out.mkv", *FAST, "--drop", "damaged")
    assert done.returncode == 0, done.stderr
    assert "could not be decoded" in done.stdout
