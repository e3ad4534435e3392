"""A full disk: the work is kept, the words are plain, the same command goes on."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

FLAGS = ("--engine", "resize", "--scale", "4", "--crf", "0", "--set", "segment_frames=12")


@pytest.mark.parametrize("place", ["encode", "write", "join"])
def test_enospc_keeps_the_work(job, film, tmp_path, straight, place) -> None:
    whole, target = straight(*FLAGS), tmp_path / "out.mp4"
    full = job("upscale", film, target, *FLAGS, LONGTAKE_FAULT=f"enospc:{place}:1")
    assert full.code == 1, full.last
    assert full.last["error"] == "DiskFull"
    assert "free some space and run the same command again" in full.message
    assert not target.exists()
    assert job("upscale", film, target, *FLAGS).code == 0
    assert target.read_bytes() == whole


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def resize_disk(place: Path, size: str) -> None:
    command = ["mount", "-o", f"remount,size={size}", str(place)]
    subprocess.run(command, check=True, capture_output=True)


def test_a_disk_too_small_is_refused_before_the_start(job, film, small_disk) -> None:
    refused = job("upscale", film, small_disk / "out.mp4", *FLAGS)
    assert refused.code == 4
    assert "Disk: about" in refused.message
    assert "are free" in refused.message


def fill(ballast: Path) -> None:
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass


def test_a_disk_that_fills_up_and_is_freed(job, film, small_disk, straight) -> None:
    whole, target = straight(*FLAGS), small_disk / "out.mp4"
    resize_disk(small_disk, "64m")
    ballast = small_disk / "ballast"
    watch = job.start("upscale", film, target, *FLAGS)
    assert watch.stdout is not None
    for line in watch.stdout:
        if '"segment_done"' in line:  # somebody else fills the disk while the job runs
            fill(ballast)
            break
    out, err = watch.communicate(timeout=120)
    assert watch.returncode == 1, out + err
    assert "Traceback" not in err
    assert not target.exists()
    ballast.unlink()
    assert job("upscale", film, target, *FLAGS).code == 0
    assert target.read_bytes() == whole
