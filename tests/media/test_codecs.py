"""x265 and AV1 as x264: parts join exactly, decode alone, keep times and tags, in equal bytes."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from longtake.core.codecs import CODECS
from longtake.core.media import Chroma, Clip, Color
from longtake.core.plan import Encoder
from longtake.media import color, encoders, verify
from longtake.media.scaling import resample
from longtake.media.sinks import mkv, mp4, tiff
from tests.media import fakes
from tests.media.fakes import FFV1, X264, FakeFilm, cuts, output, regular
from tests.media.test_mp4 import TAGS, psnr, read_back, real, tags_of

SINKS: dict[str, Any] = {"mp4": mp4.plugin, "mkv": mkv.plugin}
X265 = Encoder(codec="x265", crf=18, preset="ultrafast", threads=4, asm="sse2")
AV1 = Encoder(codec="av1", crf=25, preset="12", threads=2, asm="sse2")
BOTH = pytest.mark.parametrize("encoder", [X265, AV1], ids=["x265", "av1"])
SMALL = {"width": 128, "height": 96}
LIBDAV = {"x265": "hevc", "av1": "libdav1d"}


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize(
    ("encoder", "chroma", "bits"),
    [(X265, "420", 8), (X265, "420", 10), (X265, "422", 10), (X265, "444", 10), (X265, "444", 8),
     (AV1, "420", 8), (AV1, "420", 10)],
    ids=lambda x: x.codec if isinstance(x, Encoder) else str(x),
)  # fmt: skip
def test_every_format_comes_back(
    tmp_path: Path, sink: str, encoder: Encoder, chroma: Chroma, bits: int
) -> None:
    tags = Color(matrix=9, primaries=9, transfer=14, full_range=False)
    out = output(chroma=chroma, bits=bits, color=tags, matrix=9, full_range=False, **SMALL)
    film = regular(9, out, fakes.info(container="images"))
    job = fakes.plan(film, out, encoder, cuts(9, 1, 4))
    target = fakes.joined(SINKS[sink], film, job, tmp_path, f"out.{sink}")
    assert film.pixels is not None
    assert psnr(read_back(target, out), film.pixels) > 28
    assert fakes.decoded(target)[0].format.name == color.pixel_format(encoder.codec, chroma, bits)
    assert list(verify.verify(target, film, job)) == [9]
    with av.open(str(target)) as file:
        context = file.streams.video[0].codec_context
        assert context.name == LIBDAV[encoder.codec]
        if sink == "mp4":
            assert context.codec_tag == {"x265": "hvc1", "av1": "av01"}[encoder.codec]


@BOTH
@pytest.mark.parametrize("sink", SINKS)
def test_joined_is_its_parts_one_after_the_other(
    tmp_path: Path, encoder: Encoder, sink: str
) -> None:
    """Variable rate, parts of one frame and of many: the pictures of each part, decoded alone,
    are those of the film, at the film's times."""
    out = output(time_base=Fraction(1, 1000), variable=True, **SMALL)
    steps = np.random.default_rng(2).integers(1, 90, 28)
    stamps = [0, *map(int, steps.cumsum())]
    film = FakeFilm(info=fakes.info(container="images"), stamps=stamps[:-1], last=stamps[-1])
    film.pixels = fakes.moving(28, out)
    job = fakes.plan(film, out, encoder, cuts(28, 1, 2, 5, 20))
    parts = fakes.write_parts(SINKS[sink], film, job, tmp_path)
    target = tmp_path / f"out.{sink}"
    assert [*SINKS[sink].join(parts, target, film, job)][-1] == 28
    alone = [f.to_ndarray() for p in parts for f in fakes.decoded(p)]
    whole = [f.to_ndarray() for f in fakes.decoded(target)]
    assert len(alone) == len(whole) == 28
    assert all(np.array_equal(a, b) for a, b in zip(alone, whole, strict=True))
    assert [start for start, _ in fakes.shown(target)] == [Fraction(t, 1000) for t in film.stamps]
    with av.open(str(target)) as file:
        decoded = [p.dts for p in file.demux(video=0) if p.size]
    assert sink == "mkv" or all(a < b for a, b in pairwise(decoded))  # Matroska states none
    assert list(verify.verify(target, film, job)) == [28]


@BOTH
@pytest.mark.parametrize("sink", SINKS)
def test_colour_tags_are_in_all_places(tmp_path: Path, encoder: Encoder, sink: str) -> None:
    """Where x264 states a tag, so do they, container, stream and frame alike."""
    for number, tags in enumerate(TAGS):
        out = output(color=tags, full_range=bool(tags.full_range), **SMALL)
        film = regular(2, out, fakes.info(container="images"))
        found = []
        for one in (X264, encoder):
            job = fakes.plan(film, out, one, cuts(2))
            name = f"{number}{one.codec}.{sink}"
            target = fakes.joined(SINKS[sink], film, job, tmp_path, name)
            with av.open(str(target)) as file:
                stated = tags_of(file.streams.video[0].codec_context)
            found.append((stated[:3], tags_of(fakes.decoded(target)[1])[:3], stated[3] == 2))
        assert found[0] == found[1], tags


@BOTH
def test_equal_bytes_every_time(tmp_path: Path, encoder: Encoder) -> None:
    """At the smallest size that the planner lets through, and at one that fills no block."""
    least = CODECS[encoder.codec].least
    for width, height in ((least, least), (146, 98)):
        out = output(width=width, height=height)
        film = regular(24, out, fakes.info(container="images"))
        job = fakes.plan(film, out, encoder, cuts(24))
        found = set()
        for run in range(6):
            folder = tmp_path / f"{width}-{run}"
            folder.mkdir()
            parts = fakes.write_parts(mp4.plugin, film, job, folder, clip=run + 1)
            found.add(hashlib.sha256(parts[0].read_bytes()).hexdigest())
        assert len(found) == 1


@pytest.mark.parametrize(
    "name", ["mustache_640x360.mp4", "generated_832x480.mp4", "screen_a_1420x880.mp4"]
)
def test_the_default_loses_less_than_half_a_decibel(tmp_path: Path, name: str) -> None:
    """As x264's (test_mp4.py): against FFV1 of the same frames, 4x, both against the truth."""
    whole = real(name, 8)
    height, width = whole.shape[1] // 8 * 8, whole.shape[2] // 8 * 8
    truth = np.ascontiguousarray(whole[:, :height, :width])
    given = resample(resample(truth, width // 4, height // 4), width, height)
    out = output(width=width, height=height, matrix=1, rate=Fraction(24))
    found = {}
    for encoder in (FFV1, X265, AV1):
        about = CODECS[encoder.codec]
        usual = dataclasses.replace(
            encoder, crf=about.crf or 0, preset=about.efforts.get("veryfast", ""), asm="avx2"
        )
        path = tmp_path / f"{encoder.codec}.mp4"
        with mp4.plugin.open(path, out, usual, 0) as writer:
            writer.write(Clip(pixels=given, start=0), [1000 * i for i in range(len(given))])
        found[encoder.codec] = psnr(read_back(path, out), truth)
    assert found["ffv1"] - found["x265"] < 0.5
    assert found["ffv1"] - found["av1"] < 0.5


@pytest.mark.parametrize("bits", [8, 16])
def test_tiff_comes_back_exactly(tmp_path: Path, bits: int) -> None:
    out = output(chroma="rgb", width=37, height=21, bits=bits)
    film = regular(7, out, fakes.info(container="images", chroma="rgb"))
    made = []
    for threads in (1, 3):
        (tmp_path / str(threads)).mkdir()
        encoder = Encoder(codec="tiff", crf=0, preset="", threads=threads, asm="")
        job = fakes.plan(film, out, encoder, cuts(7, 3))
        target = fakes.joined(tiff.plugin, film, job, tmp_path / str(threads), "out")
        made.append({p.name: p.read_bytes() for p in target.iterdir()})
    assert made[0] == made[1]
    assert film.pixels is not None
    for number, wanted in enumerate(film.pixels):
        frame = fakes.decoded(target / f"{number:08d}.tiff")[0]
        assert np.array_equal(
            frame.to_ndarray(format=f"rgb{24 * bits // 8}" + "le" * (bits == 16)), wanted
        )
    assert list(verify.verify(target, film, job)) == [7]
    cut = target / "00000004.tiff"
    cut.write_bytes(cut.read_bytes()[:200])
    with pytest.raises(verify.VerifyFailed, match="frame 4: cannot be decoded"):
        list(verify.verify(target, film, job))


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
def test_no_encoder_makes_this_process_real_time(tmp_path: Path) -> None:
    """libsvtav1 does when root opens it, and all else on the machine stands still."""
    given = np.zeros((2, 96, 128, 3), np.uint8)
    with SINKS["mkv"].open(tmp_path / "part.mkv", output(**SMALL), AV1, 0) as writer:
        writer.write(Clip(pixels=given, start=0), range(2))
        seen = {os.sched_getscheduler(int(task)) for task in os.listdir("/proc/self/task")}
    assert seen == {os.SCHED_OTHER}


def test_what_is_told_to_each_encoder_follows_from_the_recipe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No option leaves a number of threads, or anything that changes bytes, to the machine."""
    monkeypatch.setenv("SVT_LOG", "0")
    told = encoders.options(X265)["x265-params"].split(":")
    assert {"pools=4", "frame-threads=2", "asm=sse2", "log-level=none", "info=0"} == {*told}
    assert encoders.options(AV1)["svtav1-params"] == "lp=2"
    card = Encoder(codec="nvenc-av1", crf=25, preset="p3", threads=4, asm="a card")
    assert encoders.options(card) == {"rc": "constqp", "qp": "100", "preset": "p3"}
