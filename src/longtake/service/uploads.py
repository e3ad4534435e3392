"""Uploads that may be cut at any byte: what happens, without HTTP."""

from __future__ import annotations

import contextlib
import secrets
import unicodedata
from collections.abc import AsyncIterator
from typing import Any, Final

from anyio import CancelScope, to_thread
from sqlalchemy import Connection, func, insert, or_, select, text, update

from longtake.service import events, quotas
from longtake.service.blobs import Blobs, InUse
from longtake.service.database import SECOND, Database
from longtake.service.quotas import OverQuota
from longtake.service.tables import asset, upload, user
from longtake.service.upload_writer import (
    Complete,
    Gone,
    Locked,
    NoRoom,
    NotFound,
    Piece,
    Progress,
    TooLarge,
    Writing,
    WrongOffset,
    key_of,
    row_of,
)

_ONE_AFTER_THE_OTHER: Final = 7_266_231_853_001_010  # a lock of PostgreSQL; SQLite needs none
_BLOCK: Final = 1 << 20  # bytes written at a time
_LONGEST: Final = 255  # characters of a name
_GIGA: Final = 1e9


class Uploads:
    """`largest`: bytes of one upload; `low_water`: bytes of the disk that stay free;
    `expiry_seconds`: without a new byte, until an upload is given up."""

    def __init__(
        self, database: Database, blobs: Blobs, *, largest: int, low_water: int, expiry_seconds: int
    ) -> None:
        self.database, self.blobs, self.largest = database, blobs, largest
        self._low_water, self._expiry = low_water, expiry_seconds * SECOND

    def create(self, owner: str, length: int, about: str, name: str) -> str:
        """A new upload of `length` bytes; returns its id. `name`: of the asset, for people only.

        All of its bytes are reserved here, in one transaction, so that uploads that begin at once
        overshoot neither quota nor disk. Raises TooLarge, OverQuota, NoRoom, NotFound.
        """
        if length > self.largest:
            raise TooLarge(f"{length:,} bytes; at most {self.largest:,} are taken.")
        made, new = secrets.token_hex(16), secrets.token_hex(16)
        with self.database.write() as connection:
            self._reserve(connection, owner, length)
            now = self.database.now(connection)
            connection.execute(insert(asset).values(
                id=new, owner=owner, kind="source", state="receiving", name=plain_name(name),
                key=key_of(new), created=now,
            ))  # fmt: skip
            connection.execute(insert(upload).values(
                id=made, owner=owner, asset=new, length=length, about=about, created=now,
                expires=now + self._expiry,
            ))  # fmt: skip
        if not length:
            begun = self._begin(owner, made, Piece(offset=0, size=0))
            if isinstance(begun, Writing):
                with contextlib.closing(begun):
                    begun.finish()
        return made

    def offset(self, owner: str, id: str) -> Progress:
        """How far it is. Raises NotFound, Gone."""
        with self.database.read() as connection:
            row = row_of(connection, owner, id, self.database.now(connection))
        return self._progress(row)

    async def append(
        self, owner: str, id: str, piece: Piece, chunks: AsyncIterator[bytes]
    ) -> Progress:
        """Write what comes, until it ends or breaks off: what has come is kept either way.

        Raises NotFound, Gone, WrongOffset, Locked, TooLarge, NoRoom, ChecksumMismatch.
        """
        writing = await to_thread.run_sync(self._begin, owner, id, piece)
        if isinstance(writing, Progress):
            return writing
        try:
            async for block in _blocks(chunks):
                await to_thread.run_sync(writing.take, block)
            return await to_thread.run_sync(writing.finish)
        finally:
            with CancelScope(shield=True):
                await to_thread.run_sync(writing.close)

    def terminate(self, owner: str, id: str) -> None:
        """Give it up and remove its bytes; a request that is writing finds out at its next save.
        Raises NotFound, Gone, and Complete where the bytes are an asset already."""
        with self.database.write() as connection:
            row = row_of(connection, owner, id, self.database.now(connection), locked=True)
            if row["state"] == "complete":
                raise Complete(f"Delete asset {row['asset']} instead.")
            self._end(connection, row, "aborted")
        self._sweep(id)

    def expire(self) -> int:
        """Give up what has had no new byte for too long, and remove what lies there of uploads that
        have ended. Returns how many were given up. Call it now and then."""
        with self.database.write() as connection:
            now = self.database.now(connection)
            idle = or_(upload.c.lock_until.is_(None), upload.c.lock_until < now)
            wanted = select(upload).where(upload.c.state == "open", upload.c.expires <= now, idle)
            rows = connection.execute(wanted.with_for_update()).mappings().all()
            for row in rows:
                self._end(connection, row, "expired")
        self._sweep()
        return len(rows)

    def _reserve(self, connection: Connection, owner: str, length: int) -> None:
        if not self.database.is_sqlite:
            lock = text(f"SELECT pg_advisory_xact_lock({_ONE_AFTER_THE_OTHER})")
            connection.execute(lock)
        quota = connection.execute(
            select(user.c.quota_bytes).where(user.c.id == owner)
        ).one_or_none()
        if quota is None:
            raise NotFound(f"There is no user {owner!r}.")
        if quota[0] is not None:
            used = quotas.held(connection, owner)
            if used + length > quota[0]:
                words = (
                    f"{length:,} bytes are asked for, {max(0, quota[0] - used):,} of "
                    f"{quota[0]:,} are left. Delete assets or end uploads that are under way."
                )
                raise OverQuota("bytes", used, quota[0], words)
        awaited = connection.execute(
            select(func.coalesce(func.sum(upload.c.length - upload.c.received), 0))
            .where(upload.c.state == "open")
        ).scalar_one()  # fmt: skip
        free = self.blobs.free_bytes() - int(awaited) - self._low_water
        if length > free:
            raise NoRoom(
                f"{length / _GIGA:,.3f} GB are asked for, {max(0, free) / _GIGA:,.3f} GB can be "
                f"taken. Free some space on it, or wait for other uploads to end."
            )

    def _begin(self, owner: str, id: str, piece: Piece) -> Writing | Progress:
        """Progress where all is there already, and nothing more is brought."""
        with self.database.read() as connection:
            row = row_of(connection, owner, id, self.database.now(connection))
        there = self._progress(row)
        _check(there, piece)
        if there.complete:
            return there
        key = key_of(row["asset"])
        try:
            file = self.blobs.grow(key)
        except InUse:
            raise Locked from None
        writing = Writing(self.database, self._expiry, row, file, piece)
        try:
            writing.lock()
        except BaseException as error:
            file.close()
            if isinstance(error, Gone):
                self.blobs.delete(key)  # it ended before the file was opened
            raise
        return writing

    def _end(self, connection: Connection, row: Any, state: str) -> None:
        now = self.database.now(connection)
        connection.execute(
            update(upload).where(upload.c.id == row["id"])
            .values(state=state, lock_owner=None, lock_until=None)
        )  # fmt: skip
        connection.execute(update(asset).where(asset.c.id == row["asset"]).values(state="deleted"))
        told = {"asset": row["asset"], "state": "deleted"}
        events.append(connection, now, row["owner"], "asset.state", told)

    def _sweep(self, id: str | None = None) -> None:
        """The key is forgotten after the file has gone, so that a crash leaves nothing behind."""
        wanted = (
            select(asset.c.id, asset.c.key)
            .join(upload, upload.c.asset == asset.c.id)
            .where(upload.c.state.in_(("aborted", "expired")), asset.c.key.is_not(None))
        )
        with self.database.read() as connection:
            rows = connection.execute(wanted if id is None else wanted.where(upload.c.id == id))
            left = rows.all()
        for ended, key in left:
            self.blobs.delete(key)
            with self.database.write() as connection:
                connection.execute(update(asset).where(asset.c.id == ended).values(key=None))

    def _progress(self, row: Any) -> Progress:
        complete = row["state"] == "complete"
        there = row["length"] if complete else self.blobs.size(key_of(row["asset"]))
        return Progress(
            id=row["id"], offset=min(row["received"], there), length=row["length"],
            about=row["about"], asset=row["asset"], complete=complete, expires=row["expires"],
        )  # fmt: skip


def plain_name(name: str) -> str:
    """A user's name for a file without folders, control characters and what hides or turns text."""
    last = name.replace("\\", "/").rpartition("/")[2]
    seen = "".join(c for c in last if unicodedata.category(c)[0] != "C").strip()
    return seen[:_LONGEST] if seen.strip(".") else "upload"


def _check(there: Progress, piece: Piece) -> None:
    if piece.offset != there.offset:
        raise WrongOffset(f"It has {there.offset:,} bytes, not {piece.offset:,}.")
    if there.complete and piece.size is None:
        raise Complete
    if piece.offset + (piece.size or 0) > there.length:
        raise TooLarge(
            f"{piece.size:,} bytes from byte {piece.offset:,} on; the upload ends at byte "
            f"{there.length:,}."
        )


async def _blocks(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytearray]:
    """The same bytes, about 1 MiB at a time."""
    block = bytearray()
    async for chunk in chunks:
        block += chunk
        if len(block) >= _BLOCK:
            yield block
            block = bytearray()
    if block:
        yield block
