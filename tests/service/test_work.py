"""Workers: a film made by the service has the bytes of the film made by hand, whatever happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from sqlalchemy import select, update

from longtake.core import faults
from longtake.service import claiming, job_log, jobs, queue, reaping
from longtake.service.database import Database
from longtake.service.lease import Beating, Stopped
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
        faults._ticking.cache_clear()

    yield arm
    faults._armed.cache_clear()
    faults._ticking.cache_clear()


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


def enlarged(film: Path, target: Path, segment_frames: int = 8) -> str:
    """The sum of the film that the command line makes."""
    from longtake.cli.main import main

    with pytest.raises(SystemExit) as ended:
        main([
            "upscale", str(film), str(target), "--engine", "resize", "--scale", "2", "--codec",
            "ffv1", "--devices", "cpu", "--set", f"segment_frames={segment_frames}",
        ])  # fmt: skip
    assert ended.value.code == 0
    return sha(target)


@pytest.fixture(scope="module")
def by_hand(film, tmp_path_factory) -> str:
    return enlarged(film, tmp_path_factory.mktemp("hand") / "large.mkv")


def test_the_film_is_the_one_made_by_hand(database, tmp_path, film, by_hand) -> None:
    owner = someone(database)
    name = submitted(database, owner, upscaling(film))
    a_worker(database, tmp_path).run(until_empty=True)
    shown = jobs.get(database, owner, name)
    assert shown["state"] == "succeeded", shown
    made_ = {"frames": FRAMES, "of": FRAMES, "segments": {"done": 5}}
    assert shown["progress"] == made_ | {"fps": None, "eta": None, "sampler": None}
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


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_told_to_stop_it_loads_nothing_and_goes_on_with_nothing(database, tmp_path, film) -> None:
    """Whether to stop is asked before weights are loaded, and again when they are."""
    owner = someone(database)
    submitted(database, owner, upscaling(film))
    worker = a_worker(database, tmp_path)
    planning = claiming.claim(database, "w", ("cpu",), 30)
    assert planning is not None
    worker.do(planning)
    held = claiming.claim(database, "w", ("cpu",), 30)
    assert held is not None
    opened = worker._opened(held)
    beating = Beating(database=database, held=held, lease=30, draining=threading.Event())
    opens: list[str] = []

    class Engine:
        """Takes so long to open that it is told to stop meanwhile."""

        def open(self, *_: object) -> Any:
            opens.append("engine")
            beating.wish = "cancel"
            return nullcontext(None)

    opened.crafts = replace(opened.crafts, works=Engine())  # type: ignore[arg-type]
    beating.wish = "pause"
    with pytest.raises(Stopped):
        opened.load(beating)
    assert opens == []
    beating.wish = "run"
    with pytest.raises(Stopped):
        opened.load(beating)
    assert opens == ["engine"]


# --- work that is slow, and memory that runs short -----------------------------------------------

STEADY = "tick:compute:999"
LATE = "tick:compute:9,slow:compute:99"
"""A clip takes 1 s of a clock that only faults move, then 10 s."""


@pytest.fixture(scope="module")
def longer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A film of two segments of 80 frames, in one shot, and the sum of what the command line makes
    of it."""
    folder = tmp_path_factory.mktemp("longer")
    dark = np.random.default_rng(0).integers(0, 64, (48, 64, 3), np.uint8)
    film = films.make(
        folder / "in.mp4", frames=160, size=(64, 48), picture=lambda i: dark + np.uint8(i)
    )
    return film, enlarged(film, folder / "hand.mkv", 80)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("faulty", "told"),
    [
        (STEADY, []),
        (LATE, ["10.0 times the 0.125 s of the first ones"]),
        (f"{LATE},swapping:host:999", ["the system swaps", "under another placement"]),
        (f"{STEADY},short:host:99", ["0 B of RAM are free"]),
    ],
)
def test_what_disturbs_an_upscaling_is_told_and_the_film_is_the_same(
    database, tmp_path, longer, fault, faulty, told
) -> None:
    film, by_hand = longer
    fault(faulty)
    owner = someone(database)
    name = submitted(database, owner, upscaling(film, 80))
    a_worker(database, tmp_path).run(until_empty=True)
    assert sha(made(database, tmp_path, name)) == by_hand
    lines = job_log.after(database, owner, name, 0, 100)
    said = [line.text for line in lines or () if line.level == "warning"]
    assert len(said) == len(told), said
    for words, text in zip(told, said, strict=True):
        assert words in text
    assert max(s.attempts for s in standing(database, name).steps.values()) == 1
