"""The example film, and films that jobs made, as something to begin from."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
from sqlalchemy import insert, update

from examples import make_clip
from longtake.service import assets
from longtake.service.blobs import Blobs
from longtake.service.database import Database
from longtake.service.routes import assets as asset_routes
from longtake.service.routes import example
from longtake.service.tables import asset, user
from longtake.service.uploads import Uploads
from tests.service.serving import bearer, client_of, made, somebody


class Web:
    """A service with these routes, and somebody who asks."""

    def __init__(self, database: Database, folder: Path, low_water: int = 0) -> None:
        self.database, self.blobs = database, Blobs(folder)
        uploads = Uploads(
            database, self.blobs, largest=1 << 30, low_water=low_water, expiry_seconds=60
        )
        self.client = client_of(made(
            database, example.router(database, uploads),
            asset_routes.router(database, self.blobs, ()),
        ))  # fmt: skip
        self.owner, self.client.headers["Authorization"] = somebody(database)

    def take(self) -> httpx.Response:
        return self.client.post("/api/v1/assets/example")

    def shown(self, name: str) -> Any:
        return self.client.get(f"/api/v1/assets/{name}").json()

    def result(self, name: str, content: bytes) -> None:
        """A film as a worker hands it in."""
        self.blobs.path(f"assets/{name}").mkdir(parents=True)
        self.blobs.path(f"assets/{name}/content").write_bytes(content)
        with self.database.write() as connection:
            connection.execute(insert(asset).values(
                id=name, owner=self.owner, kind="result", state="ready", name=f"{name}.mp4",
                key=f"assets/{name}/content", bytes=len(content),
                created=self.database.now(connection),
            ))  # fmt: skip


@pytest.fixture
def web(database: Database, tmp_path: Path) -> Iterator[Web]:
    web = Web(database, tmp_path / "data")
    with web.client:
        yield web


def test_it_becomes_a_film_that_jobs_can_read(web: Web) -> None:
    answer = web.take()
    assert answer.status_code == 202, answer.text
    name = answer.json()["id"]
    assert answer.json()["state"] == "probing"
    assets.look(web.database, web.blobs)
    film = web.shown(name)
    assert (film["kind"], film["state"], film["name"]) == ("source", "ready", "example.mp4")
    video = film["video"]
    assert (video["width"], video["height"], video["frames"]) == (320, 180, 120)
    assert Fraction(video["rate"]) == Fraction(24000, 1001)
    content = web.client.get(f"/api/v1/assets/{name}/content").content
    assert content == example.CLIP.read_bytes()


def test_asked_again_it_is_the_same_until_it_is_removed(web: Web) -> None:
    name = web.take().json()["id"]
    assert web.take().json()["id"] == name
    assets.look(web.database, web.blobs)
    assert web.take().json()["id"] == name
    assert web.client.delete(f"/api/v1/assets/{name}").status_code == 204
    assert web.take().json()["id"] != name


def test_each_owner_has_their_own(web: Web) -> None:
    first = web.take().json()["id"]
    _, web.client.headers["Authorization"] = somebody(web.database, "bob")
    assert web.take().json()["id"] != first
    assert web.client.get(f"/api/v1/assets/{first}").status_code == 404


def test_it_needs_its_scope_and_counts_as_any_other_film(web: Web, tmp_path: Path) -> None:
    web.client.headers["Authorization"], full = (
        bearer(web.database, web.owner, "assets:read"), web.client.headers["Authorization"],
    )  # fmt: skip
    assert web.take().status_code == 403
    web.client.headers["Authorization"] = full
    with web.database.write() as connection:
        connection.execute(update(user).where(user.c.id == web.owner).values(quota_bytes=1000))
    refused = web.take()
    assert refused.status_code == 429
    assert "1,000" in refused.json()["detail"]
    assert web.client.get("/api/v1/assets").json() == {"assets": [], "next": None}


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_full_disk_refuses_it(database: Database, tmp_path: Path) -> None:
    web = Web(database, tmp_path / "data", low_water=1 << 60)
    answer = web.take()
    assert answer.status_code == 507
    assert "GB" in answer.json()["detail"]


def test_a_film_that_a_job_made_is_described_too(web: Web) -> None:
    web.result("good", example.CLIP.read_bytes())
    web.result("bad", b"no film")
    assert assets.look(web.database, web.blobs) == 2
    good, bad = web.shown("good"), web.shown("bad")
    assert (good["state"], good["video"]["frames"], good["reason"]) == ("ready", 120, None)
    assert (bad["state"], bad["video"]) == ("ready", None)  # it can be downloaded all the same
    assert bad["reason"]
    assert assets.look(web.database, web.blobs) == 0


def test_the_clip_is_the_one_that_the_examples_make(tmp_path: Path) -> None:
    make_clip.write(tmp_path / "clip.mp4")
    fresh, carried = _pictures(tmp_path / "clip.mp4"), _pictures(example.CLIP)
    assert len(fresh) == len(carried) == 120
    for one, other in zip(fresh, carried, strict=True):
        assert np.abs(one.astype(int) - other).mean() < 1


def _pictures(path: Path) -> list[np.ndarray[Any, Any]]:
    with av.open(str(path)) as film:
        return [frame.to_ndarray(format="gray") for frame in film.decode(video=0)]
