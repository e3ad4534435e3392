"""N2, N6, N26: every frame, in order, at its time, whole, at any size; through the command."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.media import films

FAST = ("--engine", "resize", "--set", "segment_frames=16")


def shown(path: Path) -> list[tuple[Fraction, np.ndarray]]:
    with av.open(str(path)) as container:
        return [
            (f.pts * f.time_base, f.to_ndarray(format="rgb24")) for f in container.decode(video=0)
        ]


def upscale(longtake, source: Path, target: Path, *flags: object) -> None:
    done = longtake("upscale", source, target, *FAST, *flags)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("frames", [1, 2, 3, 15, 16, 17, 31, 33, 40, 93, 100, 145])
def test_as_many_frames_as_there_were_each_in_its_place(longtake, tmp_path, frames) -> None:
    suffix = (".mp4", ".mkv", ".ts")[frames % 3]
    source = films.make(tmp_path / f"in{suffix}", frames=frames, b_frames=frames % 3, gop=9)
    target = tmp_path / ("out.mp4" if frames % 2 else "out.mkv")
    upscale(longtake, source, target, "--scale", "2")
    assert [films.read_counter(p) for _, p in shown(target)] == list(range(frames))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("rate", ["24000/1001", "25", "30000/1001", "60", "15/2"])
def test_constant_rates_stay_exactly_what_they_were(longtake, tmp_path, rate, suffix) -> None:
    source = films.make(tmp_path / "in.mp4", frames=40, rate=Fraction(rate), b_frames=2)
    target = tmp_path / f"out{suffix}"
    upscale(longtake, source, target, "--scale", "1.5")
    with av.open(str(target)) as made:
        assert made.streams.video[0].average_rate == Fraction(rate)
    tick = Fraction(1, 1000) if suffix == ".mkv" else Fraction(0)
    for (was, _), (now, _) in zip(shown(source), shown(target), strict=True):
        assert abs(was - now) <= tick


@pytest.mark.parametrize("target_suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("source_suffix", [".mp4", ".mkv"])
def test_variable_rates_and_late_starts_are_kept(
    longtake, tmp_path, source_suffix, target_suffix
) -> None:
    """Mixed 24, 30 and 60 fps, with B-frames, beginning 1.37 s late."""
    base = Fraction(1, 120_000) if source_suffix == ".mp4" else Fraction(1, 1000)
    at, pts = Fraction(137, 100), []
    for i in range(60):
        pts.append(round(at / base))
        at += Fraction(1, (24, 30, 60)[i // 20])
    source = films.make(
        tmp_path / f"in{source_suffix}", frames=60, pts=pts, time_base=base, rate=30, b_frames=2
    )
    target = tmp_path / f"out{target_suffix}"
    upscale(longtake, source, target, "--scale", "2")
    tick = max(base, Fraction(1, 1000)) if ".mkv" in (source_suffix, target_suffix) else base
    was, now = shown(source), shown(target)
    assert len(was) == len(now) == 60
    assert all(abs(a[0] - b[0]) <= tick for a, b in zip(was, now, strict=True))
    assert [films.read_counter(p) for _, p in now] == list(range(60))


def test_sound_and_picture_end_together(longtake, tmp_path) -> None:
    source = films.make(
        tmp_path / "in.mp4", frames=240, rate=Fraction(24000, 1001), sound=True, size=(48, 32)
    )
    target = tmp_path / "out.mp4"
    upscale(longtake, source, target, "--scale", "2")

    def ends(path: Path) -> list[Fraction]:
        with av.open(str(path)) as container:
            return [
                max((p.pts + p.duration) * p.time_base for p in container.demux(s) if p.size)
                for s in (container.streams.video[0],)
            ] + [
                Fraction(container.streams.audio[0].duration * container.streams.audio[0].time_base)
            ]

    for was, now in zip(ends(source), ends(target), strict=True):
        assert abs(was - now) <= Fraction(1, 1000)


@pytest.mark.parametrize("frames", ["0:10", "13:", "20:33"])
def test_a_range_of_frames_with_its_sound(longtake, tmp_path, frames) -> None:
    source = films.make(tmp_path / "in.mkv", frames=40, sound=True, b_frames=2)
    target = tmp_path / "out.mkv"
    upscale(longtake, source, target, "--scale", "2", "--frames", frames)
    first, _, stop = frames.partition(":")
    kept = list(range(int(first), int(stop or 40)))
    made = shown(target)
    assert [films.read_counter(p) for _, p in made] == kept
    assert made[0][0] == shown(source)[0][0]
    with av.open(str(target)) as container:
        sound = sum(f.samples for f in container.decode(audio=0)) / 48000
    assert abs(sound - len(kept) / 25) < 0.06


@pytest.mark.parametrize("size", [(853, 479), (97, 65), (33, 17), (2, 2), (1, 1), (160, 90)])
@pytest.mark.parametrize("scale", ["1.5", "2", "3", "4"])
def test_any_size_at_any_scale_is_whole(longtake, tmp_path, size, scale) -> None:
    if size == (853, 479) and scale in ("3", "4"):
        pytest.skip("two large ones are enough")
    draw = films.texture(size)
    source = films.make(
        tmp_path / "in.mkv", frames=2, size=size, codec="ffv1", pixel_format="yuv444p", picture=draw
    )
    target = tmp_path / "out.mkv"
    upscale(longtake, source, target, "--scale", scale, "--codec", "ffv1")
    made = shown(target)
    height, width = made[0][1].shape[:2]
    assert (width, height) == tuple(round(side * Fraction(scale)) for side in size)


@pytest.mark.parametrize("size", [(853, 479), (97, 65)])
def test_nothing_is_cut_off_at_the_borders(longtake, tmp_path, size) -> None:
    """A frame of one colour around the picture is still there, on all four sides."""
    width, height = size
    picture = np.full((height, width, 3), 90, np.uint8)
    picture[:2], picture[-2:], picture[:, :2], picture[:, -2:] = 235, 235, 235, 235
    source = films.make(
        tmp_path / "in.mkv", frames=2, size=size, codec="ffv1", pixel_format="yuv444p",
        picture=lambda i: picture,
    )  # fmt: skip
    target = tmp_path / "out.mp4"
    upscale(longtake, source, target, "--scale", "2")
    made = shown(target)[0][1].astype(int)
    for side in (made[0], made[-1], made[:, 0], made[:, -1]):
        assert abs(np.median(side) - 235) < 8
    for inside in (made[8], made[-9], made[:, 8], made[:, -9]):
        assert abs(np.median(inside) - 90) < 8


def test_a_height_instead_of_a_scale(longtake, tmp_path) -> None:
    source = films.make(tmp_path / "in.mp4", frames=2, size=(96, 54))
    upscale(longtake, source, tmp_path / "out.mp4", "--height", "108")
    assert shown(tmp_path / "out.mp4")[0][1].shape[:2] == (108, 192)


@pytest.mark.parametrize("depth", ["rgb24", "rgb48be"])
def test_pictures_at_their_own_size_come_back_bit_for_bit(longtake, tmp_path, depth) -> None:
    """N33: names, gaps and every bit."""
    numbers = [7, 8, 10, 11, 30]
    source = films.folder(tmp_path / "in", numbers, name="shot_{:04d}.png", pixel_format=depth)
    upscale(longtake, source, tmp_path / "out", "--height", "64")
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == [f"shot_{n:04d}.png" for n in numbers]
    for name in names:
        with av.open(str(source / name)) as a, av.open(str(tmp_path / "out" / name)) as b:
            was, now = next(a.decode(video=0)), next(b.decode(video=0))
            assert was.format.name == now.format.name == depth
            assert (was.to_ndarray() == now.to_ndarray()).all()


def test_one_picture_is_a_film_of_one_frame(longtake, tmp_path) -> None:
    picture = films.png(tmp_path / "photo.png")
    upscale(longtake, picture, tmp_path / "out", "--scale", "2")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["photo.png"]
    upscale(longtake, picture, tmp_path / "out.mp4", "--scale", "2", "--rate", "30")
    assert len(shown(tmp_path / "out.mp4")) == 1
