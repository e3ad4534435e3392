"""The log of a job."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from longtake.service import job_log
from longtake.service.auth import Caller, needs
from longtake.service.database import Database
from longtake.service.jobs import NotFound
from longtake.service.routes.shapes import HIGHEST, Moment, Name, Shape

Reads = Annotated[Caller, Depends(needs("jobs:read"))]


class LogLine(Shape):
    id: int = Field(description="grows from line to line")
    at: Moment
    level: Literal["info", "warning", "error"]
    worker: str | None
    number: int | None = Field(description="of the step; null where it is about the whole job")
    fence: int | None = Field(description="of the claim that it is about")
    text: str


class Log(Shape):
    lines: list[LogLine] = Field(description="oldest first")
    last: int = Field(description="what to give as `after` for those that follow")


def router(database: Database) -> APIRouter:
    routes = APIRouter(tags=["jobs"])

    @routes.get("/jobs/{name}/log")
    def get_log(
        name: Name, caller: Reads,
        after: Annotated[int, Query(ge=0, le=HIGHEST, description="id of a line")] = 0,
        most: Annotated[int, Query(ge=1, le=job_log.MOST + 1)] = 500,
    ) -> Log:  # fmt: skip
        """Who had which step, what was noted, what went wrong. As it is written, the same lines
        come as events `job.log`."""
        found = job_log.after(database, caller.owner, name, after, most)
        if found is None:
            raise NotFound(f"Job {name}.")
        lines = [LogLine.model_validate(dict(row)) for row in found]
        return Log(lines=lines, last=lines[-1].id if lines else after)

    return routes
