"""N7, N39: sound, subtitles, chapters, fonts, shape; or a refusal before the work starts."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path

import av
import pytest

from tests.media import films, rich

FAST = ("--engine", "resize", "--scale", "2", "--set", "segment_frames=16")


def packets(path: Path, kind: str) -> list[list[str]]:
    """Hashes of the packets of each stream of a kind."""
    found = []
    with av.open(str(path)) as container:
        count = len([s for s in container.streams if s.type == kind])
    for i in range(count):
        with av.open(str(path)) as container:
            stream = [s for s in container.streams if s.type == kind][i]
            found.append(
                [hashlib.md5(bytes(p)).hexdigest() for p in container.demux(stream) if p.size]
            )
    return found


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    return rich.make(tmp_path_factory.mktemp("rich") / "film.mkv", rich.Source())


def test_mkv_keeps_everything(longtake, film, tmp_path) -> None:
    target = tmp_path / "out.mkv"
    done = longtake("upscale", film, target, *FAST)
    assert done.returncode == 0, done.stderr
    assert packets(film, "audio") == packets(target, "audio")
    assert packets(film, "subtitle") == packets(target, "subtitle")
    with av.open(str(film)) as was, av.open(str(target)) as now:
        assert [s.type for s in was.streams] == [s.type for s in now.streams]
        for a, b in zip(was.streams, now.streams, strict=True):
            assert a.metadata.get("language") == b.metadata.get("language")
            assert a.metadata.get("title") == b.metadata.get("title")
            assert a.disposition == b.disposition
        spans = [
            [(c["start"] * c["time_base"], c["end"] * c["time_base"], c["metadata"].get("title"))
             for c in x.chapters()] for x in (was, now)
        ]  # fmt: skip
        assert spans[0] == spans[1]
        assert now.metadata["title"] == was.metadata["title"]
        assert now.streams.video[0].sample_aspect_ratio == Fraction(64, 45)


def test_mp4_refuses_before_the_start_what_it_cannot_hold(longtake, film, tmp_path) -> None:
    refused = longtake("upscale", film, tmp_path / "out.mp4", *FAST)
    assert refused.returncode == 2
    assert "--drop attachments" in refused.stderr.replace("\n", " ")
    assert list(tmp_path.iterdir()) == []


def test_mp4_takes_the_rest_when_told(longtake, film, tmp_path) -> None:
    target = tmp_path / "out.mp4"
    done = longtake("upscale", film, target, *FAST, "--drop", "attachments")
    assert done.returncode == 0, done.stderr
    assert packets(film, "audio") == packets(target, "audio")
    with av.open(str(target)) as made:
        texts = [s for s in made.streams if s.type == "subtitle"]
        assert [s.codec_context.name for s in texts] == ["mov_text", "mov_text"]
        assert len(made.chapters()) == 2
        assert made.streams.video[0].sample_aspect_ratio == Fraction(64, 45)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_rotation_is_kept(longtake, tmp_path, rotation, suffix) -> None:
    source = films.make(tmp_path / f"in{suffix}", frames=3, rotation=rotation)
    target = tmp_path / f"out{suffix}"
    assert longtake("upscale", source, target, *FAST).returncode == 0
    seen = []
    for path in (source, target):
        with av.open(str(path)) as container:
            seen.append(next(container.decode(video=0)).rotation)
    assert seen[0] == seen[1]
    assert abs(seen[0]) == abs(rotation)


def test_cover_art_is_not_the_film(longtake, tmp_path) -> None:
    source = films.make(tmp_path / "in.mp4", frames=5, cover=True)
    target = tmp_path / "out.mp4"
    assert longtake("upscale", source, target, *FAST).returncode == 0
    with av.open(str(target)) as made:
        assert made.streams.video[0].frames == 5
        assert made.streams.video[0].codec_context.width == 192


def test_interlaced_is_flagged_and_made_whole_by_choice(longtake, tmp_path) -> None:
    source = films.make(tmp_path / "in.mkv", frames=12, interlaced="tff", size=(96, 64))
    assert "tff" in longtake("probe", source).stdout
    kept = longtake("upscale", source, tmp_path / "kept.mkv", *FAST)
    assert kept.returncode == 0
    assert "--deinterlace bwdif" in kept.stdout
    made = longtake("upscale", source, tmp_path / "made.mkv", *FAST, "--deinterlace", "bwdif")
    assert made.returncode == 0
    with av.open(str(tmp_path / "made.mkv")) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == 12
    assert not any(f.interlaced_frame for f in frames)


def test_pictures_hold_no_sound_and_say_so(longtake, tmp_path) -> None:
    source = films.make(tmp_path / "in.mp4", frames=3, sound=True)
    done = longtake("upscale", source, tmp_path / "out", *FAST)
    assert done.returncode == 0
    assert "sound" in done.stdout
