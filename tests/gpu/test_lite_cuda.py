"""`lite` on a GPU: the law holds there too, and the plan says what it needs."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest

from tests.faults.test_law import pixels, plan_text
from tests.media import films

pytestmark = pytest.mark.gpu
FLAGS = ("--engine", "lite", "--scale", "4", "--devices", "cuda:0", "--set", "segment_frames=24")


@pytest.mark.parametrize("step", [1, 3])
def test_frames_per_step_do_not_matter(job, film, tmp_path, straight, step) -> None:
    whole, target = straight(*FLAGS), tmp_path / "out.mp4"
    plan = json.loads(plan_text(job, film, target, *FLAGS))
    assert plan["recipe"]["numerics"]["device"] == "cuda"
    plan["placement"]["step"] = step
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    assert job("run", tmp_path / "plan.json").code == 0
    assert target.read_bytes() == whole


def test_killed_and_resumed_is_straight(job, film, tmp_path, straight) -> None:
    whole, target = straight(*FLAGS), tmp_path / "out.mp4"
    job.stopped(
        lambda e: e["event"] == "segment_done", signal.SIGKILL, "upscale", film, target, *FLAGS
    )
    done = job("upscale", film, target, *FLAGS)
    assert done.code == 0, done.last
    assert target.read_bytes() == whole


def test_the_gpu_gives_the_picture_of_the_cpu(job, tmp_path) -> None:
    source = films.make(tmp_path / "in.mkv", frames=3, codec="ffv1")
    flags = ("--scale", "4", "--codec", "ffv1", "--set", "dtype=float32")
    for name in ("cpu", "cuda:0"):
        done = job("upscale", source, tmp_path / f"{name[:3]}.mkv", *flags, "--devices", name)
        assert done.code == 0, done.last
    error = pixels(tmp_path / "cpu.mkv").astype(float) - pixels(tmp_path / "cud.mkv")
    assert 10 * np.log10(255**2 / max((error**2).mean(), 1e-9)) > 50


@pytest.mark.parametrize("size", [(320, 180), (640, 360), (1280, 720), (1920, 1080)])
def test_predicted_memory_holds(job, tmp_path, size) -> None:
    source = films.make(tmp_path / "in.mp4", frames=12, size=size)
    done = job("upscale", source, tmp_path / "out.mp4", *FLAGS[:-2], "--codec", "x264")
    assert done.code == 0, done.last
    ratio = done.last["predicted_vram"] / done.last["peak_vram"]
    assert 0.97 <= ratio <= 1.15, done.last
