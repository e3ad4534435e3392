"""The queue: one effect for every step, whoever dies, sleeps or comes late."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import event, select, text, update

from longtake.core.errors import LongtakeError
from longtake.service import claiming, events, jobs, queue, reaping
from longtake.service.database import Database, DatabaseAway
from longtake.service.queue import Part
from longtake.service.tables import attempt, step
from longtake.service.transitions import MOST_ATTEMPTS, Claim, LeaseLost
from tests.service.jobs import a_worker, plain_job, someone, standing

PART = Part(key="part", bytes=1, sha256="0")
LONG = 60.0


def a_film() -> dict[str, object]:
    return {"id": jobs.identifier(), "kind": "result", "state": "ready", "name": "film.mkv"}


def claimed(database: Database, who: str = "w", **how) -> Claim | None:
    return claiming.claim(database, who, ("cpu",), LONG, **{"numerics": "here", **how})


def expire(database: Database, held: Claim) -> None:
    """As if the lease had ended."""
    with database.write() as connection:
        connection.execute(
            update(step).where(step.c.job == held.job, step.c.number == held.number).values(lease=1)
        )


def test_a_job_goes_from_step_to_step(database) -> None:
    name = plain_job(database, someone(database), 3)
    for number in range(3):
        held = claimed(database)
        assert (held.number, held.kind, held.fence, held.attempts) == (number, "segment", 1, 1)
        assert queue.beat(database, held, LONG, 4) == "run"
        assert jobs.get(database, "ann", name)["progress"]["frames"] == 10 * number + 4
        queue.commit_segment(database, held, PART, "here")
    held = claimed(database)
    assert held.kind == "join"
    assert standing(database, name).job.state == "joining"
    queue.commit_join(database, held, a_film(), "succeeded")
    assert standing(database, name).job.state == "succeeded"
    assert claimed(database) is None
    told = [e.data["state"] for e in events.after(database, 0) if e.type == "job.state"]
    assert told == ["joining", "succeeded"]


def test_nobody_gets_what_somebody_has(database) -> None:
    plain_job(database, someone(database), 40)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: claimed(database, f"w{i}"), range(40)))
    got = [held.number for held in found if held is not None]
    while (held := claimed(database)) is not None:  # one may look while another decides
        got.append(held.number)
    assert sorted(got) == list(range(40))


def test_who_comes_late_changes_nothing(database) -> None:
    """A worker that was given up for dead comes back with its work."""
    name = plain_job(database, someone(database), 1)
    late = claimed(database, "late")
    expire(database, late)
    second = claimed(database, "second")
    assert (second.number, second.fence, second.attempts) == (0, 2, 2)
    for work in (
        lambda: queue.beat(database, late, LONG, 1),
        lambda: queue.commit_segment(database, late, PART, "here"),
    ):
        with pytest.raises(LeaseLost):
            work()
    assert not queue.release(database, late, "released")
    assert not queue.fail(database, late, LongtakeError("x"), "error", final=True)
    queue.commit_segment(database, second, Part(key="second", bytes=2, sha256="2"), "here")
    with pytest.raises(LeaseLost):
        queue.commit_segment(database, second, PART, "here")
    assert standing(database, name).steps[0].key == "second"
    with database.read() as connection:
        rows = connection.execute(select(attempt.c.fence, attempt.c.outcome)).all()
    assert sorted(rows) == [(1, "lost"), (2, "done")]


def test_a_step_that_kills_its_workers_ends_the_job(database) -> None:
    name = plain_job(database, someone(database), 2)
    for _ in range(MOST_ATTEMPTS):
        held = claimed(database)
        assert held.number == 0
        expire(database, held)
    assert claimed(database) is None
    found = standing(database, name)
    assert found.job.state == "failed"
    assert "3 workers died or stalled at step 0" in found.job.detail
    assert {s.state for s in found.steps.values()} == {"done", "failed", "cancelled"}


def test_an_error_is_tried_again_and_then_told(database) -> None:
    name = plain_job(database, someone(database), 1)
    for number in range(MOST_ATTEMPTS):
        held = claimed(database)
        assert queue.fail(database, held, LongtakeError(f"no {number}"), "error", final=False)
        with database.write() as connection:
            connection.execute(update(step).values(not_before=0))
    shown = jobs.get(database, "ann", name)
    assert shown["state"] == "failed"
    assert "no 2" in shown["error"]["detail"]


def test_what_is_given_back_does_not_count(database) -> None:
    plain_job(database, someone(database), 1)
    for _ in range(10):
        held = claimed(database)
        assert held.attempts == 1
        assert queue.release(database, held, "released")


# --- order ---------------------------------------------------------------------------------------


def test_owners_take_turns_and_priority_comes_first(database) -> None:
    many, one = someone(database), someone(database, "bob")
    crowd = [plain_job(database, many, 5) for _ in range(20)]
    single = plain_job(database, one, 2)
    order = [claimed(database).job for _ in range(4)]
    assert order.index(single) <= 1
    assert Counter(job == single for job in order) == {True: 2, False: 2}
    jobs.prioritise(database, many, crowd[7], 5)
    assert claimed(database).job == crowd[7]


def test_a_worker_stays_with_its_job(database) -> None:
    owner = someone(database)
    names = [plain_job(database, owner, 3) for _ in range(3)]
    assert [claimed(database, last=names[1]).job for _ in range(3)] == [names[1]] * 3
    assert claimed(database, last=names[1]).job == names[0]


def test_segments_go_where_bits_are_the_same(database) -> None:
    name = plain_job(database, someone(database), 3)
    queue.commit_segment(database, claimed(database), PART, "here")
    assert claimed(database, numerics="elsewhere") is None
    assert claimed(database, numerics="here").job == name


# --- stopping ------------------------------------------------------------------------------------


def test_cancelling_waits_for_who_is_at_work_and_keeps_the_beginning(database) -> None:
    owner = someone(database)
    name = plain_job(database, owner, 3)
    queue.commit_segment(database, claimed(database), PART, "here")
    held = claimed(database)
    jobs.cancel(database, owner, name)
    jobs.cancel(database, owner, name)
    assert standing(database, name).job.state == "running"
    assert queue.beat(database, held, LONG, 1) == "cancel"
    queue.release(database, held, "cancelled")
    assert standing(database, name).job.state == "joining"
    held = claimed(database)
    assert held.kind == "join"
    queue.commit_join(database, held, a_film(), "partial")
    assert standing(database, name).job.state == "partial"
    jobs.cancel(database, owner, name)
    assert standing(database, name).job.state == "partial"


def test_cancelling_a_dead_worker_s_job_ends_it(database) -> None:
    owner = someone(database)
    name = plain_job(database, owner, 2)
    held = claimed(database)
    jobs.cancel(database, owner, name, "nothing")
    expire(database, held)
    assert reaping.reap(database) == 1
    assert standing(database, name).job.state == "cancelled"


def test_a_pause_ends_with_resume_and_a_failure_with_retry(database) -> None:
    owner = someone(database)
    name = plain_job(database, owner, 2)
    queue.commit_segment(database, claimed(database), PART, "here")
    jobs.pause(database, owner, name)
    assert standing(database, name).job.state == "paused"
    assert claimed(database) is None
    jobs.resume(database, owner, name)
    held = claimed(database)
    assert held.number == 1
    queue.fail(database, held, LongtakeError("it broke"), "error", final=True)
    assert standing(database, name).job.state == "failed"
    with pytest.raises(jobs.Conflict):
        jobs.resume(database, owner, name)
    jobs.retry(database, owner, name)
    held = claimed(database)
    assert (held.number, held.attempts) == (1, 1)
    queue.commit_segment(database, held, PART, "here")
    assert claimed(database).kind == "join"


def test_others_see_nothing(database) -> None:
    name = plain_job(database, someone(database), 1)
    someone(database, "eve")
    for ask in (jobs.get, jobs.cancel, jobs.pause, jobs.resume, jobs.retry, jobs.forget,
                jobs.steps, jobs.attempts):  # fmt: skip
        with pytest.raises(jobs.NotFound):
            ask(database, "eve", name)
    assert jobs.listed(database, "eve") == []
    assert [j["id"] for j in jobs.listed(database, "ann")] == [name]


# --- any order of anything -----------------------------------------------------------------------


class World:
    """Workers that claim, commit, give up, die and come back; owners who stop and go on."""

    def __init__(self, database: Database, seed: int) -> None:
        self.database, self.draw = database, random.Random(seed)
        self.owner = someone(database)
        self.names = [plain_job(database, self.owner, 4) for _ in range(3)]
        self.alive: list[Claim] = []
        self.zombies: list[Claim] = []
        self.committed: Counter[tuple[str, int]] = Counter()

    def move(self) -> None:
        moves = {
            self.claim: 8,
            self.commit: 7,
            self.die: 2,
            self.rise: 2,
            self.give: 1,
            self.ask: 2,
        }
        self.draw.choices(list(moves), list(moves.values()))[0]()

    def taken(self, held: list[Claim]) -> Claim | None:
        return held.pop(self.draw.randrange(len(held))) if held else None

    def claim(self) -> None:
        if held := claimed(self.database):
            self.alive.append(held)

    def commit(self) -> None:
        if held := self.taken(self.alive):
            self.finish(held)
            self.committed[held.job, held.number] += 1

    def finish(self, held: Claim) -> None:
        if held.kind == "join":
            queue.commit_join(self.database, held, a_film(), "succeeded")
        else:
            queue.commit_segment(self.database, held, PART, "here")

    def die(self) -> None:
        if held := self.taken(self.alive):
            expire(self.database, held)
            reaping.reap(self.database)
            self.zombies.append(held)

    def rise(self) -> None:
        if held := self.taken(self.zombies):
            with pytest.raises(LeaseLost):
                self.finish(held)

    def give(self) -> None:
        if held := self.taken(self.alive):
            queue.release(self.database, held, "released")

    def ask(self) -> None:
        act = self.draw.choice((jobs.pause, jobs.resume, jobs.retry))
        with contextlib.suppress(jobs.Conflict):
            act(self.database, self.owner, self.draw.choice(self.names))


def test_a_job_that_was_done_before_it_paused_stays_done(database) -> None:
    """The pause came while its film was being joined."""
    owner = someone(database)
    name = plain_job(database, owner, 1)
    queue.commit_segment(database, claimed(database), PART, "here")
    held = claimed(database)
    jobs.pause(database, owner, name)
    queue.commit_join(database, held, a_film(), "succeeded")
    with pytest.raises(jobs.Conflict, match="is succeeded"):
        jobs.resume(database, owner, name)
    assert standing(database, name).job.state == "succeeded"


SEEDS = [*range(3), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(3, 40))]


@pytest.mark.parametrize("seed", SEEDS)
def test_any_interleaving_keeps_the_law(database, seed) -> None:
    """A step is committed at most once, and a job that has succeeded stays so, with all of it."""
    world = World(database, seed)
    succeeded: set[str] = set()
    for _ in range(300):
        world.move()
        states = {name: standing(database, name).job.state for name in world.names}
        assert all(states[name] == "succeeded" for name in succeeded)
        succeeded = {name for name, state in states.items() if state == "succeeded"}
    assert max(world.committed.values()) == 1
    assert all(world.committed[name, i] == 1 for name in succeeded for i in range(5))
    assert succeeded


def test_a_database_that_is_away_says_so(postgres) -> None:
    database = Database(f"postgresql://longtake@127.0.0.1:{postgres.port}/nowhere")
    with pytest.raises(DatabaseAway, match="nowhere"), database.read() as connection:
        connection.execute(text("SELECT 1"))
    database.close()


def test_who_finds_nothing_holds_up_nobody(database, tmp_path) -> None:
    """Idle workers, and the chore that takes leases back, only read; and they see what comes."""
    owner, begun = someone(database), []
    worker = a_worker(database, tmp_path)
    event.listen(database.engine, "begin", lambda c: begun.append(c.info.get("reads", False)))
    idle = threading.Thread(target=worker.run)
    with _versions(database) as version:
        before = version()
        idle.start()
        time.sleep(1.0)
        assert reaping.reap(database) == 0
        assert version() == before
        assert len(begun) >= 3
        assert all(begun)
        name = plain_job(database, owner, 1)  # without a plan: the attempt fails
        for _ in range(200):
            if standing(database, name).steps[0].fence:
                break
            time.sleep(0.05)
        worker.stop.set()
        idle.join()
        assert standing(database, name).steps[0].fence
        assert version() != before


@contextlib.contextmanager
def _versions(database: Database) -> Iterator[Callable[[], int]]:
    """What changes when somebody else has written something."""
    asked = "PRAGMA data_version" if database.is_sqlite else "SELECT max(id) FROM event"
    with contextlib.closing(database.engine.raw_connection()) as raw:

        def version() -> int:
            cursor = raw.cursor()
            cursor.execute(asked)
            return cursor.fetchone()[0]

        yield version
