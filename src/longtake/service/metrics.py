"""Figures of the queue for Prometheus, read from the database when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import Connection, Select, and_, func, select

from longtake.service.database import SECOND, Database
from longtake.service.tables import (
    JOB_GOING,
    JOB_KINDS,
    JOB_STATES,
    STEP_STATES,
    attempt,
    event,
    job,
    step,
    worker,
)

_QUEUES = ("gpu", "cpu")
_WORKERS = ("idle", "busy", "draining", "gone")


def text(database: Database, handed: int | None, streams: int) -> tuple[bytes, str]:
    """The figures and their media type. `handed`: number of the last event that this process's
    streams were given. Raises DatabaseAway."""
    registry = CollectorRegistry()
    registry.register(_Queue(database, handed, streams))
    return generate_latest(registry), CONTENT_TYPE_LATEST


@dataclass(frozen=True, slots=True)
class _Queue(Collector):
    database: Database
    handed: int | None
    streams: int

    def collect(self) -> Iterable[GaugeMetricFamily]:
        with self.database.read() as connection:
            now = self.database.now(connection)
            figures = [*_counts(connection), _oldest(connection, now), _sampling(connection)]
            if self.handed is not None:
                figures.append(_lag(connection, now, self.handed))
        figures.append(
            GaugeMetricFamily("longtake_event_streams", "Open streams of events.", self.streams)
        )
        return figures


def _counts(connection: Connection) -> Iterator[GaugeMetricFamily]:
    kinds = GaugeMetricFamily(
        "longtake_jobs_going", "Jobs that have not ended, by kind.", labels=["kind"]
    )
    going = select(job.c.kind, func.count()).where(job.c.state.in_(JOB_GOING)).group_by(job.c.kind)
    found = _pairs(connection, going)
    for kind in JOB_KINDS:
        kinds.add_metric([kind], found.get(kind, 0))
    yield kinds
    jobs = GaugeMetricFamily("longtake_jobs", "Jobs by state.", labels=["state"])
    found = _pairs(connection, select(job.c.state, func.count()).group_by(job.c.state))
    for state in JOB_STATES:
        jobs.add_metric([state], found.get(state, 0))
    yield jobs
    steps = GaugeMetricFamily("longtake_steps", "Steps by state.", labels=["queue", "state"])
    counted = select(step.c.queue, step.c.state, func.count()).group_by(step.c.queue, step.c.state)
    each = {(row[0], row[1]): row[2] for row in connection.execute(counted)}
    for queue in _QUEUES:
        for state in STEP_STATES:
            steps.add_metric([queue, state], each.get((queue, state), 0))
    yield steps
    workers = GaugeMetricFamily("longtake_workers", "Workers by state.", labels=["state"])
    found = _pairs(connection, select(worker.c.state, func.count()).group_by(worker.c.state))
    for state in _WORKERS:
        workers.add_metric([state], found.get(state, 0))
    yield workers


def _oldest(connection: Connection, now: int) -> GaugeMetricFamily:
    waits = GaugeMetricFamily(
        "longtake_oldest_ready_seconds",
        "Time that the step has waited which could be claimed longest; 0 where there is none.",
        labels=["queue"],
    )
    ready = (
        select(step.c.queue, func.min(step.c.not_before))
        .where(step.c.state == "ready", step.c.not_before <= now)
        .group_by(step.c.queue)
    )
    found = _pairs(connection, ready)
    for queue in _QUEUES:
        waits.add_metric([queue], max(0, now - found.get(queue, now)) / SECOND)
    return waits


def _sampling(connection: Connection) -> GaugeMetricFamily:
    """Of the attempts that are under way."""
    takes = GaugeMetricFamily(
        "longtake_sampler_step_seconds",
        "Mean time of a step of the samplers that are at work; 0 where there is none.",
        labels=["queue"],
    )
    found = _pairs(
        connection,
        select(step.c.queue, func.avg(attempt.c.step_time))
        .join(attempt, and_(attempt.c.job == step.c.job, attempt.c.number == step.c.number,
                            attempt.c.fence == step.c.fence))
        .where(step.c.state == "leased", attempt.c.step_time.is_not(None))
        .group_by(step.c.queue),
    )  # fmt: skip
    for queue in _QUEUES:
        takes.add_metric([queue], float(found.get(queue, 0)) / SECOND)
    return takes


def _pairs(connection: Connection, wanted: Select[str, int]) -> dict[str, int]:
    return {row[0]: row[1] for row in connection.execute(wanted)}


def _lag(connection: Connection, now: int, handed: int) -> GaugeMetricFamily:
    oldest = connection.execute(select(func.min(event.c.at)).where(event.c.id > handed)).scalar()
    return GaugeMetricFamily(
        "longtake_event_lag_seconds",
        "Age of the oldest event that the streams of this process were not given yet.",
        max(0, now - (now if oldest is None else oldest)) / SECOND,
    )
