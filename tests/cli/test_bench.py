"""`longtake bench`: what it says, that it leaves nothing behind, and how it ends when it cannot."""

from __future__ import annotations

import json
import signal
import time

import pytest

from tests.media import films

SHORT = ("--seconds", "0.2", "--repeats", "2", "--frames", "24")


@pytest.fixture
def bench(longtake, tmp_path):
    """Run it with a scratch folder of our own; its outcome, and what it left there."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def run(*words: object):
        done = longtake(
            "bench", *words, TMPDIR=str(scratch), LONGTAKE_CACHE=str(tmp_path / "cache")
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert list(scratch.iterdir()) == []
        return done

    return run


def test_the_report_adds_up(bench) -> None:
    """N29: end to end and each stage, in one value."""
    done = bench("--engine", "resize", "--size", "64x36", "--scale", "2", "--json", *SHORT)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["frames"] == 24
    assert (report["source"], report["target"]) == ([64, 36], [128, 72])
    assert sorted(report["stages"]) == ["compute", "decode", "encode"]
    for speed in [*report["stages"].values(), report["steady"], report["command"]]:
        assert len(speed["runs"]) == 2
        assert min(speed["runs"]) <= speed["fps"] <= max(speed["runs"])
        assert speed["fps"] > 0
    alone = {name: speed["fps"] for name, speed in report["stages"].items()}
    assert report["slowest"] == min(alone, key=alone.__getitem__)
    expected = report["steady"]["fps"] / alone[report["slowest"]]
    assert report["share"] == pytest.approx(expected)
    assert report["command"]["fps"] < report["steady"]["fps"]  # start, analysis, join and verify
    assert 0 < report["starting"] < report["seconds"]
    assert set(report["busy"]) == {"decode", "compute", "encode"}
    assert report["predicted_ram"] > 0
    assert 20 << 20 < report["peak_ram"] < 400 << 20
    assert report["peak_vram"] is None
    assert report["versions"].keys() >= {"longtake", "python", "av", "numpy"}


def test_the_table_names_every_stage_and_the_share(bench) -> None:
    done = bench("--engine", "resize", "--size", "64x36", "--scale", "2", *SHORT)
    assert done.returncode == 0, done.stderr
    for words in ("decoding alone", "model alone", "encoding alone", "job, steady", "predicted"):
        assert words in done.stdout
    assert "the slowest stage" in done.stdout


def test_a_film_of_the_user_is_measured_and_left_alone(bench, tmp_path) -> None:
    source = films.make(tmp_path / "in.mp4", frames=20, sound=True)
    before = (source.read_bytes(), sorted(p.name for p in tmp_path.iterdir()))
    done = bench(
        source, "--engine", "resize", "--codec", "ffv1", "--scale", "2", "--json",
        "--set", "segment_frames=12", *SHORT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    report = json.loads(done.stdout)
    assert report["film"] == str(source)
    assert report["encoder"].startswith("ffv1")
    assert report["frames"] == 20
    assert "The film has 20 frames; 24 were asked for." in report["notes"]
    assert report["segments"] >= 2
    assert source.read_bytes() == before[0]
    assert {p.name for p in tmp_path.iterdir()} - {"cache"} == set(before[1]) - {"cache"}


def test_the_number_of_frames_is_found(bench) -> None:
    done = bench(
        "--engine", "resize", "--size", "32x18", "--scale", "2", "--seconds", "0.1",
        "--repeats", "1", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert 24 <= json.loads(done.stdout)["frames"] <= 1200


def test_the_figures_teach_the_calibration(bench, tmp_path) -> None:
    done = bench("--engine", "resize", "--size", "64x36", "--json", *SHORT)
    assert done.returncode == 0
    stored = json.loads((tmp_path / "cache" / "calibration.json").read_text())
    assert any(key.startswith("resize|") for key in stored["rates"])


def test_two_processes_are_measured_against_two_of_the_slowest_stage(bench) -> None:
    done = bench(
        "--engine", "resize", "--size", "64x36", "--devices", "cpu:0,1", "--json",
        "--set", "segment_frames=8", *SHORT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    report = json.loads(done.stdout)
    assert report["devices"] == ["cpu:0", "cpu:1"]
    slowest = report["stages"][report["slowest"]]["fps"]
    assert report["share"] == pytest.approx(report["steady"]["fps"] / (2 * slowest))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--size", "65x36"), "even numbers"),
        (("--size", "large"), "is not a size"),
        (("--repeats", "0"), "--repeats 0"),
        (("--seconds", "nan"), "--seconds"),
        (("--frames", "0"), "--frames 0"),
        (("missing.mp4",), "no such file"),
        (("--engine", "nothing"), "nothing"),
        (("--codec", "x264", "--crf", "99"), "--crf 99"),
    ],
)
def test_what_cannot_be_measured_is_said(bench, words, says) -> None:
    done = bench(*words, "--seconds", "0.2") if "--seconds" not in words else bench(*words)
    assert done.returncode == 2
    assert says in done.stdout + done.stderr


def test_what_does_not_fit_does_not_begin(bench) -> None:
    done = bench("--engine", "resize", "--ram", "10M", *SHORT)
    assert done.returncode == 4
    assert "--ram" in done.stderr


def test_a_job_that_fails_ends_it_with_the_job_s_own_words(longtake, tmp_path) -> None:
    done = longtake(
        "bench", "--engine", "resize", "--size", "64x36", *SHORT,
        LONGTAKE_FAULT="oom:compute:99", TMPDIR=str(tmp_path),
        LONGTAKE_CACHE=str(tmp_path / "cache"),
    )  # fmt: skip
    assert done.returncode == 4
    assert "most frugal placement" in done.stderr
    assert [p.name for p in tmp_path.iterdir() if p.name != "cache"] == []


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_it_leaves_nothing_behind(job, tmp_path, how, code) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    process = job.start(
        "bench", "--engine", "resize", "--size", "320x180", "--frames", "400", TMPDIR=str(scratch)
    )
    for _ in range(600):
        if list(scratch.glob("*/out.mp4.longtake/segments")):
            break
        time.sleep(0.05)
    process.send_signal(how)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, out + err
    assert "Nothing is left behind" in out
    assert list(scratch.iterdir()) == []
