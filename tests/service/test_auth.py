"""Who gets in, and who does not."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, Depends
from sqlalchemy import select, update

from longtake.core.errors import Usage
from longtake.service.auth import Auth, Caller, may_listen, needs
from longtake.service.database import Database
from longtake.service.tables import SCOPES, token, user
from longtake.service.users import add_user, issue, local_user, revoke, tokens
from tests.service.serving import bearer, client_of, made, somebody

SESSION = "/api/v1/auth/session"


def _things() -> APIRouter:
    router = APIRouter()

    @router.post("/things")
    def make(caller: Annotated[Caller, Depends(needs("jobs:write"))]) -> str:
        return caller.owner

    @router.get("/things")
    def look(caller: Annotated[Caller, Depends(needs("admin"))]) -> str:
        return caller.owner

    return router


def _client(database: Database, auth: Auth, **services: object) -> httpx.Client:
    return client_of(made(database, _things(), auth=auth, **services))


def _here(client: httpx.Client) -> dict[str, str]:
    return {"Origin": str(client.base_url).rstrip("/")}


def test_a_token_is_kept_as_its_hash_and_belongs_to_its_owner(database: Database) -> None:
    ada, grace = add_user(database, "ada"), add_user(database, "grace")
    value = issue(database, ada, "cron", ("jobs:read", "jobs:write"), 3600)
    assert re.fullmatch(r"lt_[0-9a-f]{8}_[\w-]{43}", value)
    with database.read() as connection:
        row = connection.execute(select(token)).one()
    assert row.sha256 == hashlib.sha256(value.encode()).hexdigest()
    assert value not in str(row)
    (kept,) = tokens(database, ada)
    assert (kept.name, kept.scopes, kept.prefix) == (
        "cron",
        ("jobs:read", "jobs:write"),
        value[3:11],
    )
    assert kept.expires == kept.created + 3600 * 1_000_000
    assert not tokens(database, grace)
    assert not revoke(database, grace, kept.id)
    assert revoke(database, ada, kept.id)
    assert not revoke(database, ada, kept.id)


NO_TOKENS: list[tuple[str, tuple[str, ...], int | None]] = (
    [("session", ("jobs:read",), None), ("", ("jobs:read",), None), ("x", ("jobs:all",), None),
     ("x", (), None), ("x", ("jobs:read",), 0), ("x", ("admin",), None)]
)  # fmt: skip


def test_no_token_that_could_not_be_right(database: Database) -> None:
    owner = add_user(database, "ada")
    for given in NO_TOKENS:
        with pytest.raises(Usage):
            issue(database, owner, *given)
    assert not tokens(database, owner)


def test_the_user_of_this_machine_is_made_once(database: Database) -> None:
    assert local_user(database) == local_user(database)
    with database.read() as connection:
        assert connection.execute(select(user.c.name, user.c.role)).all() == [("local", "admin")]


def test_the_printed_address_is_good_for_one_session(database: Database) -> None:
    auth = Auth(database, "local")
    client = _client(database, auth, prefix="/film")
    start = auth.page("http://127.0.0.1:8080/film").rpartition("/?token=")[2]
    answer = client.post(SESSION, json={"token": start})
    assert answer.status_code == 204, answer.text
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "Path=/film", "SameSite=strict"} <= set(cookie.split("; "))
    assert start not in cookie
    assert cookie.startswith("longtake_8080=lt_")
    headers = {"Cookie": cookie.partition(";")[0]}
    assert client.get(f"/film{SESSION}", headers=headers).json() == {
        "owner": local_user(database), "name": "local", "role": "admin", "scopes": sorted(SCOPES),
    }  # fmt: skip
    client.cookies.clear()
    assert client.post(SESSION, json={"token": start}).status_code == 401
    assert client.get(SESSION).status_code == 401
    # The value of a cookie is no token.
    stolen = headers["Cookie"].partition("=")[2]
    assert client.get(SESSION, headers={"Authorization": f"Bearer {stolen}"}).status_code == 401


def test_a_session_ends_with_its_token_and_when_it_is_closed(database: Database) -> None:
    owner, _ = somebody(database)
    value = issue(database, owner, "laptop", ("jobs:read", "jobs:write"))
    client = _client(database, Auth(database, "tokens"))
    for end in (
        lambda: client.delete(SESSION, headers=_here(client)),
        lambda: revoke(database, owner, tokens(database, owner)[-1].id),
    ):
        assert client.post(SESSION, json={"token": value}).status_code == 204
        held = client.cookies["longtake_8080"]
        assert client.get(SESSION).json()["scopes"] == ["jobs:read", "jobs:write"]
        end()
        client.cookies.clear()
        headers = {"Cookie": f"longtake_8080={held}"}
        assert client.get(SESSION, headers=headers).status_code == 401
    assert client.post(SESSION, json={"token": value}).status_code == 401


ORIGINS: tuple[tuple[dict[str, str], int], ...] = (
    ({"Origin": "http://127.0.0.1:8080"}, 200),
    ({"Sec-Fetch-Site": "same-origin"}, 200),
    ({}, 403),
    ({"Origin": "null"}, 403),
    ({"Origin": "http://127.0.0.1:3000"}, 403),  # another program of this machine
    ({"Origin": "http://localhost:8080"}, 403),
    ({"Origin": "https://evil.example"}, 403),
    ({"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"}, 403),
    ({"Sec-Fetch-Site": "same-site"}, 403),
)


def test_a_cookie_changes_things_from_our_own_page_only(database: Database) -> None:
    auth = Auth(database, "local")
    client = _client(database, auth)
    client.post(SESSION, json={"token": auth.page("").partition("=")[2]})
    header = bearer(database, local_user(database), "jobs:write")
    for headers, status in ORIGINS:
        assert client.post("/api/v1/things", headers=headers).status_code == status, headers
        assert client.get("/api/v1/things", headers=headers).status_code == 200
        # A token is not sent by itself, so it may come from anywhere.
        shown = headers | {"Authorization": header}
        assert client.post("/api/v1/things", headers=shown).status_code == 200


HOSTS = (
        ("127.0.0.1", True), ("127.8.8.8:80", True), ("localhost:8080", True), ("LOCALHOST", True),
        ("[::1]:8080", True), ("films.example", True), ("Films.Example.:443", True),
        ("evil.example", False), ("localhost.evil", False), ("127.0.0.1.evil", False),
        ("192.168.1.7", False), ("0.0.0.0", False), ("", False), ("films.example@evil", False),
)  # fmt: skip


def test_only_our_own_names_lead_here(database: Database) -> None:
    client = _client(database, Auth(database, hosts=("films.example",)))
    for host, known in HOSTS:
        answer = client.get(SESSION, headers={"Host": host})
        assert answer.status_code == (401 if known else 421), host
        assert client.get("/healthz", headers={"Host": host}).status_code == 200


def test_sessions_cannot_be_guessed_at(database: Database) -> None:
    now = [0.0]
    client = _client(database, Auth(database, "tokens", clock=lambda: now[0]))
    seen = [client.post(SESSION, json={"token": f"guess {n}"}) for n in range(12)]
    assert [answer.status_code for answer in seen] == [401] * 10 + [429] * 2
    now[0] += float(seen[-1].headers["Retry-After"])
    assert client.post(SESSION, json={"token": "guess"}).status_code == 401


def test_who_is_disabled_or_no_admin_any_more_loses_what_tokens_gave(database: Database) -> None:
    owner, header = somebody(database, role="admin")
    client = _client(database, Auth(database, "tokens"))
    headers = {"Authorization": header}
    assert client.get("/api/v1/things", headers=headers).json() == owner
    for change, expected in (({"role": "user"}, (403, 200)), ({"disabled": 1}, (401, 401))):
        with database.write() as connection:
            connection.execute(update(user).values(**change))
        reads, writes = client.get, client.post
        got = [ask("/api/v1/things", headers=headers).status_code for ask in (reads, writes)]
        assert tuple(got) == expected


def test_the_last_use_is_written_down_but_not_each_time(database: Database) -> None:
    owner, header = somebody(database)
    client = _client(database, Auth(database, "tokens"))
    look: Callable[[], int | None] = lambda: tokens(database, owner)[0].used  # noqa: E731
    assert look() is None
    client.get(SESSION, headers={"Authorization": header})
    first = look()
    client.get(SESSION, headers={"Authorization": header})
    assert first is not None
    assert look() == first


def test_tokens_are_never_in_the_log(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    auth = Auth(database, "local")
    client = _client(database, auth)
    start = auth.page("").partition("=")[2]
    value = issue(database, local_user(database), "x", ("jobs:read",))
    client.get(f"/?token={start}")
    client.get(f"/api/v1/{value}?token={value}", headers={"Authorization": f"Bearer {value}"})
    client.post(SESSION, json={"token": value, "x": 1})
    client.post(SESSION, json={"token": [value]})
    client.post(SESSION, json={"token": start})
    held = client.cookies["longtake_8080"]
    client.get(SESSION)
    own = [r.getMessage() for r in caplog.records if r.name.startswith("longtake")]
    assert len(own) == 6
    for secret in (start, value, held):
        assert secret not in "\n".join(own)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_this_machine_alone_needs_no_more(host: str) -> None:
    may_listen(host, "local")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.7", "films.example", "fe80::1"])
def test_listening_beyond_this_machine_needs_tokens(host: str) -> None:
    with pytest.raises(Usage) as refused:
        may_listen(host, "local")
    assert refused.value.exit_code == 2
    may_listen(host, "tokens")
