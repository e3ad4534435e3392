"""Where bytes lie by hand: it changes no byte of a film, is checked, told, and compared with what
was measured. Through the command line, with small nets in files of the official names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from longtake.cli.main import _main
from longtake.core.plan import Plan
from tests.jobs import Command
from tests.media import films
from tests.needs.test_generate import asked, done, folder_of, frames, plan_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("weights"), "t2v-1.3b")


def test_numbers_by_hand_change_no_byte(job: Command, folder: Path, tmp_path: Path) -> None:
    """And the end says of each stage what was foretold and what was."""
    whole, other = tmp_path / "whole.mkv", tmp_path / "other.mkv"
    outcome = done(job, *asked(folder, whole))
    place = ("granularity=phase", "resident_blocks=1", "slots=3", "bandwidth=0.5",
             "offload_text=no", "copy_streams=2", "vace_blocks_to_swap=3")  # fmt: skip
    moved = done(job, *asked(folder, other), "--keep", "--place", *place)
    assert other.read_bytes() == whole.read_bytes()
    notes = " ".join(event["message"] for event in moved.named("warned"))
    assert "copy_streams=2: one is used" in notes
    assert "vace_blocks_to_swap=3: no model here has a VACE net" in notes
    assert "than what the planner would choose (offload=resident)" in notes
    kept = (tmp_path / "other.mkv.longtake" / "journal.jsonl").read_text().splitlines()
    last = json.loads(kept[-1])["event"]
    assert [stage["name"] for stage in last["report"]] == ["text", "denoise", "decode"]
    for ended in (outcome, moved):
        (finished,) = ended.named("finished")
        report = {stage["name"]: stage for stage in finished["report"]}
        assert list(report) == ["text", "denoise", "decode"]
        for stage in report.values():
            assert 0 <= stage["seconds"] < finished["seconds"]
            assert stage["predicted_seconds"] > 0
            assert 0 < stage["ram"] <= finished["peak_ram"]
            assert stage["predicted_ram"] <= finished["predicted_ram"]
        assert sum(s["seconds"] for s in report.values()) <= finished["stages"]["compute"] + 0.1


def test_a_plan_explains_itself_and_can_be_run(job: Command, folder: Path, tmp_path: Path) -> None:
    words = asked(folder, tmp_path / "cat.mkv")
    place = ("--place", "offload=ring", "granularity=phase", "--ram", "4G")
    said = plan_of(*words, *place, "--explain")
    balance = said["balance"]
    (ram, disk) = balance["pools"]
    assert (ram["name"], ram["why"], ram["allowed"]) == ("RAM", "--ram", 4 << 30)
    assert sum(size for _, size in ram["causes"]) == ram["needed"]
    assert (disk["name"], disk["overflow"]) == ("disk", 0)
    assert balance["blocks"]["device"] + balance["blocks"]["host"] == 2
    assert [stage["name"] for stage in balance["stages"]] == ["text", "denoise", "decode"]
    stored = tmp_path / "plan.json"
    stored.write_text(json.dumps(said))
    assert Plan.from_json(stored.read_text()).placement.granularity == "phase"
    done(job, "run", str(stored))
    assert frames(tmp_path / "cat.mkv").shape == (9, 48, 64, 3)


def test_an_upscale_s_balance(tmp_path: Path) -> None:
    source = films.make(tmp_path / "in.mp4", frames=4, size=(96, 64))
    words = ("upscale", str(source), str(tmp_path / "out.mp4"), "--engine", "resize")
    balance = plan_of(*words, "--explain")["balance"]
    assert [pool["name"] for pool in balance["pools"]] == ["RAM", "disk"]
    assert balance["blocks"] is None
    assert "balance" not in plan_of(*words)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("resident_blocks=3", "this model has 2 blocks"),
        ("bandwidth=2", "outside 0.1 .. 1"),
        ("host_blocks=1", "its weights lie in no block files"),
        ("offload_image=no", "no image encoder"),
    ],
)
def test_what_cannot_be_is_refused(
    folder: Path, tmp_path: Path, place: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _main([*asked(folder, tmp_path / "x.mkv"), "--place", place]) == 2
    assert words in " ".join(capsys.readouterr().err.split())
