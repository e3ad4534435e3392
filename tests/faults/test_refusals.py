"""What must not happen is refused before it does, by name, with exit code 2."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time

import pytest

FLAGS = ("--engine", "resize", "--scale", "2", "--set", "segment_frames=12")


def begun(job, film, target):
    return job.stopped(
        lambda e: e["event"] == "segment_done", signal.SIGKILL, "upscale", film, target, *FLAGS
    )


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        (("--crf", "20"), "recipe.encoder.crf: 16 -> 20"),
        (("--effort", "fast"), "recipe.encoder.preset"),
        (("--seed", "3"), "recipe.seed: 0 -> 3"),
        (("--bits", "10"), "recipe.output.bits: 8 -> 10"),
        (("--set", "kernel=bicubic"), "recipe.knobs.kernel: lanczos -> bicubic"),
        (("--frames", "0:60"), "geometry.frames: 90 -> 60"),
    ],
)
def test_other_settings_are_refused_by_name(job, film, tmp_path, flags, name) -> None:
    target = tmp_path / "out.mp4"
    begun(job, film, target)
    refused = job("upscale", film, target, *FLAGS, *flags)
    assert refused.code == 2
    assert name in refused.message
    assert "--restart" in refused.message
    assert job("upscale", film, target, *FLAGS, *flags, "--restart").code == 0


def test_other_input_bytes_are_refused(job, film, tmp_path) -> None:
    source, target = tmp_path / "in.mp4", tmp_path / "out.mp4"
    shutil.copy(film, source)
    stat = source.stat()
    begun(job, source, target)
    whole = bytearray(source.read_bytes())
    whole[-1] ^= 1
    source.write_bytes(whole)
    os.utime(source, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # only the content tells
    refused = job("upscale", source, target, *FLAGS)
    assert refused.code == 2
    assert "the bytes of the input changed" in refused.message


def test_memory_limits_may_change_between_runs(job, film, tmp_path, straight) -> None:
    whole, target = straight(*FLAGS), tmp_path / "out.mp4"
    begun(job, film, target)
    assert job("upscale", film, target, *FLAGS, "--ram", "300M").code == 0
    assert target.read_bytes() == whole


def test_an_existing_target_needs_restart(job, film, tmp_path) -> None:
    target = tmp_path / "out.mp4"
    target.write_bytes(b"dear")
    refused = job("upscale", film, target, *FLAGS)
    assert refused.code == 2
    assert "--restart" in refused.message
    assert target.read_bytes() == b"dear"
    assert not (tmp_path / "out.mp4.longtake").exists()


def test_a_restarted_job_keeps_the_old_film_until_the_new_one_is_whole(job, film, tmp_path) -> None:
    target = tmp_path / "out.mp4"
    target.write_bytes(b"dear")
    job.stopped(
        lambda e: e["event"] == "segment_done", signal.SIGKILL,
        "upscale", film, target, *FLAGS, "--restart",
    )  # fmt: skip
    assert target.read_bytes() == b"dear"
    done = job("upscale", film, target, *FLAGS)  # goes on: this job may replace the target
    assert done.code == 0, done.last
    assert done.named("started")[0]["resumed"] >= 1
    assert target.stat().st_size > 1000


def test_a_folder_target_is_replaced_by_restart(job, film, tmp_path) -> None:
    target = tmp_path / "pictures"
    target.mkdir()
    (target / "old.png").write_bytes(b"old")
    assert job("upscale", film, target, *FLAGS, "--frames", "0:5").code == 2
    assert (target / "old.png").exists()
    assert job("upscale", film, target, *FLAGS, "--frames", "0:5", "--restart").code == 0
    assert sorted(p.name for p in target.iterdir()) == [f"{i:08d}.png" for i in range(5)]


@pytest.mark.parametrize("link", ["same", "hard", "symbolic"])
def test_source_and_target_must_differ(job, film, tmp_path, link) -> None:
    source = tmp_path / "in.mp4"
    shutil.copy(film, source)
    target = tmp_path / "other.mp4"
    if link == "same":
        target = source
    elif link == "hard":
        os.link(source, target)
    else:
        target.symlink_to(source)
    before = source.read_bytes()
    refused = job("upscale", source, target, *FLAGS, "--restart")
    assert refused.code == 2
    assert "the same" in refused.message
    assert source.read_bytes() == before


def test_two_jobs_on_one_target(job, film, tmp_path) -> None:
    target = tmp_path / "out.mp4"
    first = job.start("upscale", film, target, "--engine", "lite", "--scale", "4")
    deadline = time.monotonic() + 120
    while not (target.parent / "out.mp4.longtake" / "lock").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    second = job("upscale", film, target, "--engine", "lite", "--scale", "4")
    out, _ = first.communicate(timeout=120)
    assert first.returncode == 0, out
    assert second.code == 2
    assert "locked" in second.message


def test_keep_keeps_the_work_folder(job, film, tmp_path) -> None:
    target = tmp_path / "out.mp4"
    assert job("upscale", film, target, *FLAGS, "--keep").code == 0
    plan = json.loads((tmp_path / "out.mp4.longtake" / "plan.json").read_text())
    assert plan["stage"] == "frozen"
    assert plan["recipe"]["source"]


def test_a_worker_that_dies_gives_its_segment_back(job, film, tmp_path, straight) -> None:
    import psutil

    flags = ("--engine", "echo", "--scale", "2", "--set", "segment_frames=40")
    whole, target = straight(*flags), tmp_path / "out.mp4"
    process = job.start("upscale", film, target, *flags, "--devices", "cpu:0,1")
    parent = psutil.Process(process.pid)
    killed = False
    deadline = time.monotonic() + 60
    while not killed and process.poll() is None and time.monotonic() < deadline:
        for child in parent.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if "spawn_main" in " ".join(child.cmdline()):
                    child.kill()
                    killed = True
                    break
    out, err = process.communicate(timeout=120)
    assert killed
    assert process.returncode == 0, out + err
    assert "died" in out
    assert target.read_bytes() == whole


def test_a_folder_for_one_film_is_explained_and_never_lost(job, film, tmp_path) -> None:
    """`longtake upscale a.mp4 outdir/` means a folder of pictures, made as a whole."""
    outdir = tmp_path / "dear"
    outdir.mkdir()
    (outdir / "holiday.mp4").write_bytes(b"dear")
    (tmp_path / "empty").mkdir()
    refused = job("upscale", film, tmp_path / "empty", *FLAGS)
    assert refused.code == 2
    assert str(tmp_path / "empty" / "NAME.mp4") in refused.message
    for flags in ((), ("--restart",)):
        refused = job("upscale", film, outdir, *FLAGS, *flags)
        assert refused.code == 2
        assert "holds more than pictures (holiday.mp4)" in refused.message
        assert str(outdir / "NAME.mp4") in refused.message
        assert (outdir / "holiday.mp4").read_bytes() == b"dear"
    assert not (tmp_path / "dear.longtake").exists()
