"""What users may take: jobs at a time, device time a month, bytes; and who says how much."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, insert, select, update

from longtake.core.errors import LongtakeError
from longtake.service import claiming, jobs, queue, quotas, reaping
from longtake.service.database import SECOND, Database
from longtake.service.queue import Part
from longtake.service.quotas import OverQuota
from longtake.service.tables import attempt, job, step, usage, user, worker
from longtake.service.transitions import Claim
from longtake.service.users import add_user, find_user, issue
from tests.media import films
from tests.service.jobs import plain_job, someone
from tests.service.serving import ready, served, somebody, whole

MONTH = datetime.now(UTC).strftime("%Y-%m")


@dataclass(slots=True)
class Service:
    database: Database
    client: httpx.Client
    admin: dict[str, str]
    ada: dict[str, str]
    owner: str
    asset: str

    def grant(self, **quotas: Any) -> dict[str, Any]:
        answer = self.client.patch(f"/api/v1/users/{self.owner}", json=quotas, headers=self.admin)
        return dict(answer.raise_for_status().json())

    def post(self, **how: Any) -> httpx.Response:
        body = {"asset": self.asset, "params": {"engine": "resize", "scale": 2}, **how}
        return self.client.post("/api/v1/jobs", json=body, headers=self.ada)

    def usage(self) -> dict[str, Any]:
        return dict(self.client.get("/api/v1/usage", headers=self.ada).raise_for_status().json())


@pytest.fixture
def service(database: Database, tmp_path: Path) -> Iterator[Service]:
    app, chores = whole(database, tmp_path)
    _, admin = somebody(database, "root", "admin")
    owner, ada = somebody(database, "ada")
    with served(app) as address, httpx.Client(base_url=address, timeout=60) as client:
        asset = ready(client, chores, films.make(tmp_path / "in.mp4", frames=12), ada)
        yield Service(
            database, client, {"Authorization": admin}, {"Authorization": ada}, owner, asset
        )


def spent(database: Database, owner: str) -> float:
    with database.read() as connection:
        found = connection.execute(
            select(usage.c.device_time).where(usage.c.owner == owner, usage.c.month == MONTH)
        ).scalar()
    return (found or 0) / SECOND


def claimed(database: Database, who: str = "w", lease: float = 30) -> Claim:
    held = claiming.claim(database, who, ("cpu",), lease, numerics="n")
    assert held is not None
    return held


def at_once(database: Database) -> None:
    """Let no step be waited for."""
    with database.write() as connection:
        connection.execute(update(step).values(not_before=0))


def took(database: Database, held: Claim, seconds: float) -> None:
    """Let an attempt have begun so long ago."""
    here = (attempt.c.job == held.job, attempt.c.number == held.number,
            attempt.c.fence == held.fence)  # fmt: skip
    with database.write() as connection:
        began = database.now(connection) - int(seconds * SECOND)
        connection.execute(update(attempt).where(*here).values(began=began))


# --- jobs at a time ------------------------------------------------------------------------------


def test_fifty_at_once_are_five(service: Service) -> None:
    service.grant(quota_jobs=5)
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: service.post(), range(50)))
    codes = [answer.status_code for answer in answers]
    assert (codes.count(202), codes.count(429)) == (5, 45)
    refused = next(answer.json() for answer in answers if answer.status_code == 429)
    assert (refused["quota"], refused["used"], refused["limit"]) == ("jobs", 5, 5)
    assert "5 jobs have not ended; 5 are allowed at a time." in refused["detail"]
    assert answers[codes.index(429)].headers["content-type"] == "application/problem+json"
    assert service.usage()["jobs"] == {"used": 5, "limit": 5}
    with service.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(job)).scalar_one() == 5


def test_what_has_ended_makes_room_and_is_not_taken_up_over_it(service: Service) -> None:
    service.grant(quota_jobs=1)
    first = service.post().json()["id"]
    assert service.post().status_code == 429
    service.client.post(f"/api/v1/jobs/{first}/cancel", headers=service.ada).raise_for_status()
    assert service.post().status_code == 202
    retried = service.client.post(f"/api/v1/jobs/{first}/retry", headers=service.ada)
    assert retried.status_code == 429
    service.grant(quota_jobs=None)
    retried = service.client.post(f"/api/v1/jobs/{first}/retry", headers=service.ada)
    assert retried.status_code == 202


# --- device time ---------------------------------------------------------------------------------


def test_every_attempt_counts_whatever_comes_of_it(database) -> None:
    someone(database, "ann")
    plain_job(database, "ann", 3)
    took(database, held := claimed(database), 1_000)
    queue.commit_segment(database, held, Part(key="a", bytes=1, sha256="x"), "n")
    assert spent(database, "ann") == pytest.approx(1_000, abs=300)
    took(database, held := claimed(database), 2_000)
    queue.release(database, held, "released")
    assert spent(database, "ann") == pytest.approx(3_000, abs=300)
    took(database, held := claimed(database), 3_000)
    queue.fail(database, held, LongtakeError("bad"), "crash", final=False)
    assert spent(database, "ann") == pytest.approx(6_000, abs=300)
    at_once(database)
    took(database, held := claimed(database), 4_000)
    with database.write() as connection:  # its worker died: it counts until its lease ended
        ended = database.now(connection) - 2_500 * SECOND
        connection.execute(update(step).where(step.c.state == "leased").values(lease=ended))
    assert reaping.reap(database) == 1
    assert spent(database, "ann") == pytest.approx(7_500, abs=300)
    took(database, held := claimed(database), 5_000)
    queue.fail(database, held, LongtakeError("worse"), "error", final=True)
    assert spent(database, "ann") == pytest.approx(12_500, abs=300)
    jobs.forget(database, "ann", held.job)
    assert spent(database, "ann") == pytest.approx(12_500, abs=300)


def test_a_late_commit_counts_once(database) -> None:
    someone(database, "ann")
    plain_job(database, "ann", 1)
    took(database, held := claimed(database, lease=0.01), 5)
    with database.write() as connection:
        connection.execute(update(step).where(step.c.state == "leased").values(lease=1))
    reaping.reap(database)
    before = spent(database, "ann")
    assert not queue.release(database, held, "released")
    assert spent(database, "ann") == before


def test_many_that_end_at_once_lose_nothing(database) -> None:
    someone(database, "ann")
    plain_job(database, "ann", 24)
    held = [claimed(database, f"w{i}") for i in range(24)]
    for one in held:
        took(database, one, 100)

    def commit(one: Claim) -> None:
        part = Part(key=f"k{one.number}", bytes=1, sha256="x")
        queue.commit_segment(database, one, part, "n")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(commit, held))
    with database.read() as connection:
        took_all = connection.execute(select(func.sum(attempt.c.ended - attempt.c.began))).scalar()
    assert spent(database, "ann") == int(took_all) / SECOND >= 2400


def test_who_has_used_it_up_waits_and_others_go_on(database) -> None:
    someone(database, "ann", quota_seconds=100)
    someone(database, "bob", quota_seconds=100)
    mine = plain_job(database, "ann", 3, priority=5)
    theirs = plain_job(database, "bob", 1)
    held = claimed(database)
    assert held.job == mine
    took(database, held, 101)
    queue.commit_segment(database, held, Part(key="a", bytes=1, sha256="x"), "n")
    assert claimed(database).job == theirs
    assert claiming.claim(database, "w", ("cpu",), 30) is None
    with database.read() as connection:
        states = connection.execute(
            select(step.c.state).where(step.c.job == mine, step.c.kind == "segment")
        ).scalars().all()  # fmt: skip
    assert sorted(states) == ["done", "ready", "ready"]
    told = jobs.get(database, "ann", mine)["waiting"]
    assert told["reason"] == "quota"
    assert "of 100 device seconds" in told["detail"]
    assert jobs.listed(database, "ann")[0]["waiting"] == told
    assert jobs.get(database, "bob", theirs)["waiting"] is None
    with database.write() as connection:  # another month
        connection.execute(update(usage).values(month="2020-01"))
    assert claimed(database).job == mine


def test_a_month_that_is_used_up_takes_no_job(service: Service) -> None:
    service.grant(quota_seconds=60)
    assert service.post().status_code == 202
    with service.database.write() as connection:
        quotas.spend(connection, service.owner, service.database.now(connection), 61 * SECOND)
    refused = service.post()
    assert refused.status_code == 429
    told = refused.json()
    assert (told["quota"], told["used"], told["limit"]) == ("seconds", 61.0, 60)
    assert f"61.0 of 60 device seconds of {MONTH} are used" in told["detail"]
    assert service.usage()["device_seconds"] == {"used": 61.0, "limit": 60}
    service.grant(quota_seconds=62)
    assert service.post().status_code == 202


def test_a_month_ends_in_utc() -> None:
    at = int(datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())
    assert quotas.month_of(at * SECOND) == "2026-12"
    assert quotas.month_of((at + 1) * SECOND) == "2027-01"
    use = quotas.Use(month="2026-12", seconds=5, seconds_limit=4, jobs=0, jobs_limit=None, bytes=0,
                     bytes_limit=None)  # fmt: skip
    assert "goes on in 2027-01" in use.words()


# --- bytes ---------------------------------------------------------------------------------------


def test_films_that_were_made_count_too(service: Service) -> None:
    made = {"id": "r", "kind": "result", "state": "ready", "name": "r.mkv",
            "key": "assets/r/content", "bytes": 700}  # fmt: skip
    plain_job(service.database, service.owner, 1)
    with service.database.write() as connection:
        segment = update(step).where(step.c.kind == "segment")
        connection.execute(segment.values(state="done", key="k"))
        connection.execute(update(step).where(step.c.kind == "join").values(state="ready"))
    held = claimed(service.database)
    queue.commit_join(service.database, held, {**made, "sha256": "x"}, "succeeded")
    service.grant(quota_bytes=1000)
    assert service.usage()["bytes"] == {"used": 700, "limit": 1000}
    headers = {**service.ada, "Tus-Resumable": "1.0.0", "Upload-Length": "301"}
    assert service.client.post("/api/v1/uploads", headers=headers).status_code == 413
    headers["Upload-Length"] = "300"
    assert service.client.post("/api/v1/uploads", headers=headers).status_code == 201
    assert service.usage()["bytes"] == {"used": 1000, "limit": 1000}


# --- who says how much ---------------------------------------------------------------------------


def test_admins_make_users_and_their_tokens(service: Service) -> None:
    client, admin = service.client, service.admin
    body = {"name": "grace", "quota_jobs": 2}
    made = client.post("/api/v1/users", json=body, headers=admin)
    assert made.status_code == 201, made.text
    grace = made.json()
    assert (grace["role"], grace["quota_jobs"], grace["quota_bytes"]) == ("user", 2, None)
    assert client.post("/api/v1/users", json=body, headers=admin).status_code == 422
    asked = {"name": "laptop", "scopes": ["jobs:read"], "user": grace["id"]}
    issued = client.post("/api/v1/tokens", json=asked, headers=admin).raise_for_status().json()
    hers = {"Authorization": f"Bearer {issued['token']}"}
    assert client.get("/api/v1/usage", headers=hers).json()["jobs"] == {"used": 0, "limit": 2}
    assert client.get("/api/v1/auth/session", headers=hers).json()["owner"] == grace["id"]
    assert client.get("/api/v1/users", headers=hers).status_code == 403
    assert client.post("/api/v1/tokens", json=asked, headers=hers).status_code == 403
    above = {**asked, "scopes": ["admin"]}
    assert client.post("/api/v1/tokens", json=above, headers=admin).status_code == 422
    nobody = {**asked, "user": "nobody"}
    assert client.post("/api/v1/tokens", json=nobody, headers=admin).status_code == 422
    tokens = client.get("/api/v1/tokens", params={"user": grace["id"]}, headers=admin).json()
    ended = client.delete(f"/api/v1/tokens/{tokens['tokens'][0]['id']}", headers=admin)
    assert ended.status_code == 204
    assert client.get("/api/v1/usage", headers=hers).status_code == 401
    listed = client.get("/api/v1/users", headers=admin).json()["users"]
    assert [one["name"] for one in listed] == ["root", "ada", "grace"]
    assert listed[2]["usage"]["jobs"] == {"used": 0, "limit": 2}


def test_what_is_left_out_stays(service: Service) -> None:
    service.grant(quota_jobs=3, quota_bytes=10)
    changed = service.grant(quota_seconds=7)
    assert (changed["quota_jobs"], changed["quota_bytes"], changed["quota_seconds"]) == (3, 10, 7)
    changed = service.grant(quota_jobs=None)
    assert (changed["quota_jobs"], changed["quota_bytes"]) == (None, 10)
    for wrong in ({"quota_jobs": -1}, {"quota_jobs": 2**31}, {"quota_seconds": 10**13},
                  {"quota_bytes": 2**63}, {"role": "king"}, {"name": "x"}):  # fmt: skip
        path = f"/api/v1/users/{service.owner}"
        answer = service.client.patch(path, json=wrong, headers=service.admin)
        assert answer.status_code == 422, wrong
    answer = service.client.patch("/api/v1/users/nobody", json={}, headers=service.admin)
    assert answer.status_code == 404
    answer = service.client.patch(path, json={"quota_jobs": 9}, headers=service.ada)
    assert answer.status_code == 403


def test_who_is_disabled_is_kept_out_and_an_admin_stays(service: Service) -> None:
    service.grant(disabled=True)
    assert service.client.get("/api/v1/usage", headers=service.ada).status_code == 401
    assert service.grant(disabled=False)["disabled"] is None
    assert service.usage()["month"] == MONTH
    root = find_user(service.database, "root")
    for change in ({"disabled": True}, {"role": "user"}):
        answer = service.client.patch(f"/api/v1/users/{root}", json=change, headers=service.admin)
        assert answer.status_code == 409
        assert "root is needed as an admin" in answer.json()["detail"]
    service.grant(role="admin")
    answer = service.client.patch(
        f"/api/v1/users/{root}", json={"role": "user"}, headers=service.admin
    )
    assert answer.status_code == 200
    assert service.client.get("/api/v1/users", headers=service.admin).status_code == 403


# --- why a job waits -----------------------------------------------------------------------------


def test_a_job_that_nobody_does_says_why(database) -> None:
    someone(database, "ann")
    name = plain_job(database, "ann", 1)

    def why() -> Any:
        return jobs.get(database, "ann", name)["waiting"]

    assert why()["reason"] == "worker"
    with database.write() as connection:
        about = {"id": "w", "host": "h", "pid": 1, "device": "cpu", "queues": "gpu cpu",
                 "version": "1", "state": "idle",
                 "telemetry": '{"waits": "0.1 GB free"}'}  # fmt: skip
        now = database.now(connection)
        connection.execute(insert(worker).values(**about, began=now, beat=now))
    assert why() == {"reason": "disk", "detail": "0.1 GB free"}
    with database.write() as connection:
        connection.execute(update(worker).values(telemetry=None))
    assert why() is None
    held = claimed(database)
    queue.release(database, held, "error", 100)
    assert why()["reason"] == "later"
    with database.write() as connection:
        connection.execute(update(worker).values(beat=1))
    assert why()["reason"] == "worker"
    jobs.pause(database, "ann", name)
    assert why() is None


def test_over_quota_is_an_error_of_the_house(database) -> None:
    owner = add_user(database, "ada", quota_jobs=0)
    assert issue(database, owner, "t", ("jobs:read",))
    words = "0 jobs have not ended; 0 are allowed"
    with pytest.raises(OverQuota, match=words), database.write() as connection:
        quotas.demand(connection, owner, database.now(connection))
    with database.write() as connection:
        connection.execute(insert(usage).values(owner=owner, month="2020-01", device_time=5))
        connection.execute(update(user).values(quota_jobs=None))
        quotas.demand(connection, owner, database.now(connection))
