"""The command line: groups of flags, values, and words for what is wrong."""

from __future__ import annotations

import argparse
import json
from fractions import Fraction
from pathlib import Path

import pytest

from longtake.cli import options
from longtake.cli.main import COMMANDS, _parser
from longtake.core.errors import Usage
from tests.media import films


def parsed(*words: str) -> argparse.Namespace:
    given = ["upscale", "in.mp4", "out.mp4", *words]
    return _parser("upscale").parse_args(list(options.spread(given)))


def test_ten_everyday_flags_and_the_rest_in_a_group_of_their_own() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    options.add_task(parser)
    options.add_running(parser)
    shown = {
        group.title: [a.option_strings[0] for a in group._group_actions if a.option_strings]
        for group in parser._action_groups
    }
    assert shown["options"] == [
        "--scale", "--height", "--engine", "--set", "--vram", "--ram", "--devices", "--frames",
        "--json", "--restart",
    ]  # fmt: skip
    assert set(shown["advanced options"]) == {
        "--codec", "--crf", "--effort", "--preset", "--bits", "--seed", "--rate", "--assume-color",
        "--pre-width", "--deinterlace", "--drop", "--keep", "--place",
    }  # fmt: skip


def test_every_command_has_a_page_of_help(longtake) -> None:
    for command in COMMANDS:
        shown = longtake(command, "--help")
        assert shown.returncode == 0
        assert command in shown.stdout
    assert all(command in longtake("--help").stdout for command in COMMANDS)


def test_set_takes_several_and_is_repeatable_and_swallows_no_file() -> None:
    words = ["upscale", "--set", "a=1", "b=x=y", "in.mp4", "out.mp4", "--set", "c=2"]
    given = _parser("upscale").parse_args(list(options.spread(words)))
    assert options.knobs_of(given.set) == {"a": "1", "b": "x=y", "c": "2"}
    assert (given.source, given.target) == (Path("in.mp4"), Path("out.mp4"))


def test_drop_takes_several_ways_of_writing() -> None:
    given = parsed("--drop", "audio", "tail", "--drop", "data,alpha")
    assert options.task_of(given).drop == ("audio", "tail", "data", "alpha")
    with pytest.raises(Usage, match="--drop sound: there is nothing of that name; there are audio"):
        options.task_of(parsed("--drop", "sound"))


@pytest.mark.parametrize(
    ("text", "value"),
    [("8G", 8 << 30), ("512M", 512 << 20), ("1.5GiB", 3 << 29), ("1000", 1000), ("2k", 2048)],
)
def test_sizes(text, value) -> None:
    assert options.size(text) == value


@pytest.mark.parametrize("text", ["", "G", "-1G", "8 apples", "1e9"])
def test_what_is_no_size(text) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a size such as 8G"):
        options.size(text)


@pytest.mark.parametrize(
    ("text", "value"), [("0:100", (0, 100)), ("10:", (10, None)), (":5", (0, 5)), (":", (0, None))]
)
def test_frame_ranges(text, value) -> None:
    assert options.frame_range(text) == value


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--scale", "5"), "choose from 1.5, 2, 3, 4"),
        (("--frames", "5"), "is not a range such as 0:100"),
        (("--rate", "0"), "outside 0 .. 1000"),
        (("--rate", "1/0"), "is not a number"),
        (("--ram", "much"), "is not a size"),
        (("--crf", "good"), "is not a whole number"),
        (("--codec", "mpeg1"), "choose from auto"),
        (("--sharpen",), "unrecognized arguments"),
    ],
)
def test_wrong_flags_are_said_in_words(longtake, words, said) -> None:
    refused = longtake("upscale", "in.mp4", "out.mp4", *words)
    assert refused.returncode == 2
    assert said in refused.stderr.replace("\n", " ")
    assert "Traceback" not in refused.stderr
    assert "Fraction" not in refused.stderr


def test_the_task_is_what_the_flags_say() -> None:
    task = options.task_of(
        parsed("--scale", "1.5", "--bits", "10", "--rate", "24000/1001", "--frames", "3:")
    )
    assert task.scale == Fraction(3, 2)
    assert task.bits == 10
    assert task.rate == Fraction(24000, 1001)
    assert task.frames == (3, None)


@pytest.mark.parametrize("command", ["upscale", "plan", "run", "probe", "recover"])
def test_a_command_without_its_arguments_is_a_usage_error(longtake, command) -> None:
    refused = longtake(command)
    assert refused.returncode == 2
    assert "required" in refused.stderr


def test_no_command_prints_the_help(longtake) -> None:
    shown = longtake()
    assert shown.returncode == 2
    assert "upscale" in shown.stdout


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    return films.make(tmp_path_factory.mktemp("cli") / "film.mkv", frames=12, sound=True)


def test_json_is_one_value_per_line_and_nothing_else(longtake, film, tmp_path) -> None:
    done = longtake("upscale", film, tmp_path / "o.mkv", "--engine", "resize", "--json")
    assert done.returncode == 0
    assert done.stderr == ""
    events = [json.loads(line) for line in done.stdout.splitlines()]
    names = list(dict.fromkeys(e["event"] for e in events))
    order = ["analysed", "started", "advanced", "segment_done", "joined", "verified", "finished"]
    assert [n for n in names if n != "warned"] == order
    assert events[-1]["frames"] == 12
    assert events[-1]["peak_ram"] > 0


def test_a_failure_is_an_event_too(longtake, film, tmp_path) -> None:
    failed = longtake("upscale", film, film, "--json")
    assert failed.returncode == 2
    (event,) = [json.loads(line) for line in failed.stdout.splitlines()]
    assert event == {
        "event": "failed", "error": "Usage", "exit_code": 2, "message": event["message"]
    }  # fmt: skip


def test_people_get_words(longtake, film, tmp_path) -> None:
    done = longtake("upscale", film, tmp_path / "o.mkv", "--engine", "resize", "--scale", "2")
    assert done.returncode == 0
    assert "done and verified" in done.stdout
    assert "RAM predicted" in done.stdout


def test_plan_says_everything_and_starts_nothing(longtake, film, tmp_path) -> None:
    shown = longtake("plan", "upscale", film, tmp_path / "o.mkv", "--engine", "resize")
    assert shown.returncode == 0
    for word in ("192x", "segments", "encoder", "RAM", "disk", "time"):
        assert word in shown.stdout or word == "192x"
    assert list(tmp_path.iterdir()) == []


def test_run_replays_a_plan(longtake, film, tmp_path) -> None:
    target = tmp_path / "o.mkv"
    planned = longtake("plan", "upscale", film, target, "--engine", "resize", "--json")
    (tmp_path / "plan.json").write_text(planned.stdout)
    assert longtake("run", tmp_path / "plan.json").returncode == 0
    made = target.read_bytes()
    target.unlink()
    assert longtake("upscale", film, target, "--engine", "resize").returncode == 0
    assert target.read_bytes() == made


def test_a_frozen_plan_is_replayed_too(longtake, film, tmp_path) -> None:
    target = tmp_path / "o.mkv"
    assert longtake("upscale", film, target, "--engine", "resize", "--keep").returncode == 0
    made = target.read_bytes()
    stored = tmp_path / "plan.json"
    stored.write_bytes((tmp_path / "o.mkv.longtake" / "plan.json").read_bytes())
    again = longtake("run", stored, "--restart")
    assert again.returncode == 0, again.stderr
    assert target.read_bytes() == made


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1}', "\x00\xff"])
def test_what_is_no_plan_is_refused(longtake, tmp_path, text) -> None:
    (tmp_path / "plan.json").write_text(text)
    refused = longtake("run", tmp_path / "plan.json")
    assert refused.returncode == 2
    assert "plan.json" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_plan_of_another_machine_is_refused(longtake, film, tmp_path) -> None:
    planned = longtake("plan", "upscale", film, tmp_path / "o.mkv", "--engine", "resize", "--json")
    plan = json.loads(planned.stdout)
    plan["recipe"]["numerics"]["libav"] = "1.0"
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    refused = longtake("run", tmp_path / "plan.json")
    assert refused.returncode == 2
    assert "numerics.libav: 1.0 ->" in refused.stderr


def test_time_is_predicted_once_this_machine_is_known(longtake, film, tmp_path) -> None:
    cache = {"LONGTAKE_CACHE": str(tmp_path / "cache")}
    long = films.make(tmp_path / "long.mkv", frames=30)
    words = ("upscale", long, tmp_path / "o.mkv", "--engine", "resize", "--json")
    assert json.loads(longtake("plan", *words, **cache).stdout)["time"] is None
    assert longtake(*words, **cache).returncode == 0
    assert json.loads(longtake("plan", *words, **cache).stdout)["time"]["total"] > 0


def test_engines_lists_knobs_with_their_ranges(longtake) -> None:
    shown = longtake("engines")
    assert shown.returncode == 0
    for word in ("lite", "resize", "kernel", "lanczos | bicubic", "segment_frames", "8 .. 100000"):
        assert word in shown.stdout, shown.stdout
    listed = json.loads(longtake("engines", "--json").stdout)
    assert {e["name"] for e in listed} == {"flashvsr", "lite", "resize", "wan"}


def test_probe_says_what_a_file_holds(longtake, film) -> None:
    shown = longtake("probe", film)
    assert shown.returncode == 0
    for word in ("96x64", "25 fps", "h264", "audio"):
        assert word in shown.stdout
    value = json.loads(longtake("probe", film, "--json").stdout)
    assert (value["width"], value["height"], value["rate"]) == (96, 64, "25/1")


def test_doctor_answers_with_reasons(longtake, tmp_path) -> None:
    shown = longtake("doctor", "--short")
    assert shown.returncode == 0
    assert "processor" in shown.stdout
    checks = [json.loads(x) for x in longtake("doctor", "--short", "--json").stdout.splitlines()]
    assert all(c["says"] for c in checks)
    assert {"torch", "libav", "RAM", "disk"} <= {c["name"] for c in checks}


def test_doctor_measures_this_machine(longtake, tmp_path) -> None:
    shown = longtake("doctor", LONGTAKE_CACHE=str(tmp_path))
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "engine resize" in shown.stdout
    assert "fps" in shown.stdout
    rates = json.loads((tmp_path / "calibration.json").read_text())["rates"]
    assert len(rates) == 2
