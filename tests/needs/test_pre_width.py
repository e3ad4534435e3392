"""`--pre-width`: the source is reduced before the engine sees it; through the command."""

from __future__ import annotations

import json
import signal
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from longtake.core.errors import Usage
from longtake.core.task import Upscale
from longtake.planner.geometry import geometry_of, read_size
from tests.media import films
from tests.plans import a_plan, an_info

FAST = ("--engine", "resize", "--set", "segment_frames=12")


def shown(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


@pytest.mark.parametrize(
    ("size", "asked", "read"),
    [
        ((1920, 1080), 960, (960, 540)),
        ((1920, 1080), 853, (853, 480)),  # 479.8
        ((720, 577), 360, (360, 288)),  # 288.5: half to even
        ((720, 579), 360, (360, 290)),  # 289.5: half to even
        ((4096, 2), 16, (16, 1)),
        ((640, 360), 640, (640, 360)),
        ((640, 360), 1280, (640, 360)),
    ],
)
def test_what_is_read(size, asked, read) -> None:
    task = Upscale(source=Path("a.mp4"), target=Path("b.mp4"), pre_width=asked)
    assert read_size(task, an_info(width=size[0], height=size[1])) == read


def test_the_target_follows_from_what_is_read() -> None:
    info = an_info(width=1920, height=1080)
    task = Upscale(source=Path("a"), target=Path("b"), pre_width=640, scale=Fraction(3))
    assert geometry_of(task, info, "420").target == (1920, 1080)
    tall = Upscale(source=Path("a"), target=Path("b"), pre_width=640, height=720)
    assert geometry_of(tall, info, "420").scale == 2
    with pytest.raises(Usage, match="360 px to 200 px is a scale"):
        geometry_of(Upscale(source=Path("a"), target=Path("b"), pre_width=640, height=200),
                    info, "420")  # fmt: skip
    with pytest.raises(Usage, match="--pre-width 8: at least 16 px"):
        geometry_of(Upscale(source=Path("a"), target=Path("b"), pre_width=8), info, "420")


def test_it_is_recipe_and_what_changes_nothing_is_not() -> None:
    info = an_info(width=640, height=360)
    plain, no_op = a_plan(info=info), a_plan({"pre_width": 640}, info=info)
    reduced = a_plan({"pre_width": 320}, info=info)
    assert plain.identity == no_op.identity != reduced.identity
    assert reduced.recipe.reading.size == reduced.geometry.source == (320, 180)
    assert any("the source is 640 px wide" in note for note in no_op.notes)
    assert reduced.memory.engine.total < plain.memory.engine.total
    assert reduced.memory.host.frames < plain.memory.host.frames
    assert reduced.memory.host.decode > plain.memory.host.decode  # one frame on its way


def test_a_falsely_large_film_is_taken_back(longtake, tmp_path) -> None:
    """What was blown up twice by plain means comes back, and fine patterns do not fold."""
    small = films.texture((96, 64))
    big = films.make(
        tmp_path / "big.mkv", frames=3, size=(192, 128), codec="ffv1", pixel_format="bgr0",
        picture=lambda i: small(i).repeat(2, 0).repeat(2, 1),
    )  # fmt: skip
    done = longtake(
        "upscale", big, tmp_path / "o.mkv", *FAST, "--pre-width", "96", "--height", "64",
        "--codec", "ffv1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    made = shown(tmp_path / "o.mkv").astype(int)
    assert made.shape == (3, 64, 96, 3)
    truth = np.stack([small(i) for i in range(3)]).astype(int)
    assert np.abs(made - truth)[:, 20:].mean() < 4  # below the counter's hard edges
    stripes = np.zeros((128, 192, 3), np.uint8)
    stripes[:, ::2] = 200
    fine = films.make(tmp_path / "fine.mkv", frames=2, size=(192, 128), codec="ffv1",
                      pixel_format="bgr0", picture=lambda i: stripes)  # fmt: skip
    words = ("--pre-width", "80", "--scale", "2", "--codec", "ffv1")
    assert longtake("upscale", fine, tmp_path / "f.mkv", *FAST, *words).returncode == 0
    assert np.abs(shown(tmp_path / "f.mkv")[:, 8:-8, 8:-8].astype(int) - 100).max() <= 3


@pytest.mark.parametrize(
    ("suffix", "how"),
    [
        (".mp4", {"codec": "libx264", "b_frames": 2, "sound": True}),
        (".mkv", {"codec": "libx265", "pixel_format": "yuv420p10le", "size": (192, 128)}),
        (".webm", {"codec": "libvpx-vp9"}),
        (".avi", {"codec": "mpeg4"}),
        (".ts", {"codec": "mpeg2video"}),
        (".mov", {"codec": "prores_ks", "pixel_format": "yuv422p10le"}),
        (".mkv", {"codec": "ffv1", "pixel_format": "yuv444p16le"}),
    ],
)
def test_every_codec_depth_and_shape(longtake, tmp_path, suffix, how) -> None:
    sar = Fraction(16, 11) if how["codec"] in ("libx264", "libx265") else None
    source = films.make(tmp_path / f"in{suffix}", **{"frames": 14, "sar": sar, **how})
    target = tmp_path / "out.mkv"
    done = longtake("upscale", source, target, *FAST, "--pre-width", "72", "--scale", "2", "--json")
    assert done.returncode == 0, done.stdout
    with av.open(str(target)) as made:
        stream = made.streams.video[0]
        assert (stream.codec_context.width, stream.codec_context.height) == (144, 96)
        assert sum(1 for _ in made.decode(stream)) == 14
        if sar:
            assert stream.sample_aspect_ratio == sar


@pytest.mark.parametrize("depth", ["rgb24", "rgb48be"])
def test_a_folder_of_pictures(longtake, tmp_path, depth) -> None:
    source = films.folder(tmp_path / "in", [3, 4, 9], pixel_format=depth)
    done = longtake("upscale", source, tmp_path / "out", *FAST, "--pre-width", "48", "--scale", "3")
    assert done.returncode == 0, done.stderr
    for name in ("0003.png", "0004.png", "0009.png"):
        with av.open(str(tmp_path / "out" / name)) as made:
            frame = next(made.decode(video=0))
            assert (frame.width, frame.height, frame.format.name) == (144, 96, depth)


def test_killed_and_resumed_is_straight_and_another_width_is_refused(job, tmp_path) -> None:
    source = films.make(tmp_path / "in.mp4", frames=90, b_frames=2, sound=True)
    flags = (*FAST, "--scale", "2", "--pre-width", "64")
    assert job("upscale", source, tmp_path / "straight.mp4", *flags).code == 0
    target = tmp_path / "out.mp4"
    job.stopped(
        lambda e: e["event"] == "segment_done", signal.SIGKILL, "upscale", source, target, *flags
    )
    refused = job("upscale", source, target, *flags[:-1], "60")
    assert refused.code == 2
    assert "reading.size" in refused.message
    again = job("upscale", source, target, *flags)
    assert again.code == 0
    assert again.named("started")[0]["resumed"] >= 1
    assert target.read_bytes() == (tmp_path / "straight.mp4").read_bytes()


def test_it_never_enlarges_and_says_so(job, longtake, tmp_path) -> None:
    source = films.make(tmp_path / "in.mp4", frames=6)
    words = (*FAST, "--scale", "2")
    assert job("upscale", source, tmp_path / "a.mp4", *words).code == 0
    done = job("upscale", source, tmp_path / "b.mp4", *words, "--pre-width", "4000")
    assert done.code == 0
    assert any("96 px wide; nothing is reduced" in e["message"] for e in done.named("warned"))
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    planned = longtake("plan", "upscale", source, tmp_path / "c.mp4", *words, "--pre-width", "48")
    assert "96x64 reduced to 48x32 -> 96x64 px (x2)" in planned.stdout
    stored = longtake("plan", "upscale", source, tmp_path / "c.mp4", *words, "--pre-width", "48",
                      "--json")  # fmt: skip
    assert json.loads(stored.stdout)["recipe"]["reading"]["size"] == [48, 32]
    (tmp_path / "plan.json").write_text(stored.stdout)
    assert longtake("run", tmp_path / "plan.json").returncode == 0
    assert shown(tmp_path / "c.mp4").shape == (6, 64, 96, 3)
