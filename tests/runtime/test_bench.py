"""What `longtake bench` reckons with, without running anything long."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import islice

import av
import numpy as np
import pytest

from longtake.core.media import Clip
from longtake.core.plan import Segment
from longtake.core.task import Limits
from longtake.media.beginning import beginning
from longtake.media.probe import probe
from longtake.runtime import alone, bench, sample
from tests.media import films
from tests.plans import a_machine, a_plan


def test_frames_to_feed_an_encoder_never_jump() -> None:
    """Forwards and backwards: neighbours differ by one step at most, and numbers run on."""
    made = [
        Clip(pixels=np.arange(i, i + 4, dtype=np.uint8)[:, None, None, None], start=i)
        for i in (0, 4, 8)
    ]
    segment = Segment(index=1, lead=30, start=30, stop=80)
    *clips, end = alone._to_and_fro(segment, made)
    assert end is None
    assert clips[0].start == 30
    assert [c.start for c in clips[1:]] == [c.stop for c in clips[:-1]]
    assert clips[-1].stop == 80
    shown = np.concatenate([c.pixels for c in clips]).ravel().astype(int)
    assert len(shown) == 50
    assert set(shown) == set(range(12))
    assert np.abs(np.diff(shown)).max() == 1


def test_steady_leaves_out_what_came_before_the_first_frames() -> None:
    run = bench._Run(finished={"frames": 108, "fps": 9.0}, first=5.0, given=8, last=15.0, wall=20.0)
    assert run.steady == pytest.approx(10)
    one_clip = replace(run, given=108)
    assert one_clip.steady == 9


def test_a_busy_machine_and_a_short_film_are_said() -> None:
    wish = bench.Wish(task=a_plan().task, limits=Limits(), frames=100)
    two = a_machine(cores=2)
    assert list(bench._notes(wish, 100, two, 0.4)) == []
    short, busy = bench._notes(wish, 60, two, 1.7)
    assert "60 frames; 100 were asked for" in short
    assert "1.7 of 2 cores" in busy


def test_a_speed_is_the_median_of_its_runs() -> None:
    runs = iter([(10, 1.0, 2.0), (10, 5.0, 1.0), (10, 2.0, 3.0)])
    speed = alone.speed(3, lambda: next(runs))
    assert speed.fps == 5
    assert speed.runs == (10, 2, 5)
    assert speed.core_ms == 200


def test_the_made_film_moves_and_is_the_same_each_time(tmp_path) -> None:
    for name in ("a.mp4", "b.mp4"):
        sample.film(tmp_path / name, (96, 64), 10)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    first, second, third = islice(sample.pictures((96, 64), 3), 3)
    assert first.shape == (64, 96, 3)
    for a, b in ((first, second), (second, third)):
        assert 0.5 < np.abs(a.astype(int) - b).mean() < 60


# --- the beginning of a film ---------------------------------------------------------------------


def frames_of(path) -> list[np.ndarray]:
    with av.open(str(path)) as film:
        return [f.to_ndarray(format="rgb24") for f in film.decode(video=0)]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi"])
def test_the_beginning_is_the_film_that_one_knows(tmp_path, suffix) -> None:
    source = films.make(tmp_path / f"in{suffix}", frames=120, gop=12, b_frames=2, sound=True)
    (tmp_path / "new").mkdir()
    made = beginning(probe(source, None), tmp_path / "new", 30)
    found, whole = frames_of(made), frames_of(source)
    assert 30 <= len(found) <= 120
    for a, b in zip(found[:30], whole, strict=False):
        assert (a == b).all()
    if suffix != ".avi":
        assert len(found) < 60
        with av.open(str(made)) as film:
            assert len(film.streams) == 1


def test_a_shorter_film_is_taken_whole(tmp_path) -> None:
    source = films.make(tmp_path / "in.mp4", frames=9)
    (tmp_path / "new").mkdir()
    assert len(frames_of(beginning(probe(source, None), tmp_path / "new", 500))) == 9


def test_the_beginning_of_a_folder_of_pictures(tmp_path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for i, picture in enumerate(sample.pictures((32, 16), 12)):
        frame = av.VideoFrame.from_ndarray(picture, "rgb24")
        context = av.CodecContext.create("png", "w")
        context.width, context.height, context.pix_fmt = 32, 16, "rgb24"
        context.time_base = Fraction(1, 24)
        packets = [*context.encode(frame), *context.encode(None)]
        (folder / f"{i:03d}.png").write_bytes(b"".join(bytes(p) for p in packets))
    (tmp_path / "new").mkdir()
    made = beginning(probe(folder, None), tmp_path / "new", 5)
    assert sorted(p.name for p in made.iterdir()) == [f"{i:03d}.png" for i in range(5)]
    assert probe(made, None).frames == 5
