"""Workers: a film made by the service has the bytes of the film made by hand, whatever happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import pytest
from sqlalchemy import select, update

from longtake.core import faults
from longtake.service import claiming, jobs, queue, reaping
from longtake.service.database import Database
from longtake.service.tables import asset, step
from tests.media import films
from tests.service.jobs import a_worker, someone, standing, submitted, upscaling
from tests.service.running import sha, until

FRAMES = 40


@pytest.fixture
def fault(monkeypatch) -> Iterator[Callable[[str], None]]:
    """Arms faults of this process; they are read once."""

    def arm(words: str) -> None:
        monkeypatch.setenv("LONGTAKE_FAULT", words)
        faults._armed.cache_clear()

    yield arm
    faults._armed.cache_clear()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return films.make(tmp_path_factory.mktemp("film") / "in.mp4", frames=FRAMES, size=(64, 48),
                      sound=True)  # fmt: skip


def made(database: Database, root: Path, name: str) -> Path:
    found = standing(database, name).job
    with database.read() as connection:
        row = connection.execute(select(asset).where(asset.c.id == found.result)).one()
    path = root / row.key
    assert row.sha256 == sha(path)
    assert row.bytes == path.stat().st_size
    return path


@pytest.fixture(scope="module")
def by_hand(film, tmp_path_factory) -> str:
    from longtake.cli.main import main

    target = tmp_path_factory.mktemp("hand") / "large.mkv"
    with pytest.raises(SystemExit) as ended:
        main([
            "upscale", str(film), str(target), "--engine", "resize", "--scale", "2", "--codec",
            "ffv1", "--devices", "cpu", "--set", "segment_frames=8",
        ])  # fmt: skip
    assert ended.value.code == 0
    return sha(target)


def test_the_film_is_the_one_made_by_hand(database, tmp_path, film, by_hand) -> None:
    owner = someone(database)
    name = submitted(database, owner, upscaling(film))
    a_worker(database, tmp_path).run(until_empty=True)
    shown = jobs.get(database, owner, name)
    assert shown["state"] == "succeeded", shown
    made_ = {"frames": FRAMES, "of": FRAMES, "segments": {"done": 5}}
    assert shown["progress"] == made_ | {"fps": None, "eta": None}
    assert sha(made(database, tmp_path, name)) == by_hand
    assert not (tmp_path / "jobs" / name).exists()


def test_two_workers_and_many_stops_make_the_same_film(database, tmp_path, film, by_hand) -> None:
    """A worker that is told to stop gives its step back at once."""
    owner = someone(database)
    name = submitted(database, owner, upscaling(film))
    deadline = time.monotonic() + 180
    while standing(database, name).job.state != "succeeded":
        assert time.monotonic() < deadline
        workers = [a_worker(database, tmp_path, f"w{i}") for i in range(2)]
        threads = [threading.Thread(target=w.run, daemon=True) for w in workers]
        for thread in threads:
            thread.start()
        time.sleep(0.4)
        for worker in workers:
            worker.stop.set()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
    assert sha(made(database, tmp_path, name)) == by_hand


def test_cancelled_it_leaves_what_was_done_as_a_film(database, tmp_path, film) -> None:
    owner = someone(database)
    name = submitted(database, owner, upscaling(film))
    worker = a_worker(database, tmp_path)
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    until(lambda: standing(database, name).job.frames_done >= 16)
    jobs.cancel(database, owner, name)
    until(lambda: standing(database, name).job.state in ("partial", "succeeded"))
    worker.stop.set()
    thread.join(20)
    found = standing(database, name)
    with av.open(str(made(database, tmp_path, name))) as container:
        frames = sum(1 for _ in container.decode(video=0))
        assert container.streams.audio
    assert frames == 8 * sum(
        s.kind == "segment" and s.state == "done" for s in found.steps.values()
    )
    if found.job.state == "partial":
        jobs.retry(database, owner, name)
        a_worker(database, tmp_path).run(until_empty=True)
        assert standing(database, name).job.state == "succeeded"


def test_a_source_that_cannot_be_read_fails_at_once(database, tmp_path, film) -> None:
    owner = someone(database)
    source = tmp_path / "copy.mp4"
    source.write_bytes(film.read_bytes())
    name = submitted(database, owner, upscaling(source))
    source.write_bytes(b"nothing")
    a_worker(database, tmp_path).run(until_empty=True)
    shown = jobs.get(database, owner, name)
    assert (shown["state"], shown["error"]["code"]) == ("failed", 2)
    assert len(jobs.attempts(database, owner, name)) == 1


def test_a_job_waits_for_the_film_of_another(database, tmp_path, film) -> None:
    owner = someone(database)
    first = submitted(database, owner, upscaling(film))
    second = submitted(database, owner, upscaling(film), parent=first)
    a_worker(database, tmp_path).run(until_empty=True)
    with av.open(str(made(database, tmp_path, second))) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (256, 192)


def test_memory_that_runs_out_takes_the_next_placement(database, tmp_path, film, fault) -> None:
    """And not another recipe, nor another attempt."""
    fault("oom:compute:1")
    owner = someone(database)
    name = submitted(database, owner, upscaling(film))
    a_worker(database, tmp_path).run(until_empty=True)
    found = standing(database, name)
    assert found.job.state == "succeeded", found.job.detail
    assert not faults._armed()["compute"]  # it did strike
    assert max(s.attempts for s in found.steps.values()) == 1


def test_a_planner_that_slept_spoils_nothing(database, tmp_path, film, by_hand) -> None:
    """It wakes up while the segments of the other's plan are being made, and goes on writing."""
    owner = someone(database)
    name = submitted(database, owner, upscaling(film))
    asleep, awake = (a_worker(database, tmp_path, who) for who in ("asleep", "awake"))
    first = claiming.claim(database, "asleep", ("cpu",), 0.05)
    assert first is not None
    time.sleep(0.1)
    second = None
    while second is None:  # somebody who lost a step is waited for a moment
        second = claiming.claim(database, "awake", ("cpu",), 30)
        time.sleep(0.05)
    assert (first.kind, second.kind) == ("plan", "plan")
    awake.do(second)
    assert standing(database, name).job.plan is not None
    asleep.do(first)
    spoiled = list(tmp_path.glob(f"jobs/{name}/*.{first.fence}/*"))
    assert spoiled
    for path in spoiled:
        path.write_bytes(b"half of something else")
    awake.run(until_empty=True)
    assert sha(made(database, tmp_path, name)) == by_hand


def test_what_is_no_number_is_made_once_more(database, tmp_path, film, fault) -> None:
    fault("nan:values:1")
    owner = someone(database)
    task = upscaling(film, engine="lite", frames=(0, 16))
    name = submitted(database, owner, task)
    worker = a_worker(database, tmp_path)

    def ended() -> bool:
        worker.run(until_empty=True)
        return standing(database, name).job.state in ("succeeded", "failed")

    until(ended)
    found = standing(database, name)
    assert found.job.state == "succeeded", found.job.detail
    assert [s.attempts for s in found.steps.values() if s.kind == "segment"] == [2, 1]


def test_a_film_that_came_too_late_is_gone(database, tmp_path, film, monkeypatch) -> None:
    """The owner sees one film, not two."""
    owner = someone(database)
    name = submitted(database, owner, upscaling(film))
    join = queue.commit_join
    late = []

    def slow(held_database, held, about, state) -> None:
        if not late:
            late.append(about["id"])
            with database.write() as connection:
                connection.execute(
                    update(step).where(step.c.job == name, step.c.kind == "join").values(lease=1)
                )
            reaping.reap(database)
        join(held_database, held, about, state)

    monkeypatch.setattr(queue, "commit_join", slow)
    a_worker(database, tmp_path).run(until_empty=True)
    assert standing(database, name).job.state == "succeeded"
    with database.read() as connection:
        films_ = connection.execute(select(asset.c.id)).scalars().all()
    assert len(films_) == 1
    assert late[0] not in films_
    assert [p.name for p in (tmp_path / "assets").iterdir()] == films_
