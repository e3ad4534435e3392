"""Codecs and picture formats by the command line: resume, refusals, what stands in for what."""

from __future__ import annotations

import signal
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from longtake.core.errors import Usage
from longtake.core.plugins import find
from longtake.core.task import Limits, Upscale
from longtake.media import encoders
from longtake.planner.calibration import Calibration
from longtake.planner.choices import Crafts
from longtake.planner.planner import estimate
from longtake.planner.survey import survey
from longtake.runtime.prepare import draft, replay, sink_for
from tests.media import films
from tests.plans import a_gpu, a_machine, a_plan, an_info

FAST = ("--engine", "resize", "--scale", "2", "--set", "segment_frames=12")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.mkv"
    stamps = [40 * i + 7 * (i % 3) for i in range(48)]
    return films.make(
        path, frames=48, pts=stamps, time_base=Fraction(1, 1000), b_frames=2, sound=True
    )


@pytest.mark.parametrize(("codec", "suffix"), [("x265", "mp4"), ("x265", "mkv"), ("av1", "mp4")])
def test_killed_and_resumed_is_straight(job, film, tmp_path, codec, suffix) -> None:
    flags = (*FAST, "--codec", codec)
    straight, hurt = tmp_path / f"straight.{suffix}", tmp_path / f"hurt.{suffix}"
    done = job("upscale", film, straight, *flags)
    assert done.code == 0, done.events[-1]
    assert done.stderr == ""  # the encoders' own chatter
    job.stopped(
        lambda e: e["event"] == "segment_done", signal.SIGKILL, "upscale", film, hurt, *flags
    )
    assert not hurt.exists()
    again = job("upscale", film, hurt, *flags)
    assert again.code == 0, again.events[-1]
    assert hurt.read_bytes() == straight.read_bytes()
    with av.open(str(hurt)) as file, av.open(str(film)) as source:
        assert [s.type for s in file.streams] == ["video", "audio"]
        kept, given = ([bytes(p) for p in f.demux(audio=0) if p.size] for f in (file, source))
        assert kept == given
        assert len([*film_times(hurt)]) == 48


def film_times(path: Path) -> list[int]:
    with av.open(str(path)) as file:
        return [f.pts for f in file.decode(video=0) if f.pts is not None]


@pytest.mark.parametrize(
    ("flags", "size", "words"),
    [
        (("--codec", "x265"), (46, 64), "92x128 px: x265 takes sides from 96 px on"),
        (("--codec", "av1"), (64, 30), "128x60 px: av1 takes sides from 64 px on"),
        (("--codec", "x265", "--crf", "52"), (64, 64), "--crf 52: outside 0 .. 51"),
        (("--codec", "av1", "--crf", "64"), (64, 64), "--crf 64: outside 0 .. 63"),
        (("--codec", "av1", "--bits", "16"), (64, 64), "av1 is written with 8 or 10"),
        (("--codec", "tiff"), (64, 64), "tiff does not go into out.mp4"),
    ],
)
def test_what_a_codec_does_not_take_is_refused_before_work(
    job, tmp_path, flags, size, words
) -> None:
    source = films.make(tmp_path / "in.mp4", frames=3, size=size)
    refused = job("upscale", source, tmp_path / "out.mp4", *FAST, *flags)
    assert refused.code == 2
    assert words in refused.message
    assert not (tmp_path / "out.mp4.longtake").exists()


def test_sizes_too_large_for_av1_are_refused() -> None:
    with pytest.raises(Usage, match="at most 16384x8704 px"):
        a_plan({"codec": "av1"}, an_info(width=320, height=2400))


def test_colour_that_av1_cannot_hold_is_said() -> None:
    plan = a_plan({"codec": "av1"}, an_info(chroma="422", bits=10))
    assert (plan.recipe.output.chroma, plan.recipe.output.bits) == ("420", 10)
    assert any("The source is 4:2:2; av1 writes 4:2:0" in n for n in plan.notes)
    kept = a_plan({"codec": "x265"}, an_info(chroma="422", bits=10))
    assert kept.recipe.output.chroma == "422"
    assert not kept.notes


def planned(codec: str, why: str | None, **task):
    wish = Upscale(source=Path("in.mp4"), target=Path("out.mp4"), engine="resize", codec=codec,
                   **task)  # fmt: skip
    crafts = Crafts(
        works=find("engines", "resize"), sink=sink_for(wish.target), sha256=str,
        lacking=lambda name: why if name.startswith("nvenc") else None,
    )  # fmt: skip
    machine = a_machine(gpus=(a_gpu(name="RTX 4090"),))
    return estimate(wish, an_info(bits=10), (1, False), crafts, machine, Limits(devices="cpu"))


@pytest.mark.parametrize(
    ("codec", "software", "crf"),
    [("nvenc-h264", "x264", 16), ("nvenc-h265", "x265", 18), ("nvenc-av1", "av1", 25)],
)
def test_the_gpus_encoder_or_its_named_stand_in(codec, software, crf) -> None:
    there = planned(codec, None)
    assert (there.recipe.encoder.codec, there.recipe.encoder.crf) == (codec, crf)
    assert there.recipe.encoder.preset == "p3"
    assert there.recipe.encoder.asm == "RTX 4090"  # another card makes other bytes
    assert there.recipe.output.bits == (8 if codec == "nvenc-h264" else 10)
    gone = planned(codec, "there is no driver")
    assert gone.recipe.encoder.codec == software
    assert f"--codec {codec}: there is no driver; {software} writes the film instead." in gone.notes
    assert gone.identity == planned(software, None).identity != there.identity


def test_a_plan_for_a_card_is_refused_where_it_is_not(film, tmp_path, monkeypatch) -> None:
    wish = Upscale(source=film, target=tmp_path / "out.mp4", engine="resize", codec="nvenc-h265")
    machine, known = survey(), Calibration(tmp_path / "speed.json")
    monkeypatch.setattr(encoders, "_try", lambda codec: None)
    plan, _ = draft(wish, Limits(devices="cpu"), machine, known)
    assert plan.recipe.encoder.codec == "nvenc-h265"
    assert replay(plan, Limits(), machine)[0].recipe == plan.recipe

    def absent(codec: str) -> None:
        raise av.error.ExternalError(1, f"no device for {codec}")

    monkeypatch.setattr(encoders, "_try", absent)
    with pytest.raises(Usage, match=r"nvenc-h265, and here hevc_nvenc.*no device.*Plan it again"):
        replay(plan, Limits(), machine)
    fallen, _ = draft(wish, Limits(devices="cpu"), machine, known)
    assert fallen.recipe.encoder.codec == "x265"


def test_sixteen_bits_go_through_tiff_untouched(job, tmp_path) -> None:
    """TIFF to TIFF at scale 1: every sample, and the names."""
    random = np.random.default_rng(4)
    given = random.integers(0, 65536, (3, 48, 64, 3)).astype(np.uint16)
    films.folder(
        tmp_path / "in", range(7, 10), name="shot_{:03d}.tif", size=(64, 48),
        pixel_format="rgb48le", picture=lambda n: given[n - 7], codec="tiff",
    )  # fmt: skip
    done = job("upscale", tmp_path / "in", tmp_path / "out", "--codec", "tiff", "--height", "48",
               "--engine", "resize")  # fmt: skip
    assert done.code == 0, done.events[-1]
    made = sorted((tmp_path / "out").iterdir())
    assert [p.name for p in made] == [f"shot_{n:03d}.tiff" for n in range(7, 10)]
    for path, wanted in zip(made, given, strict=True):
        with av.open(str(path)) as file:
            assert np.array_equal(next(file.decode(video=0)).to_ndarray(format="rgb48le"), wanted)


@pytest.mark.parametrize(
    ("suffix", "how", "least"),
    [("tif", {"compression": "tiff_lzw"}, 99), ("bmp", {}, 99), ("webp", {"lossless": True}, 99),
     ("webp", {"quality": 95}, 28), ("jpg", {"quality": 97, "subsampling": 0}, 35)],
)  # fmt: skip
def test_pictures_of_other_programs_are_read(job, tmp_path, suffix, how, least) -> None:
    (tmp_path / "in").mkdir()
    drawn = [films.texture((64, 48))(n) for n in range(3)]
    for number, picture in enumerate(drawn):
        Image.fromarray(picture).save(tmp_path / "in" / f"{number}.{suffix}", **how)
    done = job("upscale", tmp_path / "in", tmp_path / "out", "--height", "48", "--engine", "resize")
    assert done.code == 0, done.events[-1]
    for number, picture in enumerate(drawn):
        with Image.open(tmp_path / "out" / f"{number}.png") as made:
            error = ((np.asarray(made).astype(float) - picture) ** 2).mean()
        assert -10 * np.log10(max(error, 1e-6) / 255**2) > least
