"""A disk that fills up: nothing is damaged, what waits says why, and it goes on by itself."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from longtake.core import faults
from longtake.core.errors import Usage
from longtake.service import queue
from longtake.service.database import Database
from longtake.service.disk import Room, low_water
from longtake.service.transitions import Claim
from longtake.settings import Settings
from tests.media import films
from tests.service.jobs import a_worker, someone, standing, submitted, upscaling
from tests.service.running import Served, made_by_hand, served, until
from tests.service.test_serve import by_path

MiB = 1 << 20
FLAGS = {"engine": "resize", "scale": 2, "codec": "ffv1", "set": {"segment_frames": 24}}


# --- the mark ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "mark"),
    [(200 * MiB, 50 * MiB), (3 << 30, 3 << 28), (8 << 30, 1 << 30), (50 << 30, 5 << 30),
     (4 << 40, 10 << 30)],
)  # fmt: skip
def test_by_default_a_part_of_the_disk_stays_free(monkeypatch, tmp_path, total, mark) -> None:
    usage = type("Usage", (), {"total": total, "free": total})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    assert low_water(tmp_path / "not" / "there", None) == mark
    assert low_water(tmp_path, 7) == 7


def test_a_mark_is_given_as_a_size() -> None:
    for text, size in (
        ("0", 0),
        ("4096", 4096),
        ("2g", 2 << 30),
        (" 512M ", 512 * MiB),
        ("", None),
    ):
        assert Settings.of({"LONGTAKE_LOW_WATER": text}).low_water == size
    for wrong in ("much", "-1", "1.5G", "10 %"):
        with pytest.raises(Usage, match=r"LONGTAKE_LOW_WATER=.*such as 8G"):
            Settings.of({"LONGTAKE_LOW_WATER": wrong})


def test_once_short_it_needs_a_little_more(monkeypatch, tmp_path) -> None:
    free = 0
    monkeypatch.setattr(
        "shutil.disk_usage", lambda _: type("Usage", (), {"total": 10_000, "free": free})
    )
    room, seen = Room(tmp_path, 1000), []
    for free in (1000, 999, 1000, 1049, 1050, 1001, 999):  # noqa: B007 -- the lambda reads it
        seen.append(room.lacks() is None)
    assert seen == [True, False, False, False, True, True, False]


def test_a_worker_begins_nothing_below_the_mark(database, tmp_path, monkeypatch) -> None:
    someone(database)
    film = films.make(tmp_path / "in.mp4", frames=8)
    name = submitted(database, "ann", upscaling(film))
    worker = a_worker(database, tmp_path, low_water=10**18)
    thread = threading.Thread(target=worker.run, kwargs={"until_empty": True})
    thread.start()
    until(lambda: worker.waits)
    assert "Free some space: it goes on by itself." in (worker.waits or "")
    time.sleep(0.5)
    assert standing(database, name).steps[-1].state == "ready"
    worker._room.mark = 0
    thread.join(60)
    assert not thread.is_alive()
    assert worker.waits is None
    assert standing(database, name).job.state == "succeeded"


def test_an_unfinished_file_is_not_left_in_the_way(database, tmp_path, monkeypatch) -> None:
    someone(database)
    film = films.make(tmp_path / "in.mp4", frames=16)
    monkeypatch.setattr("longtake.service.work.FULL", 0.0)
    release, left = queue.release, []

    def watched(database: Database, held: Claim, *more: Any) -> bool:
        """The step is given back: what of it lies there?"""
        stem = "joined" if held.kind == "join" else f"{held.number:06d}"
        left.append((held.kind, [*tmp_path.rglob(f"{stem}.{held.fence}.*")]))
        return release(database, held, *more)

    monkeypatch.setattr(queue, "release", watched)
    for place in ("encode", "write", "join"):
        name = submitted(database, "ann", upscaling(film))
        armed = {place: ["enospc"]}
        monkeypatch.setattr(faults, "_armed", lambda armed=armed: armed)
        a_worker(database, tmp_path).run(until_empty=True)
        now = standing(database, name)
        assert now.job.state == "succeeded"
        assert {step.attempts for step in now.steps.values()} == {1}, "a full disk is no attempt"
    assert left == [("segment", []), ("segment", []), ("join", [])]


# --- a real one ----------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 200 MB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(ballast: Path) -> None:
    """Until not one byte more goes in."""
    with ballast.open("ab", buffering=0) as file:
        for size in (MiB, 4096, 1):
            with contextlib.suppress(OSError):
                while file.write(b"x" * size):
                    pass


def job(service: Served, name: str) -> dict[str, Any]:
    """A full disk may be answered with 503, and never with a fault."""
    answer = service.web.get(f"jobs/{name}")
    assert answer.status_code in (200, 503), answer.text
    return dict(answer.json()) if answer.status_code == 200 else {"progress": {"frames": 0}}


def test_a_disk_that_fills_up_and_is_freed(small_disk, tmp_path) -> None:
    """Three times: at the beginning of a segment, in one, and near the end."""
    film = films.make(tmp_path / "in.mkv", frames=240, size=(320, 180))
    wanted = made_by_hand(film, tmp_path / "hand.mkv", 24)
    data, ballast = small_disk / "data", small_disk / "ballast"
    with served(data, LONGTAKE_ROOTS=str(tmp_path), LONGTAKE_LOW_WATER="16M") as service:
        body = {"asset": by_path(service, film), "params": FLAGS, "container": "mkv"}
        name = service.web.post("jobs", json=body).raise_for_status().json()["id"]
        for frames in (1, 60, 180):
            until(lambda: job(service, name)["progress"]["frames"] >= frames)  # noqa: B023
            fill(ballast)
            time.sleep(3)  # longer than a lease
            assert job(service, name).get("state") not in ("failed", "succeeded")
            ballast.unlink()
        done = service.until(name, "succeeded")
        content = service.web.get(f"assets/{done['result']}/content").content
        assert hashlib.sha256(content).hexdigest() == wanted
        assert not list(data.glob("jobs/*")), "what was in the way is still there"


def test_below_the_mark_it_waits_and_says_so(small_disk, tmp_path) -> None:
    film = films.make(tmp_path / "in.mkv", frames=48)
    wanted = made_by_hand(film, tmp_path / "hand.mkv", 24)
    ballast = small_disk / "ballast"
    by_default = {"LONGTAKE_ROOTS": str(tmp_path), "LONGTAKE_LOW_WATER": ""}
    with served(small_disk / "data", **by_default) as service:
        asset = by_path(service, film)
        ballast.write_bytes(bytes(170 * MiB))  # of 200: a quarter stays free by default
        workers = until(lambda: [
            one for one in service.web.get("workers").json()["workers"]
            if (one["telemetry"] or {}).get("waits")
        ])  # fmt: skip
        assert "Free some space" in workers[0]["telemetry"]["waits"]
        assert service.web.get("system").json()["disk"]["low_water"] == 50 * MiB
        upload = {"Tus-Resumable": "1.0.0", "Upload-Length": "10"}
        assert service.web.post("uploads", headers=upload).status_code == 507
        body = {"asset": asset, "params": FLAGS, "container": "mkv"}
        name = service.web.post("jobs", json=body).raise_for_status().json()["id"]
        time.sleep(1)
        told = service.job(name)
        assert (told["state"], told["waiting"]["reason"]) == ("queued", "disk")
        assert "GB free; work begins with" in told["waiting"]["detail"]
        assert (service.until(name, "queued"))["progress"]["segments"] == told["progress"][
            "segments"
        ]
        ballast.unlink()
        done = service.until(name, "succeeded")
        content = service.web.get(f"assets/{done['result']}/content").content
        assert hashlib.sha256(content).hexdigest() == wanted
        attempts = service.web.get(f"jobs/{name}/attempts").json()["attempts"]
        assert {one["outcome"] for one in attempts} == {"done"}
