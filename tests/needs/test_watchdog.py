"""Work that is slow in silence, and memory that runs short: told with numbers, moved where that can
help, and the film's bytes are those of a run that nothing disturbed.

The clock is one that faults move: what is measured does not depend on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.engines import tiny_flashvsr
from tests.jobs import PLUGINS, Command, Outcome
from tests.media import films
from tests.needs.test_generate import asked, block_files, folder_of, plan_of

STEADY = "tick:compute:999"
LATE = "tick:compute:9,slow:compute:5,tick:compute:999"
PLACE = ("--place", "step=8", "queue=2")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("weights")
    return {
        "wan": folder_of(root, "t2v-1.3b"),
        "flashvsr": tiny_flashvsr.make(root / "flashvsr-v1.1"),
    }


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """120 frames in one shot."""
    frames = tiny_flashvsr.film(120, (32, 24))
    return films.make(
        tmp_path_factory.mktemp("film") / "film.mkv", frames=120, size=(32, 24), codec="ffv1",
        pixel_format="yuv444p", picture=lambda i: frames[i],
    )  # fmt: skip


Words = Callable[..., list[str]]


@pytest.fixture(scope="module")
def words(weights, source) -> Words:
    """The command line of a film by an engine, of 12 steps or chunks at least."""

    def asking(engine: str, target: Path, *more: str) -> list[str]:
        if engine == "wan":
            return asked(weights["wan"], target, "steps=12", *more)
        knobs = ["segment_frames=400"]
        if engine == "flashvsr":
            knobs += [f"folder={weights['flashvsr']}", "lead=1"]
        flags = "--scale 2 --codec ffv1 --devices cpu --assume-color bt709-limited --set"
        return ["upscale", str(source), str(target), "--engine", engine, *flags.split(), *knobs,
                *more]  # fmt: skip

    return asking


@pytest.fixture(params=["echo", "flashvsr", "wan"])
def engine(request) -> str:
    return str(request.param)


def done(job: Command, words: list[str], faults: str) -> Outcome:
    ended = job(*words, LONGTAKE_FAULT=faults)
    assert ended.code == 0, ended.last
    return ended


@pytest.fixture(scope="module")
def whole(words, tmp_path_factory) -> Callable[[str], bytes]:
    """The bytes of a film that nothing disturbed; the machine learns nothing from it."""

    @cache
    def run(engine: str) -> bytes:
        folder = tmp_path_factory.mktemp("whole")
        elsewhere = {"LONGTAKE_CACHE": str(folder), "PYTHONPATH": str(PLUGINS)}
        quiet = done(Command(elsewhere), words(engine, folder / "film.mkv"), STEADY)
        assert seen(quiet) == []
        return (folder / "film.mkv").read_bytes()

    return run


def seen(ended: Outcome) -> list[tuple[str, ...]]:
    """What was told once the work had begun, in order: (event, cause or reason)."""
    kinds = {"slowed": "cause", "replanned": "reason", "warned": "message"}
    begun = [e["event"] for e in ended.events].index("started")
    told = [e for e in ended.events[begun:] if e["event"] in kinds]
    return [(e["event"], e[kinds[e["event"]]]) for e in told]


def test_slow_steps_are_told_with_numbers_and_the_film_is_the_same(
    job, words, whole, engine, tmp_path
) -> None:
    target = tmp_path / "film.mkv"
    slowed = done(job, words(engine, target), LATE)
    assert seen(slowed) == [("slowed", "unknown")]
    (event,) = slowed.named("slowed")
    assert event["of"] == "start"
    assert event["unit"] == ("step" if engine == "wan" else "frame")
    assert event["seconds"] > 1.5 * event["expected"] > 0
    assert f"{event['expected']:.3g} s of the first ones" in event["message"]
    assert target.read_bytes() == whole(engine)


def test_one_slow_step_is_none(job, words, tmp_path) -> None:
    """Only two in a row count."""
    once = "tick:compute:9,slow:compute:1,tick:compute:3,slow:compute:1,tick:compute:999"
    assert seen(done(job, words("echo", tmp_path / "film.mkv"), once)) == []


def test_where_the_system_swaps_the_job_goes_on_with_less_memory(
    job, words, whole, engine, tmp_path
) -> None:
    target = tmp_path / "film.mkv"
    moved = done(job, words(engine, target), f"{LATE},swapping:host:999,slow:compute:99")
    told = seen(moved)
    assert [event for event, _ in told] == ["slowed", "replanned"]  # and never again
    assert told[0][1] == "RAM"
    assert "came back from the swap space" in told[1][1]
    assert target.read_bytes() == whole(engine)


def test_what_the_plan_says_counts_where_it_knows(job, words, tmp_path) -> None:
    """The second film is slow from its first step on, so its own steps tell nothing."""
    done(job, words("echo", tmp_path / "first.mkv"), STEADY)
    late = done(job, words("echo", tmp_path / "second.mkv"), "slow:compute:99,tick:compute:99")
    (event,) = late.named("slowed")
    assert event["of"] == "plan"
    assert event["expected"] == pytest.approx(1 / 8, rel=0.1)  # a clip of 8 frames took 1 s
    assert event["seconds"] == pytest.approx(10 / 8)


@pytest.mark.parametrize("engine", ["echo", "wan"])
def test_memory_that_runs_short_is_given_back_before_it_is_gone(
    job, words, whole, engine, tmp_path
) -> None:
    target = tmp_path / "film.mkv"
    short = done(job, words(engine, target), f"{STEADY},short:host:99")
    ((event, reason),) = seen(short)
    assert event == "replanned"
    assert reason.startswith("0 B of RAM are free")
    assert target.read_bytes() == whole(engine)


def test_what_the_user_has_placed_stays_and_that_is_said(job, words, whole, tmp_path) -> None:
    target, undisturbed = tmp_path / "film.mkv", whole("echo")
    faults = f"{LATE},swapping:host:999"
    kept = done(job, words("echo", target, *PLACE), faults)
    assert [event for event, _ in seen(kept)] == ["slowed"]
    (event,) = kept.named("slowed")
    assert "would help, but --place step=8 queue=2 stands" in event["message"]
    assert target.read_bytes() == undisturbed
    target.unlink()
    kept = done(job, words("echo", target, *PLACE), f"{STEADY},short:host:99")
    ((event, message),) = seen(kept)
    assert event == "warned"
    assert "--place step=8 queue=2 stands" in message
    assert target.read_bytes() == undisturbed


def test_where_nothing_needs_less_that_is_said_once(job, words, tmp_path) -> None:
    target = tmp_path / "film.mkv"
    faults = f"{STEADY},short:host:99"
    ended = done(job, words("echo", target, "--place", "queue=1", "step=1"), faults)
    ((event, message),) = seen(ended)
    assert event == "warned"
    assert "No placement needs less" in message
    assert "what is done is kept" in message


def test_a_slow_disk_is_told_and_what_fits_is_kept_in_memory(
    job, whole, tmp_path_factory, tmp_path
) -> None:
    """Blocks that are read anew in every step, by a plan and not by `--place`."""
    folder = block_files(tmp_path_factory.mktemp("blocks"), "none")
    target, stored = tmp_path / "film.mkv", tmp_path / "plan.json"
    plan = plan_of(*asked(folder, target, "steps=12"), "--place", "offload=disk")
    stored.write_text(json.dumps(plan))
    faults = f"{LATE},stalled:disk:999"
    moved = done(job, ["run", str(stored)], faults)
    (slowed, replanned) = seen(moved)
    assert slowed == ("slowed", "disk")
    assert "waiting for weights to be read" in replanned[1]
    assert moved.named("replanned")[0]["placement"]["offload"] == "resident"
    assert target.read_bytes() == whole("wan")


def test_worker_processes_are_watched_too(job, words, tmp_path) -> None:
    target = tmp_path / "film.mkv"
    many = words("echo", target, "--devices", "cpu:0,1")
    many[many.index("segment_frames=400")] = "segment_frames=60"
    ended = done(job, many, f"{STEADY},short:host:99")
    assert {event for event, _ in seen(ended)} == {"replanned"}
