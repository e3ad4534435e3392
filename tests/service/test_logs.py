"""What workers and the service say: lines on stderr, and the log that a job keeps."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete

from longtake.service import events, job_log, jobs
from longtake.service.database import Database, DatabaseAway
from longtake.service.job_log import JobLog, Line
from longtake.service.routes import logs as log_routes
from longtake.service.tables import job_log as table
from longtake.service.transitions import Claim
from tests.media import films
from tests.service.jobs import a_worker, plain_job, standing, submitted, upscaling
from tests.service.running import until
from tests.service.serving import client_of, made, somebody
from tests.service.test_work import fault

__all__ = ["fault"]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return films.make(tmp_path_factory.mktemp("film") / "in.mp4", frames=64, size=(64, 48))


def worker(
    database: Database, root: Path, *words: str, slow: Mapping[str, str] = MappingProxyType({}),
    **how: Any,
) -> subprocess.Popen[str]:  # fmt: skip
    """A process of its own, which says what it has to on a pipe."""
    url = database.engine.url.render_as_string(hide_password=False)
    env = {**os.environ, "LONGTAKE_DB": url, "LONGTAKE_DATA": str(root),
           "LONGTAKE_CACHE": str(root), **slow}  # fmt: skip
    given = {"env": env, "stderr": subprocess.PIPE, "text": True} | how
    command = [sys.executable, "-m", "longtake", "worker", "--device", "cpu", *words]
    return subprocess.Popen(command, **given)


def log_of(client: httpx.Client, name: str, **asked: int) -> list[dict[str, Any]]:
    return list(client.get(f"/api/v1/jobs/{name}/log", params=asked).json()["lines"])


@pytest.fixture
def owner(database: Database) -> Iterator[tuple[str, httpx.Client]]:
    """Somebody, and a client that asks in their name."""
    name, header = somebody(database)
    with client_of(made(database, log_routes.router(database))) as client:
        client.headers["Authorization"] = header
        yield name, client


# --- stderr --------------------------------------------------------------------------------------


def test_programs_get_json_with_what_is_known(database, owner, tmp_path, film) -> None:
    name = submitted(database, owner[0], upscaling(film, segment_frames=16))
    man = worker(database, tmp_path, "--name", "ann", "--until-empty")
    _, said = man.communicate(timeout=180)
    lines = [json.loads(line) for line in said.splitlines()]
    assert lines
    for line in lines:
        assert {"at", "level", "logger", "text"} <= set(line), line
        assert (line["worker"], line["device"]) == ("ann", "cpu")
    steps = {(line.get("segment"), line["fence"]) for line in lines if line.get("job") == name}
    assert steps == {(None, 1), (0, 1), (1, 1), (2, 1), (3, 1)}


@pytest.mark.parametrize(("words", "terminal"), [((), True), (("--log", "text"), False)])
def test_people_get_words(database, owner, tmp_path, film, words, terminal) -> None:
    name = submitted(database, owner[0], upscaling(film, segment_frames=64))
    mine, theirs = pty.openpty()
    how = {"stderr": theirs} if terminal else {}
    man = worker(database, tmp_path, "--until-empty", *words, **how)
    _, said = man.communicate(timeout=180)
    os.close(theirs)
    said = os.read(mine, 1 << 16).decode() if terminal else said
    os.close(mine)
    assert f"INFO job {name} segment 0: segment 0: done, 64 frames" in said
    assert "{" not in said


# --- the log of a job ----------------------------------------------------------------------------


def test_it_tells_of_a_worker_that_was_killed(database, owner, tmp_path, film) -> None:
    """Who had the segment, that the lease was lost, who made it then."""
    who, client = owner
    name = submitted(database, who, upscaling(film, segment_frames=64))
    lease = ("--lease", "1")
    slow = {"LONGTAKE_FAULT": "slow:encode:99"}  # so that it is caught in the middle
    first = worker(database, tmp_path, "--name", "A", *lease, slow=slow, stderr=subprocess.DEVNULL)

    def caught() -> Any:
        """A segment that it has, and that its log tells of."""
        told = {line["number"] for line in log_of(client, name) if "begun" in line["text"]}
        steps = standing(database, name).steps.values()
        return next((row for row in steps if row.kind == "segment" and row.number in told), None)

    held = until(caught)
    assert held.state == "leased"
    first.kill()
    first.wait()
    second = worker(database, tmp_path, "--name", "B", *lease, stderr=subprocess.DEVNULL)
    until(lambda: standing(database, name).job.state == "succeeded")
    until(lambda: log_of(client, name)[-1]["text"].startswith("joining: done"))
    second.terminate()
    second.wait()
    lines = log_of(client, name)
    told = [
        (line["worker"], line["fence"], line["level"], line["text"])
        for line in lines if line["number"] == held.number
    ]  # fmt: skip
    assert [(*one[:3], next(w for w in ("begun", "lease", "done") if w in one[3]))
            for one in told] == [
        ("A", 1, "info", "begun"), ("A", 1, "warning", "lease"),
        ("B", 2, "info", "begun"), ("B", 2, "info", "done"),
    ]  # fmt: skip
    assert "attempt 2" in told[2][3]
    assert [line["id"] for line in lines] == sorted({line["id"] for line in lines})
    streamed = [line for event in events.after(database, 0) if event.type == "job.log"
                for line in event.data["lines"]]  # fmt: skip
    assert streamed == lines


def test_it_tells_what_was_done_about_errors(database, owner, tmp_path, film, fault) -> None:
    fault("oom:compute:1,nan:values:1")
    who, client = owner
    task = upscaling(film, engine="lite", frames=(0, 16))
    names = [submitted(database, who, upscaling(film)), submitted(database, who, task)]
    man = a_worker(database, tmp_path)
    until(lambda: man.run(until_empty=True) or all(
        standing(database, name).job.state == "succeeded" for name in names
    ))  # fmt: skip
    less, again = ([(line["level"], line["text"]) for line in log_of(client, name)]
                   for name in names)  # fmt: skip
    assert any(level == "warning" and "another placement" in text for level, text in less)
    assert any(level == "warning" and "made once more" in text for level, text in again)
    assert any("attempt 1 failed, it is tried again" in text for _, text in again)
    assert any(level == "info" and "bt601" in text for level, text in less)  # a note of the plan


def test_it_tells_why_a_job_failed(database, owner, tmp_path, film) -> None:
    who, client = owner
    source = tmp_path / "copy.mp4"
    source.write_bytes(film.read_bytes())
    name = submitted(database, who, upscaling(source))
    source.write_bytes(b"nothing")
    a_worker(database, tmp_path).run(until_empty=True)
    last = log_of(client, name)[-1]
    assert (last["level"], last["number"]) == ("error", -1)
    assert "not a video file" in last["text"]


def test_it_is_read_in_portions_by_its_owner_and_goes_with_the_job(database, owner) -> None:
    who, client = owner
    name = plain_job(database, who, 1, state="succeeded")
    said = [Line(level="info", text=str(i)) for i in range(7)]
    with database.write() as connection:
        job_log.append(connection, database.now(connection), name, said)
    got: list[str] = []
    last = 0
    while True:
        found = client.get(f"/api/v1/jobs/{name}/log", params={"after": last, "most": 3}).json()
        if not found["lines"]:
            break
        got, last = got + [line["text"] for line in found["lines"]], found["last"]
    assert got == [line.text for line in said]
    assert found["last"] == last
    _, header = somebody(database, "bob")
    path = f"/api/v1/jobs/{name}/log"
    assert client.get(path, headers={"Authorization": header}).status_code == 404
    jobs.forget(database, who, name)
    with database.write() as connection:
        assert connection.execute(delete(table)).rowcount == 0


@given(
    levels=st.lists(st.tuples(st.sampled_from(["info", "warning", "error"]),
                              st.integers(1, 900)), max_size=12),
    portion=st.integers(1, 700),
)  # fmt: skip
def test_it_is_bounded_and_warnings_find_room(levels, portion) -> None:
    """However the lines come, and in whatever portions."""
    said = [Line(level=level, text="said") for level, times in levels for _ in range(times)]
    kept: list[Line] = []
    for start in range(0, len(said), portion):
        kept += job_log._bounded(len(kept), said[start : start + portion])
    assert kept == job_log._bounded(0, said)
    assert len(kept) <= job_log.MOST + 1
    own = [line for line in kept if line.text == "said"]
    serious = [line for line in said if line.level != "info"]
    if len(serious) <= job_log.MOST - job_log.ROUTINE - 1:
        assert [line for line in own if line.level != "info"] == serious
    if len(said) < job_log.ROUTINE:
        assert kept == said
    else:
        assert sum(line.text != "said" for line in kept) == 1 + (len(kept) > job_log.MOST)


def a_claim(name: str) -> Claim:
    return Claim(job=name, number=0, kind="segment", queue="cpu", fence=1, attempts=1, planner=1,
                 owner="", task="", limits="", plan=None, frames=10)  # fmt: skip


def test_a_database_that_is_away_costs_a_step_nothing(database, owner, monkeypatch) -> None:
    """What is said meanwhile is written when it is back, in order."""
    who, client = owner
    name = plain_job(database, who, 1)
    append, away = job_log.append, [True]

    def failing(*words: Any) -> None:
        if away:
            raise DatabaseAway("Gone.")
        append(*words)

    monkeypatch.setattr(job_log, "append", failing)
    monkeypatch.setattr(job_log, "_AWAY", 0.1)
    with JobLog(database, "w") as log:
        began = time.monotonic()
        for i in range(300):
            log.say(a_claim(name), "info", str(i))
        assert time.monotonic() - began < 5  # it would be 30, waiting for each
        time.sleep(0.3)
        assert log_of(client, name) == []
        away.clear()
        until(lambda: len(log_of(client, name)) == 300, 10)
    assert [line["text"] for line in log_of(client, name)] == [str(i) for i in range(300)]


def test_lines_of_a_job_that_is_gone_are_dropped(database, owner) -> None:
    who, client = owner
    name = plain_job(database, who, 1)
    with JobLog(database, "w") as log:
        log.say(a_claim("gone"), "info", "nobody reads this")
        log.say(a_claim(name), "info", "read")
        until(lambda: log_of(client, name), 10)
    assert [line["text"] for line in log_of(client, name)] == ["read"]
