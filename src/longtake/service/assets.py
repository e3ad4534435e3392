"""Films that jobs read and make: named by path or uploaded, looked at in a limited child."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select, update

from longtake.core.media import VideoInfo
from longtake.core.plain import from_plain, to_plain
from longtake.service import events
from longtake.service.audit import note
from longtake.service.blobs import Blobs, under_roots
from longtake.service.database import Database
from longtake.service.jobs import Conflict, NotFound, identifier
from longtake.service.paging import MOST, Place, page
from longtake.service.sandbox import Rejected, probed
from longtake.service.tables import JOB_ENDED, asset, job

SHOWN = ("id", "kind", "state", "name", "bytes", "sha256", "reason", "job", "created", "expires")


def by_path(database: Database, owner: str, path: str, roots: Sequence[Path]) -> str:
    """An asset of a file under a configured root; it is looked at soon after. Raises BadInput."""
    found = under_roots(path, roots)
    name = identifier()
    with database.write() as connection:
        now = database.now(connection)
        connection.execute(
            insert(asset).values(
                id=name, owner=owner, kind="source", state="probing", name=found.name,
                path=str(found), bytes=found.stat().st_size, created=now,
            )
        )  # fmt: skip
        _told(connection, now, owner, name, "probing")
    return name


def look(database: Database, blobs: Blobs) -> int:
    """Look at all assets that wait for it; returns how many. Two that do so at once agree. A film
    that a job has made is there already: its description follows, for those who go on with it."""
    is_made = (asset.c.state == "ready") & (asset.c.kind != "source") & asset.c.key.is_not(None)
    waits = (asset.c.state == "probing") | is_made & asset.c.probe.is_(None)
    with database.read() as connection:
        waiting = connection.execute(select(asset).where(waits, asset.c.reason.is_(None))).all()
    for row in waiting:
        about: dict[str, Any]
        try:
            info = probed(Path(row.path) if row.path else blobs.path(row.key))
            about = {"state": "ready", "probe": json.dumps(to_plain(info))}
        except Rejected as error:
            state = "rejected" if row.kind == "source" else row.state
            about = {"state": state, "reason": str(error)}
        with database.write() as connection:
            changed = connection.execute(
                update(asset)
                .where(asset.c.id == row.id, asset.c.state == row.state, asset.c.probe.is_(None))
                .values(**about)
            )
            if changed.rowcount:
                _told(connection, database.now(connection), row.owner, row.id, about["state"])
    return len(waiting)


def get(database: Database, owner: str, name: str) -> dict[str, Any]:
    """Raises NotFound."""
    with database.read() as connection:
        return _shown(_own(connection, owner, name))


def listed(
    database: Database, owner: str, kind: str | None = None, *,
    before: Place | None = None, most: int = MOST,
) -> list[dict[str, Any]]:  # fmt: skip
    """A page, the newest first."""
    wanted = select(asset).where(asset.c.owner == owner, asset.c.state != "deleted")
    if kind is not None:
        wanted = wanted.where(asset.c.kind == kind)
    with database.read() as connection:
        rows = connection.execute(page(wanted, asset, before, most)).all()
    return [_shown(row) for row in rows]


def described(database: Database, owner: str, name: str) -> tuple[Any, VideoInfo]:
    """Row and description of one that jobs may read. Raises NotFound or Conflict."""
    with database.read() as connection:
        row = _own(connection, owner, name)
    if row.state != "ready":
        raise Conflict(f"{row.name} is {row.state}. {row.reason or ''}".strip())
    if row.probe is None:
        raise Conflict(f"{row.name} is not described yet. {row.reason or 'Try again soon.'}")
    return row, from_plain(VideoInfo, json.loads(row.probe))


def file(database: Database, blobs: Blobs, owner: str, name: str) -> tuple[Path, str]:
    """Where its bytes lie, and what it is called. Raises NotFound."""
    with database.read() as connection:
        row = _own(connection, owner, name)
    path = Path(row.path) if row.path else blobs.path(row.key) if row.key else None
    if path is None or not path.is_file():
        raise NotFound(f"The bytes of {row.name}.")
    return path, row.name


def remove(database: Database, blobs: Blobs, owner: str, name: str) -> None:
    """Its bytes, if they are ours, and its row's right to be found. Raises NotFound or Conflict."""
    with database.write() as connection:
        row = _own(connection, owner, name)
        reading = connection.execute(
            select(job.c.id).where(job.c.asset == name, job.c.state.not_in(JOB_ENDED))
        ).first()
        if reading is not None:
            raise Conflict(f"Job {reading.id} reads it.")
        now = database.now(connection)
        connection.execute(update(asset).where(asset.c.id == name).values(state="deleted", bytes=0))
        _told(connection, now, owner, name, "deleted")
        note(connection, now, owner, "asset.delete", name)
    if row.key:
        blobs.delete(row.key)


def _own(connection: Connection, owner: str, name: str) -> Any:
    row = connection.execute(
        select(asset).where(asset.c.id == name, asset.c.owner == owner, asset.c.state != "deleted")
    ).first()
    if row is None:
        raise NotFound(f"Asset {name}.")
    return row


def _shown(row: Any) -> dict[str, Any]:
    made = {key: getattr(row, key) for key in SHOWN}
    made["video"] = json.loads(row.probe) if row.probe else None
    return made


def _told(connection: Connection, now: int, owner: str, name: str, state: str) -> None:
    events.append(connection, now, owner, "asset.state", {"asset": name, "state": state})
