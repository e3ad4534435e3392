"""One request's writing on an upload: bytes count once they are on the disk and the database says
so. Behind a crash the smaller of the two stands, and the file is cut to it.

One writer at a time: it holds a lock of the system on the file, which dies with it, and a lease in
the database, for writers on other machines.
"""

from __future__ import annotations

import contextlib
import errno
import hmac
import re
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from sqlalchemy import Connection, select, update

from longtake.core.errors import LongtakeError
from longtake.service import events
from longtake.service.blobs import Growing
from longtake.service.database import SECOND, Database, DatabaseAway
from longtake.service.tables import asset, upload

SAVE_BYTES: Final = 64 << 20  # that a crash may cost at most
SAVE_SECONDS: Final = 10.0  # likewise, on a slow line
LEASE: Final = 60 * SECOND
_ID: Final = re.compile(r"[0-9a-f]{32}")


class NotFound(LongtakeError):
    """There is no such upload."""


class Gone(LongtakeError):
    """This upload has ended: begin a new one."""


class WrongOffset(LongtakeError):
    """The upload goes on at another byte."""


class Locked(LongtakeError):
    """Another request is writing this upload: try again in a moment."""


class TooLarge(LongtakeError):
    """That is more than can be taken."""


class NoRoom(LongtakeError):
    """The disk of the server is too full."""


class ChecksumMismatch(LongtakeError):
    """The bytes of this request are not those of its checksum; none of them was kept."""


class Complete(LongtakeError):
    """This upload is complete."""


class Hash(Protocol):
    """One of hashlib's."""

    def update(self, data: bytes | bytearray, /) -> None: ...

    def digest(self) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What a request is about to bring."""

    offset: int
    size: int | None = None  # bytes, where the client says so
    checksum: tuple[Hash, bytes] | None = None
    """A fresh hash and what it must come to. Such a piece counts as a whole or not at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    id: str
    offset: int
    length: int
    about: str
    """Upload-Metadata, as it came."""
    asset: str
    complete: bool
    expires: int  # microseconds since 1970


@dataclass(slots=True)
class Writing:
    """One request's writing, from `lock` to `close`. Used by one thread at a time."""

    database: Database
    expiry: int  # microseconds
    row: Any
    file: Growing
    piece: Piece
    at: int = field(init=False)  # bytes written
    saved: int = field(init=False)  # bytes on the disk and in the database
    holder: str = field(init=False)
    since: float = field(init=False)  # the last save
    held: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.at = self.saved = self.piece.offset
        self.holder = f"{_machine()}/{secrets.token_hex(16)}"
        self.since = time.monotonic()

    def lock(self) -> None:
        """Take the lease. That of a writer on this machine is over, for the file was not held."""
        with self.database.write() as connection:
            now = self.database.now(connection)
            row = row_of(connection, self.row["owner"], self.row["id"], now, locked=True)
            held = row["lock_owner"] is not None and row["lock_until"] >= now
            if held and not row["lock_owner"].startswith(self.holder.partition("/")[0] + "/"):
                raise Locked
            offset = min(row["received"], self.file.size)
            if row["state"] == "complete" or offset != self.piece.offset:
                raise WrongOffset(f"It has {offset:,} bytes.")  # another writer was quicker
            self.file.cut(offset)
            connection.execute(
                update(upload).where(upload.c.id == self.row["id"])
                .values(received=offset, lock_owner=self.holder, lock_until=now + LEASE)
            )  # fmt: skip
        self.held = True

    def take(self, block: bytes | bytearray) -> None:
        if self.at + len(block) > self.row["length"]:
            self._discard()
            raise TooLarge(f"The upload ends at byte {self.row['length']:,}.")
        try:
            self.file.write(self.at, block)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoRoom(f"It took {self.at:,} bytes of this upload.") from None
            raise
        self.at += len(block)
        if self.piece.checksum:
            self.piece.checksum[0].update(block)
        due = self.at - self.saved >= SAVE_BYTES and not self.piece.checksum
        if due or time.monotonic() - self.since > SAVE_SECONDS:
            self._save()

    def finish(self) -> Progress:
        """The request has ended. What it brought counts; the last one completes the asset."""
        if self.piece.checksum:
            hashed, wanted = self.piece.checksum
            if not hmac.compare_digest(hashed.digest(), wanted):
                self._discard()
                raise ChecksumMismatch(f"Send again from byte {self.saved:,}.")
        return self._save(last=True, checked=True)

    def close(self) -> None:
        """Keep what was written, unless it waited for its checksum; let go of lock and lease."""
        try:
            if self.held:
                if self.piece.checksum:
                    self._discard()
                with contextlib.suppress(Gone, Locked, DatabaseAway, OSError):
                    self._save(last=True, checked=True)
        finally:
            self.file.close()

    def _discard(self) -> None:
        self.file.cut(self.saved)
        self.at = self.saved

    def _save(self, *, last: bool = False, checked: bool = False) -> Progress:
        """fsync, then tell the database, where the lease is still ours. Raises Gone, Locked."""
        counted = self.at if checked or not self.piece.checksum else self.saved
        if counted > self.saved:
            self.file.sync()
        complete = last and counted == self.row["length"]
        with self.database.write() as connection:
            now = self.database.now(connection)
            values: dict[str, Any] = {"lock_until": None if last else now + LEASE}
            if last:
                values["lock_owner"] = None
            if complete:
                values["state"] = "complete"
            expires = now + self.expiry if counted > self.saved else self.row["expires"]
            done = connection.execute(
                update(upload)
                .where(upload.c.id == self.row["id"], upload.c.state == "open")
                .where(upload.c.lock_owner == self.holder)
                .values(received=counted, expires=expires, **values)
            )
            if not done.rowcount:
                self.held = False
                row_of(connection, self.row["owner"], self.row["id"], now)  # raises Gone
                raise Locked
            if complete:
                self._complete(connection, now)
        self.held, self.saved, self.since = not last, counted, time.monotonic()
        return Progress(
            id=self.row["id"], offset=counted, length=self.row["length"], about=self.row["about"],
            asset=self.row["asset"], complete=complete, expires=expires,
        )  # fmt: skip

    def _complete(self, connection: Connection, now: int) -> None:
        about = {"asset": self.row["asset"], "state": "probing"}
        connection.execute(
            update(asset).where(asset.c.id == self.row["asset"], asset.c.state == "receiving")
            .values(state="probing", bytes=self.row["length"])
        )  # fmt: skip
        events.append(connection, now, self.row["owner"], "asset.state", about)


def key_of(asset_id: str) -> str:
    return f"assets/{asset_id}/content"


def row_of(connection: Connection, owner: str, id: str, now: int, *, locked: bool = False) -> Any:
    """Of this owner's upload. Raises NotFound, Gone."""
    if not _ID.fullmatch(id):
        raise NotFound
    wanted = select(upload).where(upload.c.id == id, upload.c.owner == owner)
    row = connection.execute(wanted.with_for_update() if locked else wanted).mappings().first()
    if row is None:
        raise NotFound
    late = row["state"] == "open" and row["expires"] <= now and (row["lock_until"] or 0) < now
    if row["state"] in ("aborted", "expired") or late:
        raise Gone
    return row


def _machine() -> str:
    """The same for all processes that see each other's locks of the system; elsewhere a new one
    each time, so that the lease alone decides."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return secrets.token_hex(16)
