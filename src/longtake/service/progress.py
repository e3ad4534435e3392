"""How fast a job goes and when it ends, from its committed and running segments.

A worker's speed is measured from the end of one of its segments to the end of a later one, so that
what is done between them (claims, warm-up, commits, another job's turn) counts; what was loaded
before the first does not. Speeds of the workers that are at it add up. To the frames that are left
comes the time to join and check the film, as long as it took per pixel of the last films.

A film from words first goes by steps of the sampler, each as long as those before it; to the steps
that are left comes the time to decode, as long as it took per pixel of the last such films.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

from sqlalchemy import Connection, and_, func, select

from longtake.service.database import SECOND
from longtake.service.tables import attempt, job, step

_LOOKED_AT: Final = 64  # segments of a job, the last ones
_SMOOTHED: Final = 6  # segments of a worker
_LONGEST_GAP: Final = 5  # times the segment behind it: what is longer was a pause
_FILMS: Final = 5  # whose joining is remembered
_UNKNOWN: Final = 200e6  # pixels joined and checked in a second, before any film was
_TELLING: Final = 0.2  # share of the join from which on it tells by itself


def pace(connection: Connection, row: Any, done: int, now: int) -> dict[str, float | None]:
    """fps and eta (s) of a job, None where nothing can be said. `done`: frames that are made."""
    if row.state == "joining":
        return {"fps": None, "eta": _joining(connection, row, now)}
    if row.state != "running" or row.wish != "run" or row.frames is None:
        return {"fps": None, "eta": None}
    segments = _segments(connection, row.id)
    sampling = next((one for one in segments if _is_sampling(one)), None)
    if sampling is not None:
        return {"fps": None, "eta": _sampled(connection, row, sampling)}
    fps = _speed(segments, now)
    if not fps:
        return {"fps": None, "eta": None}
    left = max(0, row.frames - done) / fps
    return {"fps": round(fps, 3), "eta": round(left + _join(connection, row), 1)}


def _segments(connection: Connection, name: str) -> Sequence[Any]:
    """The last ones that are done or in hand, newest first."""
    same = and_(
        attempt.c.job == step.c.job, attempt.c.number == step.c.number,
        attempt.c.fence == step.c.fence,
    )  # fmt: skip
    return connection.execute(
        select(step.c.state, step.c.worker, step.c.began, step.c.ended, step.c.frames,
               step.c.frames_done, step.c.sampled, step.c.sampling, attempt.c.fps,
               attempt.c.step_time)
        .join(attempt, same)
        .where(step.c.job == name, step.c.kind == "segment",
               step.c.state.in_(("done", "leased")))
        .order_by(step.c.began.desc())
        .limit(_LOOKED_AT)
    ).all()  # fmt: skip


def _is_sampling(row: Any) -> bool:
    return row.state == "leased" and bool(row.sampling) and not row.frames_done


def _sampled(connection: Connection, row: Any, held: Any) -> float | None:
    """Seconds until the end of a film that is being sampled."""
    left = held.sampling - held.sampled
    if left and not held.step_time:
        return None
    steps = left * (held.step_time or 0) / SECOND
    return round(float(steps + _decoding(connection, row) + _join(connection, row)), 1)


def _decoding(connection: Connection, row: Any) -> float:
    """Seconds for all of the film, from the sampler's last step."""
    films = (
        select(job.c.id)
        .where(job.c.state == "succeeded", job.c.kind == "generate", job.c.pixels > 0)
        .order_by(job.c.ended.desc())
        .limit(_FILMS)
    )
    took, pixels = connection.execute(
        select(func.sum(attempt.c.decode_time), func.sum(job.c.frames * job.c.pixels))
        .join(job, job.c.id == attempt.c.job)
        .where(attempt.c.job.in_(films), attempt.c.decode_time.is_not(None))
    ).one()
    if not pixels or not row.pixels:
        return 0.0
    return float(row.frames * row.pixels) * float(took) / float(pixels) / SECOND


def _speed(segments: Sequence[Any], now: int) -> float | None:
    """Frames per second of all workers that have a segment, or had one a moment ago."""
    by_worker: defaultdict[str, list[Any]] = defaultdict(list)
    for row in segments:
        by_worker[row.worker].append(row)
    speeds = [_speed_of(rows) for rows in by_worker.values() if _at_it(rows[0], now)]
    known = [speed for speed in speeds if speed]
    if not known:
        return None
    return sum(known) * len(speeds) / len(known)  # who has just come is as fast as the others


def _at_it(last: Any, now: int) -> bool:
    if last.state == "leased":
        return True
    return bool(now - last.ended <= _LONGEST_GAP * (last.ended - last.began))


def _speed_of(rows: Sequence[Any]) -> float | None:
    """Of one worker, whose segments these are, the newest first."""
    done = [row for row in rows if row.state == "done"][:_SMOOTHED]
    frames, took = 0, 0
    for later, earlier in pairwise(done):
        work, gap = later.ended - later.began, later.began - earlier.ended
        if gap > _LONGEST_GAP * work:
            break
        frames += later.frames
        took += work + gap
    if took:
        return float(frames * SECOND / took)
    fps = (done or rows)[0].fps  # without what was loaded before its first frame
    return float(fps) if fps else None


def _joining(connection: Connection, row: Any, now: int) -> float | None:
    """Seconds until the join that is under way is done."""
    held = connection.execute(
        select(step).where(
            step.c.job == row.id, step.c.kind == "join", step.c.state == "leased"
        )
    ).first()  # fmt: skip
    if held is None or not held.frames:
        return None
    share = float(held.frames_done / held.frames)
    whole = _join(connection, row)
    if share >= _TELLING:
        whole = (now - held.began) / SECOND / share
    return round(whole * (1 - share), 1)


def _join(connection: Connection, row: Any) -> float:
    """Seconds for all of it."""
    if not row.pixels or not row.frames:
        return 0.0
    films = (
        select(job.c.id)
        .where(job.c.state == "succeeded", job.c.pixels > 0)
        .order_by(job.c.ended.desc())
        .limit(_FILMS)
    )
    took, pixels = connection.execute(
        select(func.sum(step.c.ended - step.c.began), func.sum(step.c.frames * job.c.pixels))
        .join(job, job.c.id == step.c.job)
        .where(step.c.job.in_(films), step.c.kind == "join", step.c.state == "done")
    ).one()
    per_pixel = float(took) / float(pixels) / SECOND if pixels else 1 / _UNKNOWN
    return float(row.frames * row.pixels * per_pixel)
