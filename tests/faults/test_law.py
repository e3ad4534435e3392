"""An output frame depends on recipe, seed and position only: not on how the work was divided."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.media import films

ECHO = ("--engine", "echo", "--scale", "2", "--set", "segment_frames=40")


def plan_text(job, film, target, *flags) -> str:
    process = job.start("plan", "upscale", film, target, *flags)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out


@pytest.mark.parametrize("step", [1, 3, 8])
def test_frames_per_step_do_not_matter(job, film, tmp_path, straight, step) -> None:
    whole, target = straight(*ECHO), tmp_path / "out.mp4"
    plan = json.loads(plan_text(job, film, target, *ECHO))
    plan["placement"]["step"] = step
    stored = tmp_path / "plan.json"
    stored.write_text(json.dumps(plan))
    done = job("run", stored)
    assert done.code == 0, done.last
    assert target.read_bytes() == whole


def test_two_processes_are_one(job, film, tmp_path, straight) -> None:
    whole, target = straight(*ECHO), tmp_path / "out.mp4"
    done = job("upscale", film, target, *ECHO, "--devices", "cpu:0,1")
    assert done.code == 0, done.last
    assert target.read_bytes() == whole


def test_segments_made_in_any_order_and_by_anyone(job, film, tmp_path, straight) -> None:
    """Killed under two processes, finished by one: the parts mix."""
    whole, target = straight(*ECHO), tmp_path / "out.mp4"
    job.stopped(
        lambda e: e["event"] == "segment_done", signal.SIGKILL,
        "upscale", film, target, *ECHO, "--devices", "cpu:0,1",
    )  # fmt: skip
    done = job("upscale", film, target, *ECHO)
    assert done.code == 0, done.last
    assert done.named("started")[0]["resumed"] >= 1
    assert target.read_bytes() == whole


@pytest.mark.parametrize("engine", ["resize", "lite"])
def test_five_runs_are_equal(job, film, tmp_path, engine) -> None:
    made = []
    for i in range(5):
        target = tmp_path / f"{i}.mp4"
        flags = ("--engine", engine, "--scale", "2", "--frames", "0:30")
        assert job("upscale", film, target, *flags).code == 0
        made.append(target.read_bytes())
    assert len(set(made)) == 1


def pixels(path: Path) -> np.ndarray:
    import av

    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def test_no_trace_of_the_shot_before_a_cut(job, tmp_path) -> None:
    """N27: a hard cut every 13 frames, under an engine that mixes earlier frames in."""
    size = (96, 64)
    source = tmp_path / "cuts.mkv"
    films.make(
        source, frames=65, size=size, codec="ffv1", picture=films.shots(size, [13] * 5, seed=3)
    )
    flags = ("--scale", "1.5", "--codec", "ffv1", "--engine", "echo")
    with_memory, without = tmp_path / "with.mkv", tmp_path / "without.mkv"
    done = job("upscale", source, with_memory, *flags)
    assert done.code == 0, done.last
    assert done.named("started")[0]["cuts"] == [13, 26, 39, 52]
    assert job("upscale", source, without, *flags, "--set", "memory=no").code == 0
    # every shot is a still: an engine that mixes only frames of one shot changes nothing
    assert (pixels(with_memory) == pixels(without)).all()


def test_cutting_a_shot_changes_nothing(job, tmp_path) -> None:
    """The lead hides where segments meet: many segments == one."""
    size = (96, 64)
    tall = films.texture((96, 80))  # without the strip that holds the counter: no cut in sight
    source = films.make(
        tmp_path / "shot.mkv", frames=120, size=size, codec="ffv1", picture=lambda i: tall(i)[12:76]
    )
    flags = ("--scale", "1.5", "--codec", "ffv1", "--engine", "echo", "--set")
    many, one = tmp_path / "many.mkv", tmp_path / "one.mkv"
    done = job("upscale", source, many, *flags, "segment_frames=40")
    assert done.named("started")[0]["segments"] == 3
    assert job("upscale", source, one, *flags, "segment_frames=120").code == 0
    assert (pixels(many) == pixels(one)).all()
