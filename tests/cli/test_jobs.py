"""`longtake jobs`: what lies unfinished, how far it is, how it goes on; and removing it."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from longtake.cli import options
from longtake.cli.main import _parser
from longtake.core.errors import WorkFolderBusy
from longtake.runtime import workfolder
from tests.media import films

FLAGS = ("--engine", "resize", "--scale", "2", "--set", "segment_frames=12")


@pytest.fixture
def begun(job, tmp_path):
    """A job of 120 frames, killed after two segments: its work folder."""

    def start(name: str = "out.mp4", **env: str) -> Path:
        source = tmp_path / "in.mp4"
        if not source.exists():
            films.make(source, frames=120)
        done: list[dict] = []

        def enough(event: dict) -> bool:
            done.extend([event] if event["event"] == "segment_done" else [])
            return len(done) == 2

        job.stopped(enough, signal.SIGKILL, "upscale", source, tmp_path / name, *FLAGS, **env)
        return tmp_path / f"{name}.longtake"

    return start


def test_an_unfinished_job_and_the_commands_that_it_names(job, longtake, begun, tmp_path) -> None:
    folder = begun()
    listed = job("jobs", tmp_path)
    assert listed.code == 0
    (found,) = listed.events
    assert found["folder"] == str(folder)
    assert (found["state"], found["locked"], found["engine"]) == ("unfinished", False, "resize")
    assert found["target"] == str(tmp_path / "out.mp4")
    assert found["source"] == str(tmp_path / "in.mp4")
    assert 2 <= found["segments"] < found["of_segments"]
    assert 0 < found["frames"] < found["of_frames"] == 120
    held = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    assert found["bytes"] == held > 1000
    shown = longtake("jobs", tmp_path, COLUMNS="300")
    lines = [line.split(None, 2) for line in shown.stdout.splitlines()]
    (recover,) = [words for words in lines if words[:1] == ["recover"]]
    (go_on,) = [line for line in shown.stdout.splitlines() if "go on" in line]
    assert shlex.split(" ".join(recover[1:])) == found["recover"]
    words = shlex.split(go_on.split("go on", 1)[1])
    assert words == found["go_on"]
    assert job(*found["recover"][1:]).code == 0
    last = job(*words[1:])
    assert last.code == 0
    assert last.named("started")[0]["resumed"] == found["segments"]
    assert job("jobs", tmp_path).events == []


def test_paths_are_right_from_another_folder(job, tmp_path, monkeypatch) -> None:
    """A job that was started with relative paths, looked at from elsewhere."""
    films.make(tmp_path / "in.mp4", frames=120)
    (tmp_path / "made").mkdir()
    monkeypatch.chdir(tmp_path)
    job.stopped(
        lambda e: e["event"] == "segment_done", signal.SIGKILL,
        "upscale", "in.mp4", "made/out.mp4", *FLAGS,
    )  # fmt: skip
    assert job("jobs", "--recursive").events[0]["go_on"][2:4] == ["in.mp4", "made/out.mp4"]
    monkeypatch.chdir("/")
    (found,) = job("jobs", tmp_path / "made").events
    assert found["source"] == str(tmp_path / "in.mp4")
    assert job(*found["go_on"][1:]).code == 0
    assert (tmp_path / "made" / "out.mp4").exists()


def test_a_running_job_is_seen_and_not_disturbed(job, tmp_path) -> None:
    source = films.make(tmp_path / "in.mp4", frames=300, size=(320, 240))
    target = tmp_path / "out.mp4"
    process = job.start("upscale", source, target, *FLAGS)
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["event"] == "segment_done":
            break
    (found,) = job("jobs", tmp_path).events
    assert (found["state"], found["locked"], found["go_on"]) == ("running", True, None)
    refused = job("jobs", "--clear", tmp_path / "out.mp4.longtake")
    assert refused.code == 2
    assert "locked" in refused.message
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert target.exists()


def test_looking_takes_no_lock(tmp_path) -> None:
    """A job may begin at any moment while another process looks."""
    folder = tmp_path / "out.mp4.longtake"
    looking = subprocess.Popen(
        [sys.executable, "-c",
         "import sys; from pathlib import Path; from longtake.runtime import workfolder\n"
         "while True: print(workfolder.held(Path(sys.argv[1])), flush=True)", folder],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert looking.stdout is not None
        assert looking.stdout.readline() == "False\n"
        for _ in range(50):
            with workfolder.locked(folder):
                (folder / "plan.json").touch()  # or the folder would go with its lock
        with workfolder.locked(folder):
            deadline = time.monotonic() + 20
            while looking.stdout.readline() != "True\n":
                assert time.monotonic() < deadline
            assert workfolder.held(folder)
            with pytest.raises(WorkFolderBusy), workfolder.locked(folder):
                pass
    finally:
        looking.kill()
        looking.communicate()


def test_what_is_damaged_is_named_with_its_reason(job, begun, tmp_path) -> None:
    folder = begun()
    whole = (folder / "plan.json").read_bytes()
    (folder / "plan.json").write_bytes(whole[:100])
    (found,) = job("jobs", tmp_path).events
    assert found["state"] == "damaged"
    assert "plan.json" in found["reason"]
    (folder / "plan.json").write_bytes(whole)
    (folder / "journal.jsonl").write_text('{"version": 1, "identity": "another"}\n')
    (found,) = job("jobs", tmp_path).events
    assert (found["state"], found["go_on"]) == ("damaged", None)
    assert "another" in found["reason"]
    assert job("jobs", "--clear", folder).code == 0
    assert not folder.exists()


def test_a_job_that_was_still_counting_and_one_that_is_kept(job, tmp_path) -> None:
    source = films.make(tmp_path / "in.mp4", frames=120)
    first = tmp_path / "first.mp4"
    job.stopped(
        lambda e: e["event"] == "analysed", signal.SIGKILL, "upscale", source, first, *FLAGS
    )
    assert job("upscale", source, tmp_path / "second.mp4", *FLAGS, "--keep").code == 0
    states = {Path(e["target"]).name: e["state"] for e in job("jobs", tmp_path).events}
    assert states == {"first.mp4": "unfinished", "second.mp4": "kept"}
    (tmp_path / "second.mp4.longtake" / "kept").unlink()  # as after a kill
    assert job("jobs", tmp_path / "second.mp4.longtake").events[0]["state"] == "finished"


def test_how_far_it_looks(job, begun, tmp_path) -> None:
    folder = begun()
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "loop").symlink_to(tmp_path, target_is_directory=True)
    folder.rename(deep / folder.name)
    assert job("jobs", tmp_path).events == []
    assert len(job("jobs", tmp_path, "--recursive").events) == 1
    assert len(job("jobs", deep, tmp_path).events) == 1
    missing = job("jobs", tmp_path / "nowhere")
    assert missing.code == 2
    assert "no such folder" in missing.message


def test_only_work_folders_of_ours_are_removed(job, begun, tmp_path) -> None:
    folder = begun()
    (folder / "diary.txt").write_text("dear")
    refused = job("jobs", "--clear", folder)
    assert refused.code == 2
    assert "diary.txt" in refused.message
    assert (folder / "diary.txt").exists()
    assert len(list((folder / "segments").iterdir())) >= 2
    (folder / "diary.txt").unlink()
    for wrong in (tmp_path, tmp_path / "in.mp4", tmp_path / "no.longtake"):
        assert job("jobs", "--clear", wrong).code == 2
    link = tmp_path / "link.longtake"
    link.symlink_to(folder, target_is_directory=True)
    assert job("jobs", "--clear", link).code == 2
    assert job("jobs", "--clear").code == 2
    cleared = job("jobs", "--clear", folder)
    assert cleared.code == 0
    assert cleared.last["bytes"] > 1000
    assert not folder.exists()
    assert (tmp_path / "in.mp4").exists()


def test_pictures_that_were_about_to_be_replaced_come_back(job, begun, tmp_path) -> None:
    """Killed when the old folder was aside and the new one not yet in place."""
    folder = begun("pictures")
    old = films.folder(folder / "replaced", range(2))
    names = sorted(p.name for p in old.iterdir())
    assert job("jobs", "--clear", folder).code == 0
    assert sorted(p.name for p in (tmp_path / "pictures").iterdir()) == names


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--scale", "1.5", "--engine", "resize", "--set", "kernel=bicubic", "segment_frames=9"),
        ("--height", "1080", "--frames", "5:", "--rate", "24000/1001", "--drop", "audio,tail"),
        ("--codec", "ffv1", "--bits", "10", "--crf", "3", "--seed", "7", "--frames", ":9"),
        ("--assume-color", "bt709-full", "--deinterlace", "bwdif", "--effort", "slow"),
    ],
)
def test_the_flags_of_a_task_make_that_task(words) -> None:
    def task(*flags: str):
        given = ["upscale", "in.mp4", "out.mp4", *flags]
        return options.task_of(_parser("upscale").parse_args(list(options.spread(given))))

    asked = task(*words)
    assert task(*options.words_of(asked)) == asked
    assert options.words_of(task()) == []
