"""Folders whose films may be named by path, listed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from longtake.service.routes import folders
from tests.service.serving import client_of, made, somebody


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "films"
    (root / "b" / "deep").mkdir(parents=True)
    (root / "a.mp4").write_bytes(b"12345")
    (root / "b" / "c.MKV").write_bytes(b"1")
    (root / "notes.txt").write_bytes(b"")
    (root / ".hidden.mp4").write_bytes(b"")
    (tmp_path / "films-too").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "s.mp4").write_bytes(b"")
    os.symlink(tmp_path / "secret", root / "way_out")
    os.symlink(tmp_path / "secret" / "s.mp4", root / "s.mp4")
    return root


@pytest.fixture
def client(database, root) -> Iterator[httpx.Client]:
    _, token = somebody(database)
    with client_of(made(database, folders.router([root]))) as client:
        client.headers["Authorization"] = token
        yield client


def test_folders_and_films_are_listed_and_nothing_else(client, root) -> None:
    tops = client.get("/api/v1/folders").json()
    assert [e["path"] for e in tops["entries"]] == [str(root)]
    top = client.get("/api/v1/folders", params={"path": str(root)}).json()
    assert [(e["name"], e["kind"], e["bytes"]) for e in top["entries"]] == [
        ("b", "folder", None),
        ("a.mp4", "film", 5),
    ]
    assert top["parent"] is None
    below = client.get("/api/v1/folders", params={"path": str(root / "b")}).json()
    assert [e["name"] for e in below["entries"]] == ["deep", "c.MKV"]
    assert below["parent"] == str(root)


@pytest.mark.parametrize(
    "path",
    ["/", "/etc", "..", "films", "", "{}/..", "{}/../secret", "{}/way_out", "{}/../films-too",
     "{}/b/../../secret", "/proc/self/root", "{}\0", "{}" + "/x" * 3000, "{}/\udcff"],
)  # fmt: skip
def test_nothing_outside_is_listed(client, root, path) -> None:
    wanted = path.replace("{}", str(root)).encode("utf-8", "surrogateescape")
    quoted = "".join(f"%{byte:02X}" for byte in wanted)
    answer = client.get(f"/api/v1/folders?path={quoted}")
    assert answer.status_code == 422, answer.text
    assert "s.mp4" not in answer.text


def test_what_is_no_folder_is_told(client, root) -> None:
    for path in (root / "a.mp4", root / "gone"):
        answer = client.get("/api/v1/folders", params={"path": str(path)})
        assert answer.status_code == 422, answer.text
        assert str(path) in answer.json()["detail"]
