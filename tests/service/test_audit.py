"""Who changed what: every such action has its row, and no row has a secret."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import insert, select, update

from longtake.service import audit
from longtake.service.database import Database
from longtake.service.tables import audit as rows
from longtake.service.tables import step
from tests.media import films
from tests.service.serving import client_of, ready, somebody, whole

PARAMS = {"engine": "resize", "scale": 2}


class Asked:
    """An admin and a user who ask, and all that was ever told them in secret."""

    def __init__(self, client: httpx.Client, headers: dict[str, str]) -> None:
        self.client, self.headers = client, headers
        self.secrets = [value.split()[1] for value in headers.values()]

    def __call__(self, who: str, method: str, path: str, body: Any = None, **more: Any) -> Any:
        headers = {"Authorization": self.headers[who], **more}
        answer = self.client.request(method, f"/api/v1/{path}", json=body, headers=headers)
        assert answer.is_success, answer.text
        made = answer.json() if answer.content else {}
        self.secrets += [made[key] for key in ("token", "secret") if key in made]
        return made

    def entries(self, **query: Any) -> list[dict[str, Any]]:
        answer = self.client.get(
            "/api/v1/audit", params=query, headers={"Authorization": self.headers["root"]}
        )
        return list(answer.raise_for_status().json()["entries"])


@pytest.fixture
def asked(database: Database, tmp_path: Path) -> Iterator[Asked]:
    app, chores = whole(database, tmp_path)
    with client_of(app) as client:
        headers = {
            name: somebody(database, name, role)[1]
            for name, role in (("root", "admin"), ("ada", "user"))
        }
        made = Asked(client, headers)
        made.film = films.make(tmp_path / "in.mp4", frames=8)  # type: ignore[attr-defined]
        made.chores = chores  # type: ignore[attr-defined]
        yield made


def test_every_change_for_others_or_for_good_is_noted(asked: Any, database: Database) -> None:
    before = asked.entries()[0]["id"]
    grace = asked("root", "POST", "users", {"name": "grace"})["id"]
    asked("root", "PATCH", f"users/{grace}", {"quota_jobs": 3, "disabled": False})
    asked("root", "POST", "tokens", {"name": "t", "scopes": ["jobs:read"], "user": grace})
    token = asked("root", "GET", f"tokens?user={grace}")["tokens"][0]["id"]
    asked("root", "DELETE", f"tokens/{token}")
    value = asked.headers["ada"].split()[1]
    asked("ada", "POST", "auth/session", {"token": value})
    hook = asked("ada", "POST", "webhooks", {"url": "https://example.com/hook?key=s3cret"})["id"]
    asked("ada", "DELETE", f"webhooks/{hook}")
    asset = ready(asked.client, asked.chores, asked.film, asked.headers["ada"])
    job = asked("ada", "POST", "jobs", {"asset": asset, "params": PARAMS})["id"]
    asked("ada", "POST", f"jobs/{job}/cancel")
    asked("ada", "DELETE", f"jobs/{job}")
    asked("ada", "DELETE", f"assets/{asset}")
    shared = asked("root", "POST", "presets", {"name": "p", "params": {}, "shared": True})["id"]
    asked("root", "PUT", f"presets/{shared}", {"name": "q", "params": {}})
    asked("root", "DELETE", f"presets/{shared}")
    found = [one for one in reversed(asked.entries()) if one["id"] > before]
    told = [(one["name"], one["action"], one["object"]) for one in found]
    with database.read() as connection:
        issued = connection.execute(select(rows).where(rows.c.action == "session.open")).one()
    assert told == [
        ("root", "user.add", grace),
        ("root", "user.change", f"{grace}: disabled=False, quota_jobs=3"),
        ("root", "token.issue", token),
        ("root", "token.revoke", token),
        ("ada", "session.open", issued.object),
        ("ada", "webhook.add", hook),
        ("ada", "webhook.remove", hook),
        ("ada", "job.cancel", job),
        ("ada", "job.delete", job),
        ("ada", "asset.delete", asset),
        ("root", "preset.add", shared),
        ("root", "preset.change", shared),
        ("root", "preset.remove", shared),
    ]
    assert {one["address"] for one in found} == {"127.0.0.1"}
    text = str(asked.entries(most=200))
    assert len(asked.secrets) >= 4
    assert not [secret for secret in asked.secrets if secret in text]
    assert "s3cret" not in text


def test_what_is_refused_leaves_no_row(asked: Any, database: Database) -> None:
    asset = ready(asked.client, asked.chores, asked.film, asked.headers["ada"])
    job = asked("ada", "POST", "jobs", {"asset": asset, "params": PARAMS})["id"]
    count = len(asked.entries(most=200))
    header = {"Authorization": asked.headers["ada"]}
    for method, path, code in (
        ("DELETE", f"assets/{asset}", 409),  # a job reads it
        ("DELETE", f"jobs/{job}", 409),
        ("DELETE", "webhooks/wh_nothing", 404),
        ("POST", "users", 403),
    ):
        body = {"name": "eve"} if method == "POST" else None
        answer = asked.client.request(method, f"/api/v1/{path}", json=body, headers=header)
        assert answer.status_code == code, answer.text
    assert len(asked.entries(most=200)) == count


def test_a_row_is_there_if_and_only_if_the_change_is(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.write() as connection:
        audit.note(connection, 1, "u", "job.delete", "j")
        connection.execute(update(step).values(error="x"))
        raise ZeroDivisionError
    assert audit.entries(database) == []


def test_pages_and_who_may_read_them(asked: Any, database: Database) -> None:
    with database.write() as connection:
        connection.execute(
            insert(rows), [{"actor": "gone", "action": "a", "object": str(i), "at": i + 1}
                           for i in range(7)],
        )  # fmt: skip
    whole_list = [one["id"] for one in asked.entries(most=200)]
    assert whole_list == sorted(whole_list, reverse=True)
    assert asked.entries()[0]["name"] is None
    seen: list[int] = []
    query: dict[str, Any] = {"most": 3}
    root = {"Authorization": asked.headers["root"]}
    while True:
        page = asked.client.get("/api/v1/audit", params=query, headers=root).json()
        seen += [one["id"] for one in page["entries"]]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert seen == whole_list
    ada = {"Authorization": asked.headers["ada"]}
    assert asked.client.get("/api/v1/audit", headers=ada).status_code == 403
    for wrong in ({"cursor": "x"}, {"cursor": 0}, {"most": 0}, {"most": 201}, {"cursor": 2**63}):
        assert asked.client.get("/api/v1/audit", params=wrong, headers=root).status_code == 422
