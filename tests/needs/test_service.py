"""What users need of a service that runs for weeks, through HTTP and the command line.

N16: memory is back where it was after each job. N21: a queue that outlives its service, and one bad
film in it. N22: cancel and pause act at once, in any phase. N31: the end comes when it was said.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from sqlalchemy import func, select, update

from longtake.service import jobs
from longtake.service.database import Database
from longtake.service.tables import attempt, job, step
from longtake.service.upgrade import upgrade
from tests.media import films
from tests.service.jobs import plain_job, someone, submitted, upscaling
from tests.service.running import Served, served, until
from tests.service.test_serve import by_path, created

SECOND = 1_000_000
SOON = 10.0  # s
LITE = {"engine": "lite", "scale": 2, "codec": "ffv1", "set": {"segment_frames": 24}}


def sha_of(service: Served, name: str) -> str:
    done = service.until(name, "succeeded", "partial", seconds=240)
    return str(service.web.get(f"assets/{done['result']}").json()["sha256"])


# --- N16 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("many", [15, pytest.param(100, marks=pytest.mark.long)])
def test_a_worker_needs_no_more_after_many_films(tmp_path, many) -> None:
    """RSS after the last is at most 5 % above that after the fifth."""
    film = films.make(tmp_path / "in.mp4", frames=50, size=(64, 48), sound=True)
    url = f"sqlite:///{tmp_path / 'service.db'}"
    database = Database(url)
    upgrade(database)
    owner = someone(database)
    for _ in range(many):
        submitted(database, owner, upscaling(film, 25, engine="lite"))
    env = {**os.environ, "LONGTAKE_DB": url, "LONGTAKE_DATA": str(tmp_path),
           "LONGTAKE_CACHE": str(tmp_path)}  # fmt: skip
    words = [sys.executable, "-m", "longtake", "worker", "--device", "cpu"]
    man = subprocess.Popen(words, env=env, stderr=subprocess.DEVNULL)
    process, sizes, files = psutil.Process(man.pid), [], []
    try:
        for count in range(1, many + 1):
            until(lambda least=count: _ended(database, least))
            sizes.append(process.memory_info().rss)
            files.append(process.num_fds())
    finally:
        man.terminate()
        man.wait(20)
    assert _succeeded(database) == many
    assert sizes[-1] < 1.05 * sizes[4], sizes
    assert min(files[-5:]) <= max(files[:5]), files
    database.close()


def _ended(database: Database, least: int) -> bool:
    with database.read() as connection:
        ended = select(func.count()).where(job.c.ended.is_not(None))
        return bool(connection.execute(ended).scalar_one() >= least)


def _succeeded(database: Database) -> int:
    with database.read() as connection:
        good = select(func.count()).where(job.c.state == "succeeded")
        return int(connection.execute(good).scalar_one())


@pytest.mark.parametrize("many", [12, pytest.param(100, marks=pytest.mark.long)])
def test_the_service_needs_no_more_after_many_jobs(tmp_path, many) -> None:
    """The process of the API, while jobs are posted, watched, read about and forgotten."""
    film = films.make(tmp_path / "in.mp4", frames=8, size=(64, 48))
    with served(tmp_path / "data", LONGTAKE_ROOTS=str(tmp_path)) as service:
        process, asset, sizes = psutil.Process(service.process.pid), by_path(service, film), []
        for _ in range(many):
            name = created(service, asset)
            service.web.get(f"jobs/{name}?wait=60")
            for path in ("", "/log", "/attempts", "/segments", "/plan"):
                service.web.get(f"jobs/{name}{path}").raise_for_status()
            for path in ("jobs", "workers", "queues", "system", "engines"):
                service.web.get(path).raise_for_status()
            service.until(name, "succeeded")
            service.web.delete(f"jobs/{name}").raise_for_status()
            sizes.append(process.memory_info().rss)
        assert sizes[-1] < 1.05 * sizes[4], sizes


# --- N21 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("many", [8, pytest.param(50, marks=pytest.mark.long)])
def test_a_queue_outlives_its_service_and_a_bad_film(tmp_path, many) -> None:
    """Order and settings as they were; what is corrupt fails with its reason, the others run."""
    roots = {"LONGTAKE_ROOTS": str(tmp_path)}
    bad = many // 2
    names, sources = [], []
    for i in range(many):
        sources.append(films.make(tmp_path / f"{i}.mp4", frames=16, size=(64, 48)))
    with served(tmp_path / "data", "--workers", "none", **roots) as service:
        for i, source in enumerate(sources):
            params = {"engine": "resize", "scale": 2, "codec": "ffv1", "seed": i,
                      "set": {"segment_frames": 8}}  # fmt: skip
            names.append(created(service, by_path(service, source), params=params))
        sources[bad].write_bytes(sources[bad].read_bytes()[:600])
        upload = _half_sent(service, sources[0].read_bytes())
        told = _all(service)
        assert [one["id"] for one in told] == names[::-1]
    with served(tmp_path / "data", "--workers", "cpu", **roots) as service:
        before = _told(told)
        until(lambda: any(one["state"] == "succeeded" for one in _all(service)))
        service.process.kill()
        service.process.wait()
    with served(tmp_path / "data", "--workers", "cpu", **roots) as service:
        assert _told(_all(service)) == before
        _sent_whole(service, upload, sources[0].read_bytes())
        until(lambda: all(one["ended"] for one in _all(service)), 240)
        found = _all(service)[::-1]
    assert _told(found[::-1]) == before
    ended = {one["id"]: one["ended"] for one in found}
    good = [name for i, name in enumerate(names) if i != bad]
    assert sorted(good, key=lambda name: ended[name]) == good
    assert {one["state"] for one in found if one["id"] in good} == {"succeeded"}
    failed = found[bad]
    assert (failed["state"], failed["error"]["code"]) == ("failed", 2)
    assert "the file is incomplete" in failed["error"]["detail"]


TUS = {"Tus-Resumable": "1.0.0"}


def _half_sent(service: Served, body: bytes) -> str:
    about = {**TUS, "Upload-Length": str(len(body)), "Upload-Metadata": "filename YS5tcDQ="}
    made = service.web.post("uploads", headers=about)
    assert made.status_code == 201, made.text
    upload = "uploads/" + made.headers["location"].rpartition("/")[2]
    _send(service, upload, body[: len(body) // 2], 0)
    return upload


def _sent_whole(service: Served, upload: str, body: bytes) -> None:
    got = int(service.web.head(upload, headers=TUS).headers["upload-offset"])
    assert got == len(body) // 2
    asset = _send(service, upload, body[got:], got).headers["longtake-asset"]
    found = service.ready(asset)
    assert (found["state"], found["bytes"]) == ("ready", len(body))


def _send(service: Served, upload: str, body: bytes, offset: int) -> httpx.Response:
    about = {**TUS, "Content-Type": "application/offset+octet-stream"}
    sent = service.web.patch(upload, content=body, headers={**about, "Upload-Offset": str(offset)})
    assert sent.status_code == 204, sent.text
    return sent


def _all(service: Served) -> list[dict[str, Any]]:
    return list(service.web.get("jobs?most=100").raise_for_status().json()["jobs"])


def _told(found: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(one["id"], one["asset"], one["created"], json.dumps(one["task"])) for one in found]


# --- N22 -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return films.make(tmp_path_factory.mktemp("film") / "long.mp4", frames=800, size=(320, 180))


@pytest.fixture(scope="module")
def small_film(long_film: Path) -> Path:
    return films.make(long_film.parent / "small.mp4", frames=360, size=(160, 90))


@pytest.fixture(scope="module")
def service(tmp_path_factory, long_film) -> Any:
    folder = tmp_path_factory.mktemp("data")
    roots = {"LONGTAKE_ROOTS": str(long_film.parent)}
    with served(folder, "--workers", "cpu", "--lease", "30", **roots) as running:
        yield running


def leased(service: Served, name: str) -> dict[str, Any] | None:
    found = service.web.get(f"jobs/{name}/segments").raise_for_status().json()["segments"]
    return next((one for one in found if one["state"] == "leased"), None)


def in_phase(service: Served, name: str, kind: str) -> bool:
    """Frames come out of its segments, too: the engine is loaded."""
    found = leased(service, name)
    if found is None or found["kind"] != kind:
        return False
    return kind != "segment" or found["frames_done"] > 0


@pytest.mark.parametrize(
    ("kind", "engine", "frames"),
    [
        ("plan", "resize", (0, None)),
        ("segment", "lite", (0, 48)),
        ("segment", "resize", (0, None)),  # encoding is what takes its time
        ("join", "resize", (0, None)),
    ],
)
def test_a_cancelled_job_is_let_go_at_once(service, long_film, kind, engine, frames) -> None:
    params = {"engine": engine, "scale": 2, "codec": "ffv1", "frames": list(frames)}
    name = created(service, by_path(service, long_film), params=params)
    until(lambda: in_phase(service, name, kind), 240)
    began = time.monotonic()
    service.web.post(f"jobs/{name}/cancel", json={"mode": "nothing"}).raise_for_status()
    until(lambda: service.job(name)["state"] in ("cancelled", "succeeded"), 30)
    assert time.monotonic() - began < SOON
    assert service.job(name)["state"] == "cancelled"  # it was caught in the phase
    assert leased(service, name) is None
    outcomes = service.web.get(f"jobs/{name}/attempts").json()["attempts"]
    assert {a["outcome"] for a in outcomes} <= {"done", "cancelled"}
    service.web.delete(f"jobs/{name}").raise_for_status()


def test_paused_and_resumed_it_is_the_same_film(service, small_film) -> None:
    asset = by_path(service, small_film)
    straight = sha_of(service, created(service, asset, params=LITE))
    name = created(service, asset, params=LITE)
    until(lambda: (leased(service, name) or {}).get("kind") == "segment")
    began = time.monotonic()
    service.web.post(f"jobs/{name}/pause").raise_for_status()
    until(lambda: service.job(name)["state"] == "paused", 30)
    assert time.monotonic() - began < SOON
    assert service.job(name)["progress"]["eta"] is None
    service.web.post(f"jobs/{name}/resume").raise_for_status()
    assert sha_of(service, name) == straight


# --- N31 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [0.4, pytest.param(0.15, marks=pytest.mark.long)])
def test_the_end_comes_when_it_was_said(service, small_film, most) -> None:
    """Of a film that is alike from end to end; once 5 % are done. Single words may be off, so the
    median is what counts; and more of it beside the rest of the suite, on two cores."""
    name = created(service, by_path(service, small_film), params=LITE)
    said: list[tuple[float, float]] = []
    while (found := service.job(name))["state"] != "succeeded":
        progress = found["progress"]
        if progress["eta"] is not None and progress["frames"] >= 0.05 * progress["of"]:
            said.append((time.time(), progress["eta"]))
        time.sleep(0.1)
    began, end = found["started"] / SECOND, found["ended"] / SECOND
    wrong = [abs(at + eta - end) / (end - began) for at, eta in said]
    assert len(said) > 10
    assert statistics.median(wrong) < most, wrong


@pytest.mark.parametrize("workers", [1, 3])
def test_an_end_is_right_to_the_frame_where_nothing_disturbs(tmp_path, workers) -> None:
    """Rows as workers leave them that make 10 frames in exactly 2 s each, with a pause of an hour
    in the middle."""
    database = Database(f"sqlite:///{tmp_path / 'service.db'}")
    upgrade(database)
    owner = someone(database)
    name = plain_job(database, owner, 200, pixels=0)
    with database.write() as connection:
        now = database.now(connection)
        for number in range(100):
            turns = (99 - number) // workers
            ended = now - turns * 2 * SECOND - (3600 * SECOND if number < 90 else 0)
            _made(connection, name, number, f"w{number % workers}", ended)
    for number in range(100, 100 + workers):
        with database.write() as connection:
            connection.execute(
                update(step).where(step.c.job == name, step.c.number == number).values(
                    state="leased", worker=f"w{number % workers}", lease=now + 60 * SECOND,
                    began=now, fence=1,
                )
            )  # fmt: skip
            connection.execute(attempt.insert().values(
                job=name, number=number, fence=1, worker=f"w{number % workers}", began=now
            ))  # fmt: skip
    progress = jobs.get(database, owner, name)["progress"]
    assert progress["fps"] == pytest.approx(5 * workers, rel=0.01)
    assert progress["eta"] == pytest.approx(1000 / (5 * workers), rel=0.01)
    database.close()


def _made(connection: Any, name: str, number: int, who: str, ended: int) -> None:
    connection.execute(
        update(step).where(step.c.job == name, step.c.number == number).values(
            state="done", worker=who, began=ended - 2 * SECOND, ended=ended, frames_done=10,
            fence=1, key="part",
        )
    )  # fmt: skip
    connection.execute(
        attempt.insert().values(
            job=name, number=number, fence=1, worker=who, began=ended - 2 * SECOND, ended=ended,
            outcome="done",
        )
    )  # fmt: skip
