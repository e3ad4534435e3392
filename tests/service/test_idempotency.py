"""The same request twice, and work that dies in between."""

from __future__ import annotations

import pytest
from sqlalchemy import func, insert, select, update

from longtake.core.errors import Usage
from longtake.service import idempotency
from longtake.service.database import SECOND, Database
from longtake.service.idempotency import Answer, Turn, begin
from longtake.service.problems import Problem
from longtake.service.tables import idempotency as keys
from longtake.service.tables import job
from tests.service.serving import somebody

JOB = {"kind": "upscale", "task": "{}", "limits": "{}", "state": "running"}


def answered(database: Database, key: str, sha256: str, status: int) -> Answer:
    """The answer of work that succeeds at once, or the one that is stored."""
    turn = begin(database, "ada", key, sha256)
    if not isinstance(turn, Turn):
        return turn
    with database.write() as connection:
        return turn.keep(connection, status, {"a": status})


def test_work_that_fails_may_be_tried_again(database: Database) -> None:
    owner, _ = somebody(database)
    for _ in range(2):
        turn = begin(database, "ada", "k", "1")
        assert isinstance(turn, Turn)
        with pytest.raises(Usage), database.write() as connection:
            connection.execute(insert(job).values(id="half", owner=owner, created=1, **JOB))
            turn.keep(connection, 201, {"id": "half"})
            raise Usage("not yet")
        turn.give_up()
    assert answered(database, "k", "1", 201) == (201, {"a": 201})
    assert answered(database, "k", "1", 500) == (201, {"a": 201})
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(job)).scalar() == 0


def test_work_that_died_is_taken_over_and_cannot_come_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "_WAIT", 0.2)
    dead = begin(database, "ada", "k", "1")
    assert isinstance(dead, Turn)
    with pytest.raises(Problem) as waiting:
        begin(database, "ada", "k", "1")
    assert waiting.value.status == 409
    aged = Turn(database, "ada", "k", dead.at - 61 * SECOND)
    with database.write() as connection:
        connection.execute(update(keys).values(at=aged.at))
    heir = begin(database, "ada", "k", "1")
    assert isinstance(heir, Turn)
    owner, _ = somebody(database)
    with pytest.raises(idempotency.TurnLost), database.write() as connection:
        connection.execute(insert(job).values(id="twice", owner=owner, created=1, **JOB))
        aged.keep(connection, 200, {"from": "the grave"})
    aged.give_up()
    with database.write() as connection:
        assert heir.keep(connection, 200, {"from": "the heir"})
    assert begin(database, "ada", "k", "1") == (200, {"from": "the heir"})
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(job)).scalar() == 0


def test_keys_are_forgotten_after_a_day(database: Database) -> None:
    for number in range(3):
        answered(database, f"k{number}", "1", 200)
    with database.write() as connection:
        old = keys.c.at - 24 * 3600 * SECOND - 1
        connection.execute(update(keys).where(keys.c.key != "k2").values(at=old))
    assert answered(database, "k0", "other", 201) == (201, {"a": 201})
    with database.read() as connection:
        assert set(connection.execute(select(keys.c.key)).scalars()) == {"k0", "k2"}
    for key in ("", "k" * 256):
        with pytest.raises(Problem):
            begin(database, "ada", key, "1")
