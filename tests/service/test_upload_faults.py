"""Uploads: cuts, kills, two writers, no room; the bytes are right, and no quota is overshot."""

from __future__ import annotations

import hashlib
import os
import random
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from longtake.service import tables, upload_writer
from longtake.service.blobs import Blobs
from longtake.service.database import SECOND, Database
from longtake.service.quotas import OverQuota
from longtake.service.upload_writer import Locked, Piece, Writing
from longtake.service.uploads import Uploads
from tests.service.uploading import (
    MIB,
    PREFIX,
    Client,
    Process,
    build,
    content,
    eventually,
    half_sent,
    serving,
    state,
    users,
)


@pytest.fixture
def uploads(database: Database, tmp_path: Path) -> Uploads:
    """On each database."""
    users(database, ann=None, bob=None)
    return build(database, tmp_path)


def test_a_second_writer_waits_and_a_cut_keeps_what_came(uploads: Uploads) -> None:
    with serving(uploads) as client:
        path = client.create(20)
        with half_sent(client, path, 0, 20, b"0123456"):
            eventually(lambda: state(uploads, path)[0].lock_owner is not None)
            locked = client.patch(path, 0, b"0123456789")
            assert (locked.status, locked.headers["retry-after"]) == (423, "1")
            assert uploads.expire() == 0
        eventually(lambda: client.offset(path) == 7)
        assert state(uploads, path)[0].lock_owner is None
        with half_sent(client, path, 7, 13, b"789"):  # ended by its owner while it is written
            eventually(lambda: state(uploads, path)[0].lock_owner is not None)
            assert client.ask("DELETE", path).status == 204
        eventually(lambda: not list(uploads.blobs.root.glob("assets/*")))
        assert client.head(path).status == 410


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_silent_client_is_let_go(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longtake.service.routes.uploads.SILENCE", 0.2)
    with serving(uploads) as client:
        path = client.create(20)
        with half_sent(client, path, 0, 20, b"0123456") as wire:
            assert b" 408 " in wire.recv(100)
        assert client.offset(path) == 7


def test_behind_a_crash_the_smaller_one_stands(uploads: Uploads) -> None:
    with serving(uploads) as client:
        path = client.create(20)
        client.patch(path, 0, b"0123456789")
        _, asset = state(uploads, path)
        file = uploads.blobs.path(asset.key)
        file.write_bytes(b"0123456789 not saved")  # written, but never told to the database
        assert client.offset(path) == 10
        assert client.patch(path, 10, b"ab").status == 204
        assert file.read_bytes() == b"0123456789ab"
        file.write_bytes(b"01234")  # what the disk lost
        assert client.offset(path) == 5
        assert client.patch(path, 12, b"x").status == 409
        assert client.patch(path, 5, b"56789abcdefghij").status == 204
        assert file.read_bytes() == b"0123456789abcdefghij"


@pytest.mark.parametrize(("elsewhere", "seconds", "status"), [
    (True, 30, 423), (True, -1, 204), (False, 30, 204),
])  # fmt: skip
def test_leases_of_the_dead(uploads: Uploads, elsewhere: bool, seconds: int, status: int) -> None:
    """A writer on another machine is waited for until its lease is over; of one on this machine it
    is known that it is dead."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with serving(uploads) as client:
        path = client.create(3)
        with uploads.database.write() as connection:
            until = uploads.database.now(connection) + seconds * SECOND
            holder = f"{'other' if elsewhere else boot}/1"
            values = {"lock_owner": holder, "lock_until": until}
            connection.execute(update(tables.upload).values(values))
        assert client.patch(path, 0, b"abc").status == status


def test_a_writer_whose_lease_was_taken_counts_no_more(uploads: Uploads) -> None:
    id = uploads.create("ann", 10, "", "x")
    writing = uploads._begin("ann", id, Piece(offset=0))
    assert isinstance(writing, Writing)
    writing.take(b"12345")
    with uploads.database.write() as connection:
        connection.execute(update(tables.upload).values(lock_owner="other/2"))
    with pytest.raises(Locked):
        writing.finish()
    writing.close()
    row, _ = state(uploads, id)
    assert (row.received, row.lock_owner) == (0, "other/2")


@pytest.mark.parametrize(
    ("total", "cut_times", "kills"),
    [(512 * MIB, 6, 1), pytest.param(5 << 30, 23, 3, marks=pytest.mark.long)],
)
def test_cuts_and_kills_give_the_same_bytes(
    uploads: Uploads, tmp_path: Path, total: int, cut_times: int, kills: int
) -> None:
    """The server saves each 64 MiB, so at most that is sent again for each cut."""
    chance = random.Random(20261121)
    save, sent = upload_writer.SAVE_BYTES, 0
    data = b"".join(chance.randbytes(MIB) for _ in range(total // MIB))
    cuts = sorted(chance.sample(range(MIB, total), cut_times))
    killed_at = chance.sample(cuts, kills)
    server = Process(uploads, tmp_path, save)
    try:
        client = Client(server.port)
        path = client.create(total)
        for cut in cuts:
            at = client.offset(path)
            with half_sent(client, path, at, total - at, data[at:cut]):
                sent += cut - at
                if cut in killed_at:
                    server.kill()
            if cut in killed_at:
                server.start()
            else:
                eventually(lambda: state(uploads, path)[0].lock_owner is None)
        at = client.offset(path)
        last = client.patch(path, at, data[at:])
        sent += total - at
        assert last.status == 204
    finally:
        server.close()
    stored = hashlib.sha256(content(uploads, last.headers["longtake-asset"]))
    assert stored.hexdigest() == hashlib.sha256(data).hexdigest()
    assert sent - total <= cut_times * (save + MIB)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_memory_does_not_grow_with_the_body(uploads: Uploads, tmp_path: Path) -> None:
    server = Process(uploads, tmp_path, 64 * MIB)
    try:
        client = Client(server.port)
        small = client.create(2 * MIB)
        assert client.patch(small, 0, bytes(2 * MIB)).status == 204
        before = server.peak()
        large = client.create(192 * MIB)
        body = (bytes(MIB) for _ in range(192))
        said = {"Content_Length": str(192 * MIB)}
        assert client.patch(large, 0, body, **said).status == 204
        assert server.peak() - before < 16 * MIB
    finally:
        server.close()


# --- room ----------------------------------------------------------------------------------------


def test_parallel_creations_do_not_overshoot_the_quota(database: Database, tmp_path: Path) -> None:
    users(database, ann=1000, bob=None)
    uploads = build(database, tmp_path)
    made, refused = [], []
    start = threading.Barrier(12)

    def create() -> None:
        start.wait()
        try:
            made.append(uploads.create("ann", 300, "", "x"))
        except OverQuota as error:
            refused.append(error)

    threads = [threading.Thread(target=create) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), len(refused)) == (3, 9)
    assert "100 of 1,000 are left" in str(refused[0])
    uploads.create("bob", 10**6, "", "x")
    with serving(uploads) as client:
        over = client.ask("POST", f"{PREFIX}/uploads", Upload_Length="101")
        assert over.status == 413
        for id in made:  # what is complete counts on, what was ended does not
            assert client.patch(f"{PREFIX}/uploads/{id}", 0, bytes(300)).status == 204
        assert client.ask("POST", f"{PREFIX}/uploads", Upload_Length="101").status == 413
        assert client.ask("DELETE", client.create(100)).status == 204
        client.create(100)


def test_the_disk_keeps_its_reserve(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Blobs, "free_bytes", lambda _: 10_000)
    uploads._low_water = 4_000
    with serving(uploads) as client:
        path = client.create(4_000)
        assert client.ask("POST", f"{PREFIX}/uploads", Upload_Length="2001").status == 507
        other = Client(client.port, "bob").create(2_000)
        assert client.ask("POST", f"{PREFIX}/uploads", Upload_Length="1").status == 507
        assert other != path


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_full_disk_keeps_what_came(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    real, room = os.pwrite, 3 * MIB

    def pwrite(handle: int, data: Any, at: int) -> int:
        if at + len(data) > room:
            raise OSError(28, "No space left on device")
        return real(handle, data, at)

    data = random.Random(1).randbytes(5 * MIB)
    with serving(uploads) as client:
        path = client.create(len(data))
        monkeypatch.setattr(os, "pwrite", pwrite)
        assert client.patch(path, 0, data).status == 507
        monkeypatch.setattr(os, "pwrite", real)
        at = client.offset(path)
        assert 2 * MIB <= at <= room
        assert client.patch(path, at, data[at:]).status == 204
        assert content(uploads, state(uploads, path)[1].id) == data


def test_idle_uploads_expire(uploads: Uploads) -> None:
    with serving(uploads) as client:
        idle, done, alive = client.create(5), client.create(1), client.create(5)
        client.patch(idle, 0, b"12")
        client.patch(done, 0, b"1")
        with uploads.database.write() as connection:
            late = [path.rpartition("/")[2] for path in (idle, done)]
            connection.execute(
                update(tables.upload).where(tables.upload.c.id.in_(late)).values(expires=1)
            )
        assert client.head(idle).status == 410  # also before anyone has looked after it
        assert client.patch(idle, 2, b"3").status == 410
        assert (uploads.expire(), uploads.expire()) == (1, 0)
        assert client.head(idle).status == 410
        assert (client.head(done).status, client.offset(alive)) == (200, 0)
    gone = state(uploads, idle)
    assert (gone[0].state, gone[1].state, gone[1].key) == ("expired", "deleted", None)
    with uploads.database.read() as connection:
        wanted = select(func.count()).where(tables.event.c.data.contains("deleted"))
        assert connection.execute(wanted).scalar_one() == 1
