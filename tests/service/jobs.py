"""Jobs of small films for tests of the service."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select

from longtake.core.plain import to_plain
from longtake.core.task import Limits, Upscale
from longtake.planner.calibration import Calibration
from longtake.planner.survey import survey
from longtake.runtime.prepare import draft
from longtake.service import jobs
from longtake.service.database import Database
from longtake.service.jobs import Wish
from longtake.service.tables import job, step, user
from longtake.service.work import Worker


def someone(database: Database, name: str = "ann", **about: Any) -> str:
    with database.write() as connection:
        now = database.now(connection)
        connection.execute(insert(user).values(id=name, name=name, created=now, **about))
    return name


def upscaling(source: Path, segment_frames: int = 8, **how: Any) -> Upscale:
    return Upscale(
        **{"source": source, "target": source.parent / "large.mkv", "scale": Fraction(2),
           "engine": "resize", "codec": "ffv1", "set": {"segment_frames": segment_frames}, **how}
    )  # fmt: skip


def submitted(database: Database, owner: str, task: Upscale, **how: Any) -> str:
    limits = Limits(devices="cpu")
    known = Calibration(task.source.parent / "known.json")
    plan, _ = draft(task, limits, survey(), known, makes_folder=True)
    return jobs.create(database, Wish(owner=owner, task=task, limits=limits, plan=plan, **how))


def a_worker(database: Database, root: Path, name: str = "w", **how: Any) -> Worker:
    return Worker(
        database=database, root=root, name=name, device="cpu", queues=("cpu",),
        calibration=root / "calibration.json", **how,
    )  # fmt: skip


def plain_job(database: Database, owner: str, segments: int, **about: Any) -> str:
    """Steps without a film: planned, with `segments` of 10 frames."""
    name = str(about.get("id", jobs.identifier()))
    with database.write() as connection:
        now = database.now(connection)
        connection.execute(
            insert(job).values(
                **{"id": name, "owner": owner, "kind": "upscale", "task": "{}",
                   "limits": json.dumps(to_plain(Limits())), "state": "running",
                   "frames": 10 * segments, "created": now, **about}
            )
        )  # fmt: skip
        rows = [
            {"job": name, "number": i, "kind": "segment", "queue": "cpu", "state": "ready",
             "not_before": now, "frames": 10}
            for i in range(segments)
        ]  # fmt: skip
        rows.append({**rows[0], "number": segments, "kind": "join", "state": "blocked"})
        rows.append({**rows[0], "number": -1, "kind": "plan", "state": "done"})
        connection.execute(insert(step), rows)
    return name


@dataclass(frozen=True, slots=True)
class Standing:
    job: Any
    steps: dict[int, Any]


def standing(database: Database, name: str) -> Standing:
    with database.read() as connection:
        row = connection.execute(select(job).where(job.c.id == name)).one()
        rows = connection.execute(select(step).where(step.c.job == name)).all()
    return Standing(row, {r.number: r for r in rows})
