"""Uploads: the protocol against a real server, and hostile names."""

from __future__ import annotations

import io
import json
import random
import socket
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from tusclient.client import TusClient

from longtake.service import tables
from longtake.service.database import Database
from longtake.service.upgrade import upgrade
from longtake.service.uploads import Uploads, plain_name
from tests.service.uploading import (
    BYTES,
    MIB,
    PREFIX,
    Answer,
    Client,
    build,
    checksum,
    content,
    serving,
    state,
    users,
    word,
)


@pytest.fixture
def uploads(database: Database, tmp_path: Path) -> Uploads:
    """On each database."""
    users(database, ann=None, bob=None)
    return build(database, tmp_path)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, Uploads]]:
    """On SQLite, for all that the database has no part in."""
    folder = tmp_path_factory.mktemp("served")
    database = Database(f"sqlite:///{folder / 'service.db'}")
    upgrade(database)
    users(database, ann=None, bob=None)
    uploads = build(database, folder, largest=10**9)
    with serving(uploads) as client:
        yield client, uploads


@pytest.fixture
def client(served: tuple[Client, Uploads]) -> Client:
    return served[0]


# --- the protocol --------------------------------------------------------------------------------


def test_an_upload_from_beginning_to_end(uploads: Uploads) -> None:
    with serving(uploads) as client:
        about = f"filename {word('Ä film.mkv')},empty"
        path = client.create(11, Upload_Metadata=about)
        begun = client.head(path).headers
        assert (begun["upload-offset"], begun["upload-length"]) == ("0", "11")
        assert begun["upload-metadata"] == about
        assert begun["cache-control"] == "no-store"
        assert begun["tus-resumable"] == "1.0.0"
        assert "longtake-asset" not in begun
        first = client.patch(path, 0, b"hello ")
        assert (first.status, first.headers["upload-offset"]) == (204, "6")
        left = parsedate_to_datetime(first.headers["upload-expires"]).timestamp() - time.time()
        assert 3500 < left < 3700
        last = client.patch(path, 6, b"world")
        assert (last.status, last.headers["upload-offset"]) == (204, "11")
        assert (
            client.patch(path, 11, b"").headers["longtake-asset"] == last.headers["longtake-asset"]
        )
        assert client.head(path).headers["longtake-asset"] == last.headers["longtake-asset"]
    row, asset = state(uploads, path)
    assert (row.state, row.received, row.lock_owner, row.lock_until) == ("complete", 11, None, None)
    assert (asset.id, asset.state, asset.bytes) == (last.headers["longtake-asset"], "probing", 11)
    assert (asset.name, asset.owner, asset.sha256) == ("Ä film.mkv", "ann", None)
    assert content(uploads, asset.id) == b"hello world"
    with uploads.database.read() as connection:
        told = connection.execute(select(tables.event)).one()
    assert (told.owner, told.type) == ("ann", "asset.state")
    assert json.loads(told.data) == {"asset": asset.id, "state": "probing"}


def test_options_say_what_is_offered(client: Client) -> None:
    for path in (f"{PREFIX}/uploads", f"{PREFIX}/uploads/x"):
        said = client.ask("OPTIONS", path, Tus_Resumable=None, X_User=None)
        assert said.status == 204
        assert said.headers["tus-version"] == "1.0.0"
        assert said.headers["tus-max-size"] == str(10**9)
        assert said.headers["tus-checksum-algorithm"] == "sha1,sha256"
        assert set(said.headers["tus-extension"].split(",")) == {
            "creation", "creation-with-upload", "expiration", "checksum", "termination",
        }  # fmt: skip


LENGTH = {"Upload_Length": "5"}
WITH = LENGTH | {"Content_Type": BYTES["Content-Type"]}


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (201, None, LENGTH),
        (201, b"", LENGTH | {"Content_Type": "text/plain"}),
        (201, None, LENGTH | {"Upload_Metadata": "a,b YQ==,c  "}),
        (400, None, {}),
        (400, None, {"Upload_Length": "-1"}),
        (400, None, {"Upload_Length": "5x"}),
        (400, None, {"Upload_Length": "1e3"}),
        (400, None, {"Upload_Length": "9" * 19}),
        (400, None, {"Upload_Defer_Length": "1"}),
        (400, None, LENGTH | {"Upload_Defer_Length": "1"}),
        (400, None, LENGTH | {"Upload_Concat": "partial"}),
        (400, None, {"Upload_Concat": "final;/uploads/../../etc/passwd"}),
        (400, None, LENGTH | {"Upload_Metadata": "filename %%%"}),
        (400, None, LENGTH | {"Upload_Metadata": "a YQ==,a YQ=="}),
        (400, None, LENGTH | {"Upload_Metadata": ",,"}),
        (400, None, LENGTH | {"Upload_Metadata": "a " + "YWFh" * 3000}),
        (413, None, {"Upload_Length": str(10**9 + 1)}),
        (413, b"123456", WITH),
        (415, b"12345", LENGTH),
        (415, b"12345", LENGTH | {"Content_Type": "video/mp4"}),
        (412, None, LENGTH | {"Tus_Resumable": None}),
        (412, None, LENGTH | {"Tus_Resumable": "0.2.2"}),
        (400, b"12345", WITH | {"Upload_Checksum": "md5 abcd"}),
        (400, b"12345", WITH | {"Upload_Checksum": "sha1 !"}),
        (400, b"12345", WITH | {"Upload_Checksum": "sha1 YQ=="}),
        (460, b"12345", WITH | {"Upload_Checksum": checksum("sha1", b"54321")}),
        (401, None, LENGTH | {"X_User": None}),
    ],
)
def test_creation(client: Client, status: int, body: bytes | None, headers: dict[str, str]) -> None:
    answer = client.ask("POST", f"{PREFIX}/uploads", body, **headers)
    assert answer.status == status, answer.body
    if status == 412:
        assert answer.headers["tus-version"] == "1.0.0"
    if status not in (201, 401):
        refused(answer)


def refused(answer: Answer) -> None:
    """RFC 9457."""
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["tus-resumable"] == "1.0.0"
    problem = json.loads(answer.body)
    assert problem["status"] == answer.status
    assert problem["title"]
    assert problem["detail"]


@pytest.mark.parametrize(
    ("status", "offset", "body", "headers"),
    [
        (204, 4, b"45", {}),
        (204, 4, b"", {}),
        (204, 4, b"456789", {}),
        (204, 4, iter([b"45", b"67"]), {}),  # chunked
        (204, 4, b"45", {"Upload_Checksum": checksum("sha1", b"45")}),
        (204, 4, b"45", {"Upload_Checksum": checksum("sha256", b"45")}),
        (409, 3, b"34", {}),
        (409, 5, b"56", {}),
        (409, 0, b"0123456789", {}),
        (413, 4, b"4567890", {}),
        (413, 4, iter([b"4567", b"890"]), {}),
        (415, 4, b"45", {"Content_Type": None}),
        (415, 4, b"45", {"Content_Type": "application/octet-stream"}),
        (400, 4, b"45", {"Upload_Offset": None}),
        (400, 4, b"45", {"Upload_Offset": "-4"}),
        (400, 4, b"45", {"Upload_Offset": "٤".encode().decode("latin-1")}),
        (412, 4, b"45", {"Tus_Resumable": "2.0.0"}),
        (400, 4, b"45", {"Upload_Checksum": "crc32 AAAA"}),
        (460, 4, b"45", {"Upload_Checksum": checksum("sha1", b"54")}),
        (460, 4, b"456789", {"Upload_Checksum": checksum("sha256", b"45")}),
        (401, 4, b"45", {"X_User": None}),
        (404, 4, b"45", {"X_User": "bob"}),
    ],
)
def test_patch(client: Client, served: Any, status: int, offset: int, body: Any,
               headers: dict[str, str | None]) -> None:  # fmt: skip
    path = client.create(10)
    assert client.patch(path, 0, b"0123").status == 204
    chunked = not isinstance(body, bytes)
    kept = list(body) if chunked else [body]  # of an iterator there is only one
    if "Upload_Offset" in headers:
        answer = client.ask("PATCH", path, body, Content_Type=BYTES["Content-Type"], **headers)
    else:
        answer = client.patch(path, offset, iter(kept) if chunked else body, **headers)
    assert answer.status == status, answer.body
    there = 4 + len(b"".join(kept)) if status == 204 else 4
    assert client.offset(path) == there
    assert content(served[1], state(served[1], path)[1].id)[:there] == b"0123456789"[:there]
    if status not in (204, 401):
        refused(answer)
    assert client.patch(path, there, b"0123456789"[there:]).status == 204
    row, asset = state(served[1], path)
    assert (row.state, content(served[1], asset.id)) == ("complete", b"0123456789")


@pytest.mark.parametrize("method", ["sha1", "sha256"])
def test_creation_with_upload(client: Client, served: Any, method: str) -> None:
    said = WITH | {"Upload_Checksum": checksum(method, b"12345")}
    made = client.ask("POST", f"{PREFIX}/uploads", b"12345", **said)
    assert (made.status, made.headers["upload-offset"]) == (201, "5")
    assert content(served[1], made.headers["longtake-asset"]) == b"12345"
    part = client.ask("POST", f"{PREFIX}/uploads/", b"123", **WITH)
    assert (part.status, part.headers["upload-offset"]) == (201, "3")
    path = f"{PREFIX}/uploads/{part.headers['location']}"  # relative to a folder this time
    assert client.patch(path, 3, b"45").headers["longtake-asset"]


def test_nothing_is_an_upload_too(client: Client, served: Any) -> None:
    made = client.ask("POST", f"{PREFIX}/uploads", Upload_Length="0")
    assert made.status == 201
    assert content(served[1], made.headers["longtake-asset"]) == b""


def test_methods_in_disguise(client: Client) -> None:
    path = client.create(3)
    said = BYTES | {"Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}
    worn = {name.replace("-", "_"): value for name, value in said.items()}
    assert client.ask("POST", path, b"abc", **worn).status == 204
    assert client.offset(path) == 3
    other = client.create(3)
    assert client.ask("HEAD", other, X_HTTP_Method_Override="DELETE").status == 200
    assert client.offset(other) == 0
    assert client.ask("POST", other).status == 405
    assert client.ask("POST", other, X_HTTP_Method_Override="DELETE").status == 204
    assert client.head(other).status == 410


def test_termination(uploads: Uploads) -> None:
    with serving(uploads) as client:
        path = client.create(10)
        client.patch(path, 0, b"123")
        _, asset = state(uploads, path)
        assert Client(client.port, "bob").ask("DELETE", path).status == 404
        assert client.ask("DELETE", path).status == 204
        for answer in (client.ask("DELETE", path), client.head(path), client.patch(path, 3, b"4")):
            assert answer.status == 410
            assert "upload-offset" not in answer.headers
        assert not uploads.blobs.path(asset.key).parent.exists()
        assert state(uploads, path)[1].state == "deleted"
        done = client.create(1)
        client.patch(done, 0, b"1")
        assert client.ask("DELETE", done).status == 409  # it is an asset now
        assert content(uploads, state(uploads, done)[1].id) == b"1"


@pytest.mark.parametrize("chunk", [MIB, 300_001])
@pytest.mark.parametrize("checked", [False, True])
def test_tuspy_uploads_unchanged(client: Client, served: Any, chunk: int, checked: bool) -> None:
    data = random.Random(chunk).randbytes(2 * MIB + 17)
    url = f"http://127.0.0.1:{client.port}{PREFIX}/uploads"
    tus = TusClient(url, headers={"X-User": "ann"}).uploader(
        file_stream=io.BytesIO(data), chunk_size=chunk, upload_checksum=checked,
        metadata={"filename": "film.mkv"},
    )  # fmt: skip
    tus.upload()
    made: Any = tus.url
    assert made.startswith(url + "/")
    row, asset = state(served[1], made)
    assert (row.state, asset.name) == ("complete", "film.mkv")
    assert content(served[1], asset.id) == data


# --- hostile names -------------------------------------------------------------------------------

NAMES = [
    "../../etc/passwd", "..\\..\\windows\\system32\\x", "/etc/passwd", "C:\\boot.ini", "..", ".",
    "", "a\0b.mkv", "a\r\nSet-Cookie: x=1", "\u202egpj.exe", "x" * 2000, "....//....//x", "~root/x",
    "%2e%2e%2f%2e%2e%2fx", "film.mkv/", "\x1b[31mred", "-rf", "nul\x7f", "\ue000\U000e0041",
]  # fmt: skip
IDS = [
    "..", "../uploads", "%2e%2e", "..%2f..%2fetc%2fpasswd", "%2e%2e%2f%2e%2e%2fservice.db",
    "..%5c..%5cx", "%00", "a%00b", "%ff%fe", "content", "*", "' OR 1=1 --".replace(" ", "%20"),
    "0" * 31, "0" * 32, "0" * 33, "A" * 32, "٠" * 32, "x" * 5000, "%", "%0d%0aSet-Cookie:x", ";",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_only_a_name(client: Client, served: Any, name: str) -> None:
    path = client.create(1, Upload_Metadata=f"filename {word(name)},path {word(name)}")
    done = client.patch(path, 0, b"1").headers["longtake-asset"]
    row, asset = state(served[1], path)
    assert asset.key == f"assets/{done}/content"
    assert content(served[1], done) == b"1"
    assert asset.name == plain_name(asset.name)
    assert 0 < len(asset.name) <= 255
    assert not set(asset.name) & set("/\\\0\r\n\x1b\u202e")
    assert asset.name not in (".", "..")
    assert client.head(path).headers["upload-metadata"] == row.about


def test_an_id_is_only_an_id(uploads: Uploads) -> None:
    with serving(uploads) as client:
        client.patch(client.create(3), 0, b"12")
        before = everything(uploads)
        for id in IDS:
            for method in ("HEAD", "PATCH", "DELETE"):
                answer = raw(client, method, f"{PREFIX}/uploads/{id}".encode())
                assert answer in (b"404", b"400", b"405", b"307"), (method, id, answer)
        assert everything(uploads) == before


def raw(client: Client, method: str, path: bytes) -> bytes:
    """The status of an answer to a path that no library would send."""
    with socket.create_connection(("127.0.0.1", client.port)) as wire:
        wire.sendall(
            method.encode() + b" " + path + b" HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\n"
            b"X-User: ann\r\nContent-Type: application/offset+octet-stream\r\nUpload-Offset: 0\r\n"
            b"Content-Length: 0\r\n\r\n"
        )
        return wire.recv(4096)[9:12]


def everything(uploads: Uploads) -> dict[str, bytes]:
    files = (p for p in uploads.blobs.root.rglob("*") if p.is_file())
    return {str(path): path.read_bytes() for path in files}


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_link_in_the_place_of_the_file_is_not_followed(uploads: Uploads, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    with serving(uploads) as client:
        path = client.create(8)
        client.patch(path, 0, b"1234")
        file = uploads.blobs.path(state(uploads, path)[1].key)
        file.unlink()
        file.symlink_to(outside)
        assert client.patch(path, 4, b"5678").status == 500
    assert outside.read_bytes() == b"mine"
