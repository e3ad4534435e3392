"""Films from words through the service: the film made by hand, whatever happens to workers.

Nets are small, in files of the official names; steps of the sampler are what may be interrupted.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select, update

from longtake.cli.main import main
from longtake.core import faults
from longtake.core.plan import Plan
from longtake.core.task import Generate, Limits
from longtake.media import stills
from longtake.planner import machines
from longtake.planner.calibration import Calibration
from longtake.planner.survey import survey
from longtake.runtime.prepare import draft_generated, draft_of
from longtake.service import claiming, jobs, making, metrics, reaping
from longtake.service.database import Database
from longtake.service.jobs import Wish
from longtake.service.tables import asset, attempt, event, step
from longtake.service.work import Worker
from tests.needs.test_generate import folder_of
from tests.service.jobs import a_worker, plain_job, someone, standing, upscaling
from tests.service.running import sha, until

KNOBS = {"size": "64x48", "frames": 9, "steps": 3, "dtype": "float32", "text_dtype": "float32"}
SEEING = {**KNOBS, "frames": 5, "steps": 1, "model": "i2v-14b-480p"}


ONE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
"""The other kind of database is asked where both may differ."""


@pytest.fixture(scope="module", autouse=True)
def weights(tmp_path_factory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("weights")
    for version in ("t2v-1.3b", "i2v-14b-480p"):
        folder_of(home, version).rename(home / f"wan-{version}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LONGTAKE_WEIGHTS", str(home))
        yield home


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "cat.png"
    drawn = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    path.write_bytes(stills.png(drawn))
    return path


def by_hand(target: Path, *words: str, knobs: dict[str, Any] = KNOBS) -> str:
    """The sum of the film that the command line makes."""
    setting = [f"{name}={value}" for name, value in knobs.items()]
    with pytest.raises(SystemExit) as ended:
        main([
            "generate", "--prompt", "a cat walks", str(target), "--codec", "ffv1", "--devices",
            "cpu", "--set", *setting, *words,
        ])  # fmt: skip
    assert ended.value.code == 0
    return sha(target)


@pytest.fixture(scope="module")
def cat(weights, tmp_path_factory) -> str:
    return by_hand(tmp_path_factory.mktemp("hand") / "cat.mkv")


def words(**how: Any) -> Generate:
    given = {"prompt": "a cat walks", "target": Path("cat.mkv"), "codec": "ffv1", "set": KNOBS}
    return Generate(**{**given, **how})


def submitted(database: Database, root: Path, owner: str, task: Generate, **how: Any) -> str:
    limits = Limits(devices="cpu")
    known = Calibration(root / "known.json")
    plan, _ = draft_generated(replace(task, target=root / task.target), limits, survey(), known)
    return jobs.create(database, Wish(owner=owner, task=task, limits=limits, plan=plan, **how))


def film_of(database: Database, root: Path, name: str) -> str:
    with database.read() as connection:
        found = standing(database, name).job
        assert found.state == "succeeded", found.detail
        row = connection.execute(select(asset).where(asset.c.id == found.result)).one()
    assert row.sha256 == sha(root / row.key)
    return str(row.sha256)


def told(database: Database, name: str) -> list[dict[str, int]]:
    """What the stream said of steps of the sampler."""
    such = event.c.job == name, event.c.type == "job.step"
    with database.read() as connection:
        rows = connection.execute(select(event.c.data).where(*such).order_by(event.c.id))
        return [json.loads(row.data) for row in rows]


@pytest.fixture
def fault(monkeypatch) -> Iterator[Callable[[str], None]]:
    """Arms faults of this process; they are read once."""

    def arm(words: str) -> None:
        monkeypatch.setenv("LONGTAKE_FAULT", words)
        faults._armed.cache_clear()

    yield arm
    faults._armed.cache_clear()


SLOW = "slow:compute:99"  # a step of the sampler takes a second


@contextmanager
def working(database: Database, root: Path, name: str = "w") -> Iterator[Worker]:
    """A worker in a thread, until it is told to stop."""
    worker = a_worker(database, root, name)
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    try:
        yield worker
    finally:
        worker.stop.set()
        thread.join(20)
        assert not thread.is_alive()


def sampled(database: Database, name: str, at_least: int) -> bool:
    first = standing(database, name).steps.get(0)
    return first is not None and (first.sampled or 0) >= at_least


def free(database: Database, name: str) -> None:
    """Let the lease of whoever has a step end now."""
    with database.write() as connection:
        held = step.c.job == name, step.c.state == "leased"
        connection.execute(update(step).where(*held).values(lease=1))
    reaping.reap(database)


@ONE
def test_the_film_is_the_one_made_by_hand(database, tmp_path, cat) -> None:
    owner = someone(database)
    name = submitted(database, tmp_path, owner, words())
    a_worker(database, tmp_path).run(until_empty=True)
    assert film_of(database, tmp_path, name) == cat
    shown = jobs.get(database, owner, name)
    assert (shown["kind"], shown["name"]) == ("generate", "cat.mkv")
    assert shown["progress"]["sampler"] == {"done": 3, "of": 3}
    assert shown["progress"]["frames"] == shown["progress"]["of"] == 9
    assert not (tmp_path / "jobs" / name).exists()


@ONE
def test_a_film_that_begins_with_a_picture(database, tmp_path, picture) -> None:
    owner = someone(database)
    task = words(image=picture, set=SEEING, seed=3)
    name = submitted(database, tmp_path, owner, task)
    a_worker(database, tmp_path).run(until_empty=True)
    hand = by_hand(tmp_path / "hand.mkv", "--image", str(picture), "--seed", "3", knobs=SEEING)
    assert film_of(database, tmp_path, name) == hand


def test_steps_are_told_and_timed(database, tmp_path, fault) -> None:
    """While the sampler is at work, and what is left of it by its own speed."""
    fault(SLOW)
    owner = someone(database)
    name = submitted(database, tmp_path, owner, words())
    with working(database, tmp_path):
        until(lambda: sampled(database, name, 1))
        progress = jobs.get(database, owner, name)["progress"]
        figures = metrics.text(database, None, 0)[0].decode()
        until(lambda: standing(database, name).job.state == "succeeded")
    done = progress["sampler"]["done"]
    assert (progress["sampler"]["of"], progress["fps"], progress["frames"]) == (3, None, 0)
    assert 0.9 * (3 - done) < progress["eta"] < 2 * (3 - done) + 2
    assert 'longtake_jobs_going{kind="generate"} 1.0' in figures
    took = re.search(r'longtake_sampler_step_seconds\{queue="cpu"\} ([0-9.]+)', figures)
    assert took is not None
    assert 0.9 < float(took[1]) < 5
    steps = [one["done"] for one in told(database, name)]
    assert steps == sorted(steps)
    assert {one["of"] for one in told(database, name)} == {3}
    with database.read() as connection:
        which = attempt.c.job == name, attempt.c.number == 0
        row = connection.execute(select(attempt).where(*which)).one()
    assert 0.9e6 < row.step_time < 5e6
    assert 0 < row.decode_time < 10e6


@ONE
def test_killed_after_a_step_another_goes_on_from_there(database, tmp_path, cat, fault) -> None:
    """No step that is kept is made twice, and no byte is another one."""
    owner = someone(database)
    name = submitted(database, tmp_path, owner, words())
    command = [sys.executable, "-m", "longtake", "worker", "--device", "cpu", "--until-empty"]
    env = {"LONGTAKE_DB": database.url, "LONGTAKE_DATA": str(tmp_path), "LONGTAKE_FAULT": SLOW}
    with subprocess.Popen(command, env=os.environ | env, stderr=subprocess.DEVNULL) as process:
        until(lambda: sampled(database, name, 1))
        process.kill()
    kept = standing(database, name).steps[0]
    assert kept.state == "leased"
    free(database, name)
    fault("slow:compute:3")
    a_worker(database, tmp_path).run(until_empty=True)
    assert film_of(database, tmp_path, name) == cat
    made_again = 3 - len(faults._armed()["compute"])
    assert made_again <= 3 - kept.sampled
    assert told(database, name)[-1] == {"segment": 0, "done": 3, "of": 3}
    outcomes = [
        one["outcome"] for one in jobs.attempts(database, owner, name) if one["number"] == 0
    ]
    assert outcomes == ["lost", "done"]


@ONE
def test_a_damaged_checkpoint_is_done_without(database, tmp_path, cat) -> None:
    owner = someone(database)
    name = submitted(database, tmp_path, owner, words())
    left = tmp_path / "jobs" / name / "steps" / "0.0" / making.CHECKPOINT
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half of one")
    a_worker(database, tmp_path).run(until_empty=True)
    assert film_of(database, tmp_path, name) == cat


@ONE
def test_paused_resumed_cancelled_and_taken_up_again(database, tmp_path, cat, fault) -> None:
    """Within seconds, and each time from the step that was reached."""
    owner = someone(database)
    name = submitted(database, tmp_path, owner, words())
    fault(SLOW)
    with working(database, tmp_path):
        until(lambda: sampled(database, name, 1))
        for fence, stop, state, again in (
            (1, jobs.pause, "paused", jobs.resume),
            (2, jobs.cancel, "cancelled", jobs.retry),
        ):
            until(lambda fence=fence: holds(database, name, fence))
            stop(database, owner, name)
            began = time.monotonic()
            until(lambda state=state: standing(database, name).job.state == state)
            assert time.monotonic() - began < 10
            assert jobs.get(database, owner, name)["progress"]["sampler"]["done"] >= 1
            before = len(told(database, name))
            again(database, owner, name)
        fault("")
        until(lambda: standing(database, name).job.state == "succeeded")
    assert film_of(database, tmp_path, name) == cat
    assert all(one["done"] >= 1 for one in told(database, name)[before:])
    made = [one["outcome"] for one in jobs.attempts(database, owner, name) if one["number"] == 0]
    assert made == ["cancelled", "cancelled", "done"]


def holds(database: Database, name: str, fence: int) -> bool:
    """Whether the segment is in somebody's hands for the so-many-th time."""
    found = standing(database, name).steps[0]
    return bool(found.state == "leased" and found.fence == fence)


@ONE
def test_deleted_it_is_gone(database, tmp_path, fault) -> None:
    owner = someone(database)
    name = submitted(database, tmp_path, owner, words())
    fault(SLOW)
    with working(database, tmp_path):
        until(lambda: sampled(database, name, 1))
        with pytest.raises(jobs.Conflict, match="cancel it first"):
            jobs.forget(database, owner, name)
        jobs.cancel(database, owner, name)
        until(lambda: standing(database, name).job.state == "cancelled")
    jobs.forget(database, owner, name)
    with pytest.raises(jobs.NotFound):
        jobs.get(database, owner, name)


def test_who_is_late_writes_nobody_else_s_checkpoint(database, tmp_path, cat, fault) -> None:
    """A worker that slept past its lease goes on, while another has the step already."""
    owner = someone(database)
    name = submitted(database, tmp_path, owner, words())
    asleep, awake = (a_worker(database, tmp_path, who) for who in ("asleep", "awake"))
    planning = claiming.claim(database, "asleep", ("cpu",), 30)
    assert planning is not None
    asleep.do(planning)
    first = claiming.claim(database, "asleep", ("cpu",), 30)
    free(database, name)
    second = claiming.claim(database, "awake", ("cpu",), 30)
    assert first is not None
    assert second is not None
    assert (first.number, second.number, second.fence) == (0, 0, first.fence + 1)
    fault(SLOW)
    threads = [
        threading.Thread(target=worker.do, args=(held,), daemon=True)
        for worker, held in ((asleep, first), (awake, second))
    ]
    for thread in threads:
        thread.start()
    late, mine = (
        tmp_path / "jobs" / name / "steps" / f"0.{held.fence}" / making.CHECKPOINT
        for held in (first, second)
    )
    until(lambda: late.exists() or mine.exists())
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    made = [one["outcome"] for one in jobs.attempts(database, owner, name) if one["number"] == 0]
    assert made == ["lost", "done"]
    awake.run(until_empty=True)
    assert film_of(database, tmp_path, name) == cat


@ONE
def test_a_claim_begins_with_the_last_one_s_checkpoint(database, tmp_path) -> None:
    """As it was then: what is written there later is not seen."""
    name = plain_job(database, someone(database), 1)
    first = claiming.claim(database, "a", ("cpu",), 30)
    assert first is not None
    theirs = making.workplace(tmp_path, first)
    (theirs / making.CHECKPOINT).write_bytes(b"step 3")
    free(database, name)
    second = claiming.claim(database, "b", ("cpu",), 30)
    assert second is not None
    (theirs / "new").write_bytes(b"step 4")
    mine = making.workplace(tmp_path, second)
    assert (mine / making.CHECKPOINT).read_bytes() == b"step 3"
    assert not theirs.exists()
    theirs.mkdir()  # as who is late makes it
    (theirs / "new").write_bytes(b"step 4")
    (theirs / "new").replace(theirs / making.CHECKPOINT)
    assert making.workplace(tmp_path, second) == mine
    assert (mine / making.CHECKPOINT).read_bytes() == b"step 3"


@pytest.mark.parametrize("knobs", [{}, {"model": "t2v-14b", "size": "1280x720"}])
def test_a_stage_that_takes_long_is_no_lost_worker(tmp_path, knobs) -> None:
    """In a stage without blocks nothing ticks: it may take twice as long as it should."""
    task = words(target=tmp_path / "cat.mkv", set=knobs)
    known, machine = Calibration(tmp_path / "known.json"), machines.described("h200")
    plan, _ = draft_generated(task, Limits(), machine, known, only_plan=True)
    assert plan.outlook is not None
    decode = plan.outlook.stage("decode")
    assert decode is not None
    assert making._patience(plan) >= 2 * (decode.seconds or 0) > 0
    assert making._patience(replace(plan, outlook=None)) == 0


@ONE
def test_memory_that_runs_out_takes_the_next_placement(database, tmp_path, cat, fault) -> None:
    """From the last step, not from the first; and what is no number is made once more."""
    fault("oom:compute:1,nan:values:1")
    owner = someone(database)
    name = submitted(database, tmp_path, owner, words())
    worker = a_worker(database, tmp_path)

    def ended() -> bool:
        worker.run(until_empty=True)
        return standing(database, name).job.state in ("succeeded", "failed")

    until(ended)
    assert film_of(database, tmp_path, name) == cat
    assert not faults._armed()["compute"]
    assert not faults._armed()["values"]
    assert standing(database, name).steps[0].attempts == 2


@ONE
def test_a_film_from_words_is_made_larger_by_the_next_job(database, tmp_path) -> None:
    owner = someone(database)
    first = submitted(database, tmp_path, owner, words(target=Path("cat.mkv")))
    plan = jobs.plan_of(database, owner, first)
    task = upscaling(tmp_path / "cat.mkv")
    limits = Limits(devices="cpu")
    known = Calibration(tmp_path / "known.json")
    made, _ = draft_of(task, Plan.from_json(plan).info, limits, survey(), known)
    second = jobs.create(
        database, Wish(owner=owner, task=task, limits=limits, plan=made, parent=first)
    )
    a_worker(database, tmp_path).run(until_empty=True)
    film_of(database, tmp_path, second)
    assert jobs.get(database, owner, second)["progress"]["of"] == 9
