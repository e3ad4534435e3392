"""What admins tell workers and queues."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response
from pydantic import Field, StringConstraints

from longtake.service import fleet
from longtake.service.auth import Caller, needs
from longtake.service.database import Database
from longtake.service.routes import shapes
from longtake.service.routes.shapes import Moment, Seconds, Shape

Reads = Annotated[Caller, Depends(needs("jobs:read"))]
Admin = Annotated[Caller, Depends(needs("admin"))]
WorkerName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=300, pattern=r"^[^\u0000-\u001F\u007F]*$"),
    Path(description="the id of a worker; it may hold slashes"),
]


class Queue(Shape):
    name: shapes.Queue
    paused: Moment | None = Field(description="microseconds since 1970, UTC: since when")
    ready: int = Field(description="steps that a worker may claim")
    leased: int = Field(description="steps in hand")
    oldest: Seconds | None = Field(description="seconds that one which may be claimed has waited")


class Queues(Shape):
    queues: list[Queue]


def router(database: Database) -> APIRouter:
    routes = APIRouter(tags=["system"])

    @routes.post("/workers/{name:path}/drain", status_code=204)
    def drain_worker(name: WorkerName, caller: Admin) -> Response:
        """It gives its step back, takes no more and ends."""
        fleet.drain(database, caller.owner, name)
        return Response(status_code=204)

    @routes.delete("/workers/{name:path}/drain", status_code=204)
    def undrain_worker(name: WorkerName, caller: Admin) -> Response:
        """It may work again: one of `longtake serve` is started."""
        fleet.undrain(database, caller.owner, name)
        return Response(status_code=204)

    @routes.get("/queues")
    def list_queues(_: Reads) -> Queues:
        """What waits, and how long, of all owners together."""
        return _shown(database)

    @routes.post("/queues/{name}/pause")
    def pause_queue(name: shapes.Queue, caller: Admin) -> Queues:
        """No step of it is claimed any more; those in hand are finished."""
        fleet.pause(database, caller.owner, name)
        return _shown(database)

    @routes.post("/queues/{name}/resume")
    def resume_queue(name: shapes.Queue, caller: Admin) -> Queues:
        fleet.resume(database, caller.owner, name)
        return _shown(database)

    return routes


def _shown(database: Database) -> Queues:
    found = [asdict(queue) for queue in fleet.queues(database)]
    return Queues.model_validate({"queues": found})
