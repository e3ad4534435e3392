"""`longtake seams`: known answers, what it advises, and that it leaves nothing behind."""

from __future__ import annotations

import json
import math
import signal
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.runtime import sample
from longtake.runtime.seams import WINDOWS, Likeness, Row, enough
from tests.engines import tiny_flashvsr as tiny
from tests.media import films

SIZE = (96, 64)
BEGIN, FRAMES = 10, 70  # the second shot begins there


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """A hard cut, then a shot without one."""
    made = list(sample.pictures(SIZE, FRAMES))
    return [255 - p if i < BEGIN else p for i, p in enumerate(made)]


@pytest.fixture(scope="module")
def folder(pictures, tmp_path_factory):
    """The pictures as PNG: they are read exactly as they were."""
    path = tmp_path_factory.mktemp("film") / "in"
    return films.folder(path, range(FRAMES), size=SIZE, picture=lambda i: pictures[i])


@pytest.fixture
def seams(job, tmp_path):
    """Run it with a scratch folder of our own, in which it must leave nothing."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def run(*words: object, **environment: str):
        process = job.start("seams", *words, TMPDIR=str(scratch), **environment)
        out, err = process.communicate(timeout=240)
        assert "Traceback" not in err, err
        assert list(scratch.glob("longtake*")) == []
        return process.returncode, json.loads(out)

    return run


def echoed(pictures: list[np.ndarray], start: int, frames: range, memory: int) -> np.ndarray:
    """What the engine with a memory makes of a stream that begins with frame `start`."""
    seen = [pictures[max(start, i - memory) : i + 1] for i in frames]
    return np.stack([np.sum(run, axis=0, dtype=np.uint32) // len(run) for run in seen])


def psnr(error: np.ndarray) -> float:
    return 10 * math.log10(255**2 / np.mean(error))


@pytest.mark.parametrize("memory", [2, 10_000])
def test_the_figures_are_those_of_an_engine_whose_memory_is_known(
    seams, folder, pictures, memory
) -> None:
    flags = ("--height", SIZE[1], "--leads", "2,0,1", "--set", f"endless={memory > 2}")
    code, report = seams(folder, "--engine", "echo", *flags)
    assert code == 0, report
    assert (report["first"], report["seam"], report["stop"]) == (10, 26, 58)
    frames = range(report["seam"], report["stop"])
    whole = echoed(pictures, report["first"], frames, memory).astype(float)
    assert [row["lead"] for row in report["rows"]] == [0, 1, 2]
    for row in report["rows"]:
        off = echoed(pictures, frames.start - row["lead"], frames, memory) - whole
        rgb = np.square(off).mean(axis=(1, 2, 3))
        luma = np.square(off @ [0.2126, 0.7152, 0.0722]).mean(axis=(1, 2))
        assert [x["frames"] for x in row["likeness"]] == list(WINDOWS)
        for told in row["likeness"]:
            for name, error in (("rgb", rgb[: told["frames"]]), ("luma", luma[: told["frames"]])):
                if not error.any():
                    assert told[name] is told[f"{name}_worst"] is None
                    continue
                assert told[name] == pytest.approx(psnr(error), abs=1e-3)
                assert told[f"{name}_worst"] == pytest.approx(psnr(error.max()), abs=1e-3)
        assert row["work"] == row["frames"] / row["segment_frames"] == row["lead"] / 40
    assert report["enough"] == (2 if memory == 2 else None)


def test_where_memory_runs_out_the_figures_stay_the_same(seams, folder) -> None:
    flags = ("--engine", "echo", "--height", SIZE[1], "--leads", "0,1")
    _, straight = seams(folder, *flags)
    code, report = seams(folder, *flags, LONGTAKE_FAULT="oom:compute:1")
    assert code == 0, report
    assert report["rows"] == straight["rows"]
    (told,) = set(report["notes"]) - set(straight["notes"])
    assert "with less memory" in told


def test_an_engine_without_memory_can_be_cut_anywhere(seams, longtake, folder) -> None:
    code, report = seams(folder, "--engine", "resize", "--scale", "2")
    assert code == 0, report
    (row,) = report["rows"]
    assert all(x["rgb_worst"] is None and x["luma"] is None for x in row["likeness"])
    assert (report["enough"], row["work"]) == (0, 0)
    done = longtake("seams", folder, "--engine", "resize", "--scale", "2", COLUMNS="80")
    assert "a cut costs nothing" in done.stdout
    assert "identical" in done.stdout
    assert "…" not in done.stdout  # the table has room


def test_where_nothing_is_enough_it_says_what_comes_near(longtake, job, folder) -> None:
    words = ("--engine", "echo", "--height", SIZE[1], "--leads", "0,1", "--bound", "60")
    done = longtake("seams", folder, *words, **job.environment)
    assert done.returncode == 0, done.stderr
    assert "none gets the worst frame to 60 dB. 1 gives" in done.stdout


def test_flashvsr_forgets(seams, tmp_path) -> None:
    weights = tiny.make(tmp_path / "flashvsr-v1.1")
    source = sample.film(tmp_path / "in.mp4", (32, 24), 120)
    flags = ("--engine", "flashvsr", "--scale", "2", "--set", f"folder={weights}", "dtype=float32",
             "--history", "6", "--leads")  # fmt: skip
    code, report = seams(source, *flags, "0,1,4", "--bound", "40")
    assert code == 0, report
    assert (report["step"], report["own"], report["seam"] - report["first"]) == (8, 3, 48)
    worst = [row["likeness"][-1]["rgb_worst"] for row in report["rows"]]
    assert worst[0] + 5 < worst[1] < 40 < worst[2]
    assert report["enough"] == 4
    assert [row["work"] for row in report["rows"]] == [0, 8 / 240, 32 / 640]
    code, report = seams(source, *flags, "17", "--history", "18")
    assert (code, report["error"]) == (2, "Usage")
    assert "lead=17: outside 0 .. 16" in report["message"]


def test_missing_weights_are_named_with_the_command_that_fetches_them(
    seams, folder, tmp_path
) -> None:
    code, report = seams(folder, "--engine", "flashvsr", LONGTAKE_WEIGHTS=str(tmp_path / "none"))
    assert code == 2
    assert report["message"].endswith("Run: longtake weights pull flashvsr-v1.1")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--history", "8"), "longest lead, which is 8"),
        (("--at", "f40"), "no shot of 48 frames lies in frames 40:70"),
        (("--at", "f71"), "begins behind the end"),
        (("--deinterlace", "ivtc"), "by the whole film"),
        (("--set", "lead=1"), "no knob 'lead'"),
    ],
)
def test_what_cannot_be_measured_is_refused(seams, folder, flags, words) -> None:
    code, report = seams(folder, "--engine", "echo", "--height", SIZE[1], *flags)
    assert code == 2
    assert words in report["message"]


def test_stopped_it_leaves_nothing(job, folder, tmp_path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    words = ("seams", folder, "--engine", "echo", "--leads", ",".join(map(str, range(16))),
             "--history", "16", "--scale", "4")  # fmt: skip
    process = job.start(*words, TMPDIR=str(scratch))
    while not any(scratch.glob("longtake*/*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, json.loads(out)["message"]) == (
        130,
        "Stopped. Nothing is left behind.",
    )
    assert list(scratch.glob("longtake*")) == []


def row_of(lead: int, worst: float | None) -> Row:
    one = Likeness(frames=8, luma=None, luma_worst=None, rgb=worst, rgb_worst=worst)
    return Row(lead=lead, frames=lead, segment_frames=240, work=lead / 240, likeness=(one,))


@given(st.lists(st.none() | st.floats(10, 90), min_size=1, max_size=6), st.floats(20, 80))
def test_what_is_enough_stays_enough(worst, bound) -> None:
    rows = [row_of(lead, x) for lead, x in enumerate(worst)]
    good = [x is None or x >= bound for x in worst]
    found = enough(rows, bound)
    if found is None:
        assert not good[-1]
    else:
        assert all(good[found:])
        assert found == 0 or not good[found - 1]
