"""Workers are killed at random, and PostgreSQL with all of its backends: same bytes."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
from sqlalchemy import func, select

from longtake.service import jobs
from longtake.service.database import Database, DatabaseAway
from longtake.service.tables import attempt
from longtake.service.upgrade import upgrade
from tests.media import films
from tests.service.conftest import start_postgres
from tests.service.jobs import someone, standing, submitted, upscaling
from tests.service.running import made_by_hand, sha, until
from tests.service.test_work import made


@dataclass(slots=True)
class Crew:
    """Worker processes; the dead are replaced."""

    url: str
    root: Path
    lease: float
    size: int
    men: list[subprocess.Popen[bytes]] = field(default_factory=list)
    kills: int = 0
    slow: str = ""
    """LONGTAKE_FAULT of those who come."""

    def fill(self) -> None:
        self.men = [man for man in self.men if man.poll() is None]
        while len(self.men) < self.size:
            env = {**os.environ, "LONGTAKE_DB": self.url, "LONGTAKE_DATA": str(self.root),
                   "LONGTAKE_CACHE": str(self.root), "LONGTAKE_FAULT": self.slow}  # fmt: skip
            words = [sys.executable, "-m", "longtake", "worker", "--device", "cpu", "--lease",
                     str(self.lease)]  # fmt: skip
            with (self.root / "log").open("ab") as log:
                self.men.append(subprocess.Popen(words, env=env, stdout=log, stderr=log))

    def kill(self, draw: random.Random) -> None:
        man = draw.choice(self.men)
        man.send_signal(signal.SIGKILL)
        man.wait()
        self.kills += 1

    def end(self) -> None:
        for man in self.men:
            man.kill()
            man.wait()


@contextlib.contextmanager
def crew(url: str, root: Path, lease: float = 1.5, size: int = 3) -> Iterator[Crew]:
    root.mkdir(exist_ok=True)
    men = Crew(url, root, lease, size)
    try:
        yield men
    finally:
        men.end()


@dataclass(frozen=True, slots=True)
class Storm:
    """What is done to a job, and how long its film is."""

    kills: int
    wrecks: int = 0  # of the database
    seed: int = 0
    frames: int = 640


SHORT = Storm(kills=10, wrecks=2)
ENOUGH = 0.6  # of the kills: a step at its third attempt is spared, so a storm may fall short
LONG = [Storm(kills=50, wrecks=5, seed=seed, frames=3200) for seed in range(10)]
STORMS = [SHORT, *(pytest.param(storm, marks=pytest.mark.long) for storm in LONG)]


def survived(database: Database, men: Crew, source: Path, storm: Storm, wreck=None) -> str:
    """Kill until enough have died and the job has succeeded; returns the film's sha256."""
    draw, owner = random.Random(storm.seed), someone(database)
    name, seen = submitted(database, owner, upscaling(source, segment_frames=8)), Counter[str]()
    deadline = time.monotonic() + 240 * storm.frames / SHORT.frames
    while True:
        assert time.monotonic() < deadline, (men.root / "log").read_text()[-3000:]
        men.fill()
        time.sleep(draw.uniform(0.5, 1.1))
        try:
            found = standing(database, name)
            state = found.job.state
        except DatabaseAway:
            continue
        assert state != "failed", jobs.get(database, owner, name)["error"]
        if state == "succeeded":
            break
        seen[state] += 1
        # a step that has killed three workers ends the job: none is killed at its third attempt
        tried = max((s.attempts for s in found.steps.values() if s.state == "leased"), default=0)
        if men.kills < storm.kills and tried < 3 and (state == "running" or seen[state] == 1):
            men.kill(draw)
        if wreck is not None:
            wreck(men.kills)
    with database.read() as connection:
        done = connection.execute(
            select(attempt.c.number, func.count())
            .where(attempt.c.job == name, attempt.c.outcome == "done")
            .group_by(attempt.c.number)
        ).all()
    assert all(count == 1 for _, count in done)
    return sha(made(database, men.root, name))


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Callable[[int], Path]:
    @cache
    def made(frames: int) -> Path:
        folder = tmp_path_factory.mktemp("film")
        return films.make(folder / "in.mp4", frames=frames, size=(320, 180), sound=True)

    return made


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Callable[[Path], str]:
    return cache(lambda source: made_by_hand(source, tmp_path_factory.mktemp("hand") / "large.mkv"))


@pytest.mark.parametrize("storm", STORMS, ids=str)
def test_workers_that_are_killed_change_no_byte(tmp_path, sources, straight, storm) -> None:
    """Chaos A."""
    source = sources(storm.frames)
    url = f"sqlite:///{tmp_path / 'data' / 'service.db'}"
    database = Database(url)
    upgrade(database)
    with crew(url, tmp_path / "data") as men:
        assert survived(database, men, source, storm) == straight(source)
        assert men.kills >= ENOUGH * storm.kills
    database.close()


@pytest.mark.parametrize("storm", STORMS, ids=str)
def test_a_database_that_is_killed_changes_no_byte(tmp_path, sources, straight, storm) -> None:
    """Chaos B: the server and all of its backends, in the middle of anything."""
    source = sources(storm.frames)
    server = start_postgres(tmp_path / "server")
    url = server.make("chaos")
    database = Database(url)
    upgrade(database)
    wrecks = 0

    def wreck(kills: int) -> None:
        nonlocal server, wrecks
        if wrecks < storm.wrecks and kills > 2 * wrecks:
            subprocess.run(["pkill", "-9", "-P", str(server.process.pid)], check=False)
            server.process.kill()
            server.process.wait()
            (server.folder / "data" / "postmaster.pid").unlink(missing_ok=True)
            for socket in server.folder.glob(".s.PGSQL.*"):
                socket.unlink()
            server = start_postgres(tmp_path / "server", server.port)
            wrecks += 1

    try:
        with crew(url, tmp_path / "data") as men:
            assert survived(database, men, source, storm, wreck) == straight(source)
        assert wrecks == storm.wrecks
    finally:
        database.close()
        server.process.kill()
        server.process.wait()


def test_a_worker_that_slept_too_long_is_too_late(tmp_path, sources) -> None:
    """SIGSTOP for longer than the lease: somebody else has the step then."""
    source = sources(SHORT.frames)
    url = f"sqlite:///{tmp_path / 'data' / 'service.db'}"
    database = Database(url)
    upgrade(database)
    owner = someone(database)
    with crew(url, tmp_path / "data", lease=1.0, size=1) as men:
        men.slow = "slow:encode:99"  # so that it is caught in the middle
        name = submitted(database, owner, upscaling(source, segment_frames=80))
        men.fill()
        until(lambda: any(s.kind == "segment" and s.state == "leased"
                          for s in standing(database, name).steps.values()))  # fmt: skip
        (sleeper,) = men.men
        sleeper.send_signal(signal.SIGSTOP)
        men.men, men.slow = [], ""
        men.fill()
        until(lambda: standing(database, name).job.state == "succeeded")
        men.men.append(sleeper)
        sleeper.send_signal(signal.SIGCONT)
        time.sleep(1.5)
        assert sleeper.poll() is None
        outcomes = [a["outcome"] for a in jobs.attempts(database, owner, name)]
        assert outcomes.count("lost") == 1
        assert standing(database, name).job.state == "succeeded"
    database.close()
