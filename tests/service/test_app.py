"""The shell: who may do what, what is said when it fails, and one effect for the same request."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Header
from fastapi.responses import JSONResponse
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel
from sqlalchemy import insert, update

from longtake.core.errors import BadInput, DiskFull, DoesNotFit, LongtakeError, Usage
from longtake.service.auth import Auth, Caller, anyone, needs
from longtake.service.database import SECOND, Database, DatabaseAway
from longtake.service.idempotency import Turn, begin, request_sha
from longtake.service.problems import Problem
from longtake.service.tables import event, job, step, token
from longtake.service.users import revoke, tokens
from tests.service.serving import bearer, client_of, made, served, somebody

SPOKEN_FOR = {("post", "/api/v1/auth/session")}
"""All that anybody may ask."""
JOB = {"kind": "upscale", "task": "{}", "limits": "{}", "state": "running"}


class Wish(BaseModel):
    frames: int


class Works:
    """Routes with effects that can be counted."""

    def __init__(self, database: Database) -> None:
        self.done = 0
        self.lock = threading.Lock()
        self.router = APIRouter()
        self.router.add_api_route("/works", self.make, methods=["POST"])
        self.router.add_api_route("/works/{name}", self.look, methods=["GET"])
        self.router.add_api_route(
            "/public", self.public, methods=["GET"], dependencies=[Depends(anyone)]
        )
        self.database = database
        self.raises: Exception = RuntimeError("x")

    def make(
        self,
        wish: Wish,
        caller: Annotated[Caller, Depends(needs("jobs:write"))],
        key: Annotated[str, Header(alias="Idempotency-Key")],
    ) -> JSONResponse:
        sha = request_sha("POST /works", wish.model_dump())
        turn = begin(self.database, caller.owner, key, sha)
        if not isinstance(turn, Turn):
            return JSONResponse(turn[1], turn[0])
        try:
            with self.database.write() as connection:
                status, body = turn.keep(connection, *self.work(wish))
        except BaseException:
            turn.give_up()
            raise
        return JSONResponse(body, status)

    def work(self, wish: Wish) -> tuple[int, dict[str, Any]]:
        time.sleep(0.1)
        with self.lock:
            self.done += 1
            return 202, {"id": self.done, "frames": wish.frames}

    def look(self, name: str, caller: Annotated[Caller, Depends(needs("jobs:read"))]) -> str:
        if name == "fault":
            raise self.raises
        return name

    def public(self) -> str:
        return "open"


# --- who may do what -----------------------------------------------------------------------------


def _ask(client: httpx.Client, method: str, path: str, header: str | None) -> int:
    filled = path.replace("{", "").replace("}", "")
    headers = {} if header is None else {"Authorization": header}
    return client.request(method, filled, headers=headers, json={}).status_code


def _expired(database: Database, owner: str) -> str:
    header = bearer(database, owner)
    prefix = header.partition("lt_")[2][:8]
    with database.write() as connection:
        connection.execute(update(token).where(token.c.prefix == prefix).values(expires=1))
    return header


def test_every_route_wants_a_token_that_is_good_and_its_scope(database: Database) -> None:
    client = client_of(made(database, Works(database).router))
    schema = client.get("/api/v1/openapi.json").json()
    owner, good = somebody(database)
    revoked = bearer(database, owner)
    assert revoke(database, owner, tokens(database, owner)[-1].id)
    bad = {
        "none": None,
        "unknown": "Bearer lt_00000000_" + "A" * 43,
        "no token": "Bearer ",
        "another kind": "Basic " + good.split()[1],
        "revoked": revoked,
        "expired": _expired(database, owner),
    }
    seen, spoken_for = 0, set()
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            if operation.get("x-open"):
                spoken_for.add((method, path))
                continue
            for what, header in bad.items():
                assert _ask(client, method, path, header) == 401, (method, path, what)
            needed = operation["x-scope"]  # a route without a scope fails here
            others = {"jobs:read", "jobs:write", "assets:read"} - {needed}
            if needed is not None:
                wrong = bearer(database, owner, *others)
                assert _ask(client, method, path, wrong) == 403, (method, path)
            seen += 1
    assert spoken_for == SPOKEN_FOR | {("get", "/api/v1/public")}
    assert seen >= 5
    assert client.get("/api/v1/works/a", headers={"Authorization": good}).json() == "a"


def test_a_route_that_says_no_scope_is_not_served(database: Database) -> None:
    inner = APIRouter()
    inner.add_api_route("/open", lambda: "x", methods=["GET"])
    for nested in (inner, APIRouter()):
        if nested is not inner:
            nested.include_router(inner, prefix="/deep")
        with pytest.raises(ValueError, match=r"GET /api/v1/.*open does not say which scope"):
            made(database, nested)
    mounted = APIRouter()
    mounted.mount("/files", FastAPI())
    with pytest.raises(ValueError, match="/api/v1/files"):
        made(database, mounted)
    with pytest.raises(ValueError, match="no scope"):
        needs("jobs:wirte")


def test_figures_are_for_admins_where_others_can_ask(database: Database) -> None:
    for mode, without, user in (("tokens", 401, 403), ("local", 200, 200)):
        client = client_of(made(database, auth=Auth(database, mode)))  # type: ignore[arg-type]
        _, header = somebody(database, name=mode)
        _, admin = somebody(database, name=f"root of {mode}", role="admin")
        asked = [client.get("/metrics", headers={"Authorization": h}) for h in (header, admin)]
        assert client.get("/metrics").status_code == without
        assert [answer.status_code for answer in asked] == [user, 200]


# --- what is said --------------------------------------------------------------------------------


ERRORS: tuple[tuple[Exception, int, str], ...] = (
    (Usage("Say 1 or 2."), 422, "The command cannot be carried out as given. Say 1 or 2."),
    (BadInput("It is torn."), 422, "The input cannot be used. It is torn."),
    (DoesNotFit("3.1 GB over."), 422, "The job does not fit. 3.1 GB over."),
    (DiskFull(), 507, str(DiskFull())),
    (DatabaseAway("host db-7 refused"), 503, "cannot be reached. Try again in 5 seconds."),
    (LongtakeError("What?"), 500, "Something went wrong. What?"),
    (Problem(409, "Already Ended", "It is over.", {"state": "failed"}), 409, "It is over."),
    (RuntimeError("secret/path"), 500, "The service has a fault"),
)


def test_errors_are_told_in_their_words(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    works = Works(database)
    _, header = somebody(database)
    client = client_of(made(database, works.router))
    for raised, status, words in ERRORS:
        works.raises = raised
        caplog.clear()
        answer = client.get("/api/v1/works/fault", headers={"Authorization": header})
        _is_told(answer, status, words, caplog)


def _is_told(
    answer: httpx.Response, status: int, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    problem = answer.json()
    assert (answer.status_code, problem["status"]) == (status, status)
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in problem["detail"]
    assert "db-7" not in answer.text
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert ("Retry-After" in answer.headers) == (status == 503)
    assert problem["request"] == answer.headers["X-Request-ID"]
    if status in (500, 503):
        assert any(
            problem["request"] in record.getMessage() and record.levelno >= logging.ERROR
            for record in caplog.records
        )
    if status == 409:
        assert (problem["type"], problem["state"]) == ("urn:longtake:already-ended", "failed")
    else:
        assert problem["type"] == "about:blank"
    assert "Traceback" not in caplog.messages[-1]


REFUSED: tuple[tuple[str, str, bytes | None, int], ...] = (
    ("GET", "/api/v1/nothing", None, 404),
    ("POST", "/api/v1/nothing", None, 404),
    ("POST", "/nothing", None, 404),
    ("GET", "/api/v2/works", None, 404),
    ("GET", "/", None, 404),
    ("GET", "/docs", None, 404),
    ("PUT", "/api/v1/works", None, 405),
    ("POST", "/api/v1/works", b'{"frames": "hunter2"}', 422),
    ("POST", "/api/v1/works", b'{"frames": hunter2', 422),
    ("POST", "/api/v1/works", b'{"frames": "\xff"}', 400),
    ("POST", "/api/v1/works", b" " * (2 << 20), 413),
)


def test_all_that_is_refused_is_a_problem(database: Database) -> None:
    _, header = somebody(database)
    client = client_of(made(database, Works(database).router))
    headers = {"Authorization": header, "Content-Type": "application/json", "Idempotency-Key": "k"}
    for method, path, body, status in REFUSED:
        answer = client.request(method, path, content=body, headers=headers)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["title"]
        assert "hunter2" not in answer.text
        if path == "/":
            assert "no page in this build" in answer.json()["detail"]


def test_a_body_without_a_length_is_bounded_too(database: Database) -> None:
    _, header = somebody(database)

    def endless() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * (64 << 10)

    headers = {"Authorization": header, "Content-Type": "application/json", "Idempotency-Key": "k"}
    with served(made(database, Works(database).router)) as address:
        answer = httpx.post(f"{address}/api/v1/works", content=endless(), headers=headers)
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"


def test_every_answer_is_guarded_and_logged_in_one_line(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "longtake.service.access")
    owner, header = somebody(database)
    client = client_of(made(database, Works(database).router))
    for path in ("/healthz", "/", "/api/v1/works/a", "/api/v1/works/fault", "/api/v1/x?token=abc"):
        answer = client.get(path, headers={"Authorization": header})
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        line = caplog.records[-1].fields
        assert line["request"] == answer.headers["X-Request-ID"]
        assert (line["method"], line["path"]) == ("GET", path.partition("?")[0])
        assert (line["status"], line["bytes"]) == (answer.status_code, len(answer.content))
        assert line["owner"] == (owner if "works" in path else None)
        assert answer.headers.get("Cache-Control") == ("no-store" if "/api/" in path else None)


# --- the page, and where it lies -----------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "/films/here"])
def test_the_page_and_the_api_lie_below_a_prefix(
    database: Database, tmp_path: Path, prefix: str
) -> None:
    page = tmp_path / "page"
    (page / "assets").mkdir(parents=True)
    shell = '<base href="/" /><meta name="csp-nonce" content="" /><p>page'
    (page / "index.html").write_text(shell)
    (page / "assets" / "a-1.js").write_text("1")
    (tmp_path / "secret.txt").write_text("mine")
    app = made(database, Works(database).router, page=page, prefix=prefix)
    _, header = somebody(database)
    client, nonces = client_of(app), []
    for before in {prefix, ""}:  # the proxy may have taken it away
        for path in ("/", "/jobs/17", "/index.html"):
            answer = client.get(before + path)
            policy = answer.headers["Content-Security-Policy"]
            nonce = re.search(r"style-src 'self' 'nonce-(\S+)'$", policy)
            assert nonce is not None, policy
            nonces.append(nonce[1])
            wanted = shell.replace('"/"', f'"{prefix}/"').replace(
                'content=""', f'content="{nonce[1]}"'
            )
            assert (answer.status_code, answer.text) == (200, wanted), path
            assert answer.headers["Cache-Control"] == "no-cache"
        asset = client.get(f"{before}/assets/a-1.js")
        assert (asset.text, "immutable" in asset.headers["Cache-Control"]) == ("1", True)
        works = client.get(f"{before}/api/v1/works/a", headers={"Authorization": header})
        assert works.json() == "a"
        for path in ("/assets/b.js", "/api/v1/x", "/..%2fsecret.txt", "/%2e%2e/secret.txt"):
            answer = client.get(before + path)
            assert (answer.status_code, "mine" in answer.text) == (404, False), path
    assert len(set(nonces)) == len(nonces)
    with pytest.raises(ValueError, match="prefix"):
        made(database, prefix="films/")


# --- health and figures --------------------------------------------------------------------------


def test_ready_is_who_has_a_database_of_this_version(database: Database, tmp_path: Path) -> None:
    client = client_of(made(database))
    assert client.get("/readyz").json() == {"ready": True}
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "OtherSchema")
    assert client.get("/healthz").status_code == 200
    gone = Database("postgresql://longtake@127.0.0.1:1/gone")
    answer = client_of(made(gone)).get("/readyz")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert client_of(made(Database(f"sqlite:///{tmp_path}/empty.db"))).get("/readyz").is_error


def test_figures_are_those_of_the_tables(database: Database) -> None:
    owner, admin = somebody(database, role="admin")
    with database.write() as connection:
        now = database.now(connection)
        for name in "ab":
            connection.execute(insert(job).values(id=name, owner=owner, created=now, **JOB))
        steps = {"job": "a", "kind": "segment", "queue": "gpu", "state": "ready"}
        for number, age in enumerate((5, 90, -60)):
            times = {"number": number, "not_before": now - age * SECOND}
            connection.execute(insert(step).values(**steps, **times))
        connection.execute(
            insert(event).values(owner=owner, type="job.state", data="{}", at=now - 7 * SECOND)
        )
    app = made(database)
    app.state.tailer.last = 0
    text = client_of(app).get("/metrics", headers={"Authorization": admin}).text
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert {name[0] for name in found if not name[0].startswith("longtake_")} == set()
    assert found["longtake_jobs", "running"] == 2
    assert found["longtake_jobs", "failed"] == 0
    assert found["longtake_steps", "gpu", "ready"] == 3
    assert found["longtake_workers", "busy"] == 0
    assert found["longtake_oldest_ready_seconds", "gpu"] == pytest.approx(90, abs=20)
    assert found["longtake_oldest_ready_seconds", "cpu"] == 0
    assert found["longtake_event_lag_seconds",] == pytest.approx(7, abs=20)
    assert owner not in text


# --- one effect -----------------------------------------------------------------------------------


def test_fifty_at_once_have_one_effect(database: Database) -> None:
    works = Works(database)
    _, header = somebody(database)
    _, other = somebody(database, "grace")
    with served(made(database, works.router)) as address:

        def ask(frames: int, who: str = header) -> httpx.Response:
            headers = {"Authorization": who, "Idempotency-Key": "night run"}
            url = f"{address}/api/v1/works"
            return httpx.post(url, json={"frames": frames}, headers=headers, timeout=60)

        with ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(ask, [24] * 50))
        assert {answer.status_code for answer in answers} == {202}
        assert {answer.content for answer in answers} == {b'{"id":1,"frames":24}'}
        assert works.done == 1
        changed = ask(25)
        assert (changed.status_code, works.done) == (422, 1)
        assert "another request" in changed.json()["detail"]
        assert ask(24, other).json()["id"] == 2
