"""Lists in pages: all of it, once, the newest first, whatever is added meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import insert

from longtake.service.blobs import Blobs
from longtake.service.database import Database
from longtake.service.routes import assets as asset_routes
from longtake.service.routes import jobs as job_routes
from longtake.service.tables import asset
from tests.service.jobs import plain_job
from tests.service.serving import client_of, made, somebody


def an_asset(database: Database, owner: str, name: str, created: int) -> str:
    with database.write() as connection:
        connection.execute(
            insert(asset).values(
                id=name, owner=owner, name=f"{name}.mp4", bytes=1, state="ready", kind="source",
                created=created,
            )
        )  # fmt: skip
    return name


@pytest.mark.parametrize("kind", ["jobs", "assets"])
@pytest.mark.parametrize("most", [2, 7, 200])
def test_pages_are_the_whole_list_once(database: Database, tmp_path: Path, kind, most) -> None:
    """Several were made in the same microsecond; one comes while they are being read."""
    owner, header = somebody(database)
    other, _ = somebody(database, "eve")
    times = [5, 5, 5, 4, 3, 3, 2]

    def add(who: str, name: str, created: int) -> str:
        if kind == "assets":
            return an_asset(database, who, name, created)
        return plain_job(database, who, 1, id=name, created=created)

    wanted = [add(owner, f"a{i}", created) for i, created in enumerate(times)]
    add(other, "e1", 3)
    wanted.sort(key=lambda name: (times[int(name[1:])], name), reverse=True)
    blobs = Blobs(tmp_path)
    routes = (
        asset_routes.router(database, blobs, ()),
        job_routes.router(database, blobs, tmp_path / "known.json"),
    )
    with client_of(made(database, *routes)) as client:
        client.headers["Authorization"] = header
        found, asked = [], {"most": most}
        for number in range(len(wanted) + 2):
            page = client.get(f"/api/v1/{kind}", params=asked).raise_for_status().json()
            assert len(page[kind]) <= most
            found += [one["id"] for one in page[kind]]
            if number == 0:
                add(owner, "a9", 9)
            if page["next"] is None:
                break
            asked["cursor"] = page["next"]
        assert found == wanted
        for wrong in ({"cursor": "x"}, {"most": 0}, {"most": 201}):
            assert client.get(f"/api/v1/{kind}", params=wrong).status_code == 422
