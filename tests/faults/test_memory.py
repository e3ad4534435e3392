"""When memory runs out: the next rung, the same bytes. And memory does not grow with the film."""

from __future__ import annotations

import pytest

from tests.media import films

FLAGS = ("--scale", "2", "--set", "segment_frames=30")


@pytest.mark.parametrize("engine", ["resize", "echo", "lite"])
def test_an_injected_out_of_memory_goes_down_the_ladder(job, film, tmp_path, straight, engine):
    flags = ("--engine", engine, "--scale", "2", "--set", "segment_frames=40")
    whole, target = straight(*flags), tmp_path / "out.mp4"
    done = job("upscale", film, target, *flags, LONGTAKE_FAULT="oom:compute:3")
    assert done.code == 0, done.last
    placements = [e["placement"] for e in done.named("replanned")]
    assert len(placements) == 3
    frugal = [p["step"] * p["queue"] for p in placements]
    assert frugal == sorted(frugal, reverse=True)
    assert len(set(frugal)) == 3
    assert target.read_bytes() == whole


def test_a_ladder_without_an_end_ends(job, film, tmp_path) -> None:
    target = tmp_path / "out.mp4"
    done = job(
        "upscale", film, target, *FLAGS, "--engine", "resize", LONGTAKE_FAULT="oom:compute:99"
    )
    assert done.code == 4
    assert "most frugal placement" in done.message
    assert not target.exists()
    assert job("upscale", film, target, *FLAGS, "--engine", "resize").code == 0


def test_out_of_memory_in_a_worker_process(job, film, tmp_path, straight) -> None:
    flags = ("--engine", "echo", "--scale", "2", "--set", "segment_frames=40")
    whole, target = straight(*flags), tmp_path / "out.mp4"
    done = job(
        "upscale", film, target, *flags, "--devices", "cpu:0,1", LONGTAKE_FAULT="oom:compute:1"
    )
    assert done.code == 0, done.last
    assert done.named("replanned")
    assert target.read_bytes() == whole


def test_nan_is_tried_once_more_and_then_named(job, film, tmp_path, straight) -> None:
    flags = ("--engine", "lite", "--scale", "2", "--set", "segment_frames=30")
    whole, target = straight(*flags), tmp_path / "out.mp4"
    once = job("upscale", film, target, *flags, LONGTAKE_FAULT="nan:values:1")
    assert once.code == 0
    assert "made once more" in once.named("warned")[-1]["message"]
    assert target.read_bytes() == whole
    target.unlink()
    always = job("upscale", film, target, *flags, LONGTAKE_FAULT="nan:values:99")
    assert always.code == 1
    assert "Segment 0, twice" in always.message
    assert not target.exists()


TURNS = 6


def flat(job, tmp_path, lengths, *flags) -> None:
    """The longer film needs at most 5 % more. What else runs beside a job moves its peak by as
    much, and only upwards for what counts here: the lowest peak of each length is compared, after
    two turns and, where that is not yet enough, after more."""
    found: dict[int, list[int]] = {frames: [] for frames in lengths}
    for frames in lengths:
        films.make(tmp_path / f"{frames}.mp4", frames=frames, size=(64, 36), gop=60)
    for turn in range(TURNS):
        for frames, made in found.items():
            source, target = tmp_path / f"{frames}.mp4", tmp_path / f"out{frames}_{turn}.mkv"
            done = job("upscale", source, target, "--scale", "2", *flags)
            assert done.code == 0, done.last
            assert done.last["frames"] == frames
            made.append(done.last["peak_ram"])
        short, long = (min(made) for made in found.values())
        if turn and long <= 1.05 * short:
            return
    pytest.fail(f"{found}")


def test_memory_is_flat_in_length(job, tmp_path) -> None:
    """N1: twenty times the film, no more memory."""
    flat(job, tmp_path, (900, 18_000), "--engine", "resize")


@pytest.mark.long
def test_memory_is_flat_in_length_with_the_built_in_model(job, tmp_path) -> None:
    flat(job, tmp_path, (900, 18_000), "--engine", "lite")
