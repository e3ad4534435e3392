"""Small pictures of films, decoded in the limited child, a few at a time, and kept beside the film.

A film that gave none is not tried again for some minutes: it may have cost all the time there is.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import secrets
import shutil
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

from anyio import CapacityLimiter, to_thread
from sqlalchemy import select

from longtake.media.stills import jpeg
from longtake.service import assets, sandbox
from longtake.service.blobs import Blobs
from longtake.service.database import Database
from longtake.service.jobs import Conflict
from longtake.service.problems import RETRY, Problem
from longtake.service.sandbox import Rejected
from longtake.service.tables import asset

AT_ONCE: Final = 2
PATIENCE: Final = 10.0  # s that others wait for their turn
EACH: Final = 64  # pictures of one film that are kept
MOST_BYTES: Final = 512 << 20  # of all pictures that are kept
_UNTRIED: Final = 600.0  # s, after a failure
_MOST_REFUSED: Final = 1000
_BATCH: Final = 500
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One picture."""

    film: Path
    asset: str
    width: int
    at: Fraction | None
    tag: str
    """Names this picture of these very bytes."""

    @property
    def key(self) -> str:
        return f"assets/{self.asset}/stills/{self.tag}.jpg"


class Stills:
    """Pictures for the routes of one process."""

    def __init__(
        self, database: Database, blobs: Blobs, at_once: int = AT_ONCE, patience: float = PATIENCE
    ) -> None:
        self._database, self._blobs = database, blobs
        self._places = asyncio.Semaphore(at_once)
        self._threads = CapacityLimiter(at_once)
        self._patience = patience
        self._refused: dict[str, tuple[float, Rejected]] = {}
        self._lock = threading.Lock()

    def wanted(self, owner: str, name: str, width: int, milliseconds: int | None) -> Wanted:
        """The picture of an asset of the owner. Raises NotFound, Conflict."""
        about = assets.get(self._database, owner, name)
        if about["state"] != "ready":
            raise Conflict(f"{about['name']} is {about['state']}. {about['reason'] or ''}".strip())
        film, _ = assets.file(self._database, self._blobs, owner, name)
        seen = film.stat()
        what = f"{name} {seen.st_size} {seen.st_mtime_ns} {width} {milliseconds}"
        return Wanted(
            film=film, asset=name, width=width,
            at=None if milliseconds is None else Fraction(milliseconds, 1000),
            tag=hashlib.sha256(what.encode()).hexdigest()[:32],
        )  # fmt: skip

    async def picture(self, wanted: Wanted) -> bytes:
        """A JPEG file. Raises Rejected; Problem 503 where too many others wait."""
        kept = await to_thread.run_sync(self._kept, wanted)
        if kept is not None:
            return kept
        try:
            async with asyncio.timeout(self._patience):
                await self._places.acquire()
        except TimeoutError:
            raise Problem(
                503, detail=f"Other pictures are made. Try again in {RETRY} seconds.",
                headers={"Retry-After": str(RETRY)},
            ) from None  # fmt: skip
        try:
            return await to_thread.run_sync(self._made, wanted, limiter=self._threads)
        finally:
            self._places.release()

    def _kept(self, wanted: Wanted) -> bytes | None:
        """The picture, if it was made before. Raises Rejected where that failed lately."""
        with self._lock:
            until, refused = self._refused.get(wanted.tag, (0.0, None))
        if refused is not None and time.monotonic() < until:
            raise Rejected(refused.code, refused.detail)
        with contextlib.suppress(FileNotFoundError):
            return self._blobs.path(wanted.key).read_bytes()
        return None

    def _made(self, wanted: Wanted) -> bytes:
        kept = self._kept(wanted)  # who waited may have waited for this very picture
        if kept is not None:
            return kept
        try:
            made = jpeg(sandbox.still(wanted.film, wanted.width, wanted.at))
        except Rejected as refused:
            with self._lock:
                if len(self._refused) >= _MOST_REFUSED:
                    self._refused.clear()
                again = Rejected(refused.code, refused.detail)
                self._refused[wanted.tag] = time.monotonic() + _UNTRIED, again
            raise
        try:
            self._keep(wanted, made)
        except OSError as error:
            _log.warning("a picture of asset %s is not kept: %s", wanted.asset, error)
        return made

    def _keep(self, wanted: Wanted, made: bytes) -> None:
        fresh = f"{wanted.key}.{secrets.token_hex(8)}.new"
        try:
            with contextlib.closing(self._blobs.grow(fresh)) as file:
                file.write(0, made)
            path = self._blobs.put_atomic(wanted.key, self._blobs.path(fresh))
        except OSError:
            self._blobs.path(fresh).unlink(missing_ok=True)
            raise
        _thin([path.parent], most=EACH)

    def sweep(self) -> int:
        """Remove the pictures of films that are gone, and the oldest where all of them take too
        much; returns how many."""
        folders = {place.parent.name: place for place in self._blobs.root.glob("assets/*/stills")}
        gone = folders.keys() - self._present(sorted(folders))
        removed = 0
        for name in gone:
            removed += sum(1 for _ in _files([folders[name]]))
            shutil.rmtree(folders[name], ignore_errors=True)
            with contextlib.suppress(OSError):  # the film is in it
                folders[name].parent.rmdir()
        left = [folder for name, folder in folders.items() if name not in gone]
        return removed + _thin(left, most_bytes=MOST_BYTES)

    def _present(self, names: list[str]) -> set[str]:
        """Those of the assets that are there."""
        found: set[str] = set()
        with self._database.read() as connection:
            for at in range(0, len(names), _BATCH):
                rows = connection.execute(
                    select(asset.c.id)
                    .where(asset.c.id.in_(names[at : at + _BATCH]), asset.c.state != "deleted")
                )  # fmt: skip
                found |= set(rows.scalars())
        return found


def _files(folders: Collection[Path]) -> Iterator[tuple[int, int, Path]]:
    """Time of change, bytes and path of each picture."""
    for folder in folders:
        for path in folder.glob("*"):
            with contextlib.suppress(FileNotFoundError):
                about = path.stat()
                yield about.st_mtime_ns, about.st_size, path


def _thin(folders: Collection[Path], most: int | None = None, most_bytes: int | None = None) -> int:
    """Remove the oldest pictures until no more than that are left; returns how many."""
    found = sorted(_files(folders), reverse=True)
    total = removed = 0
    for number, (_, size, path) in enumerate(found):
        total += size
        if (most is not None and number >= most) or (most_bytes is not None and total > most_bytes):
            path.unlink(missing_ok=True)
            removed += 1
    return removed
