"""Interrupted and resumed == straight, byte for byte, whatever interrupted it."""

from __future__ import annotations

import random
import signal

import pytest

# eight segments of at most 16 frames, and engine `echo`, whose pixels show every lost warm-up
FLAGS = ("--engine", "echo", "--scale", "2", "--set", "segment_frames=40")
SHORT = ("--engine", "resize", "--scale", "2", "--set", "segment_frames=12")


def hurt(job, film, target, flags, frames, how=signal.SIGKILL):
    return job.stopped(
        lambda e: e["event"] == "advanced" and e["frames"] >= frames, how,
        "upscale", film, target, *flags,
    )  # fmt: skip


def kills(job, film, target, flags, times: int, seed: int) -> None:
    """Kill one job again and again, then let it finish; committed work is never done again."""
    draw = random.Random(seed)
    done = 0
    for _ in range(times):
        hurt_at = draw.randrange(done, 88)
        outcome = hurt(job, film, target, flags, hurt_at)
        assert not target.exists()
        started = outcome.named("started")
        if started:
            first = outcome.named("advanced")[0]["frames"]
            assert first >= done, "a committed segment was made again"
        committed = [e["stop"] for e in outcome.named("segment_done")]
        done = max([done, *committed])
    last = job("upscale", film, target, *flags)
    assert last.code == 0, last.events[-1]
    assert last.named("advanced")[0]["frames"] >= done


@pytest.mark.parametrize("flags", [FLAGS, SHORT], ids=["echo", "resize"])
def test_killed_three_times_and_resumed_is_straight(job, film, tmp_path, straight, flags) -> None:
    whole = straight(*flags)
    kills(job, film, tmp_path / "out.mp4", flags, times=3, seed=len(flags[1]))
    assert (tmp_path / "out.mp4").read_bytes() == whole
    assert not (tmp_path / "out.mp4.longtake").exists()


@pytest.mark.long
@pytest.mark.parametrize("engine", ["echo", "lite"])
def test_killed_twenty_times_and_resumed_is_straight(job, film, tmp_path, straight, engine) -> None:
    flags = ("--engine", engine, "--scale", "2", "--set", "segment_frames=40")
    whole = straight(*flags)
    kills(job, film, tmp_path / "out.mp4", flags, times=20, seed=5)
    assert (tmp_path / "out.mp4").read_bytes() == whole


@pytest.mark.parametrize(
    ("how", "code", "words"),
    [(signal.SIGINT, 130, "Stopped"), (signal.SIGTERM, 143, "Stopped")],
)
def test_a_polite_stop_says_so_and_resumes(job, film, tmp_path, straight, how, code, words) -> None:
    whole, target = straight(*SHORT), tmp_path / "out.mp4"
    # the decode of 90 tiny frames is quick: stop at the first frame, while segments are left
    stopped = hurt(job, film, target, SHORT, 1, how)
    assert stopped.code == code, stopped.events[-1]
    assert words in stopped.message
    assert stopped.last["exit_code"] == code
    assert not target.exists()
    again = job("upscale", film, target, *SHORT)
    assert again.code == 0
    assert target.read_bytes() == whole


def test_a_kill_during_the_analysis(job, film, tmp_path, straight) -> None:
    whole, target = straight(*SHORT), tmp_path / "out.mp4"
    job.stopped(lambda e: e["event"] == "analysed", signal.SIGKILL, "upscale", film, target, *SHORT)
    assert job("upscale", film, target, *SHORT).code == 0
    assert target.read_bytes() == whole


@pytest.mark.parametrize("stage", ["joined", "verified"])
def test_a_kill_while_joining_or_verifying(job, film, tmp_path, straight, stage) -> None:
    whole, target = straight(*SHORT), tmp_path / "out.mp4"
    job.stopped(lambda e: e["event"] == stage, signal.SIGKILL, "upscale", film, target, *SHORT)
    again = job("upscale", film, target, *SHORT)
    if again.code == 0:
        assert again.named("advanced")[0]["frames"] == 90
        assert not again.named("segment_done")
    else:  # the kill came after the target had appeared
        assert "exists already" in again.message
    assert target.read_bytes() == whole


def test_a_png_job_is_resumed(job, film, tmp_path) -> None:
    straight, target = tmp_path / "straight", tmp_path / "out"
    assert job("upscale", film, straight, *SHORT).code == 0
    hurt(job, film, target, SHORT, 40)
    assert not target.exists()
    assert job("upscale", film, target, *SHORT).code == 0
    names = sorted(p.name for p in straight.iterdir())
    assert len(names) == 90
    assert names == sorted(p.name for p in target.iterdir())
    assert all((straight / n).read_bytes() == (target / n).read_bytes() for n in names)
