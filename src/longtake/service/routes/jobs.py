"""Plans and jobs over HTTP."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Header, Query, Response
from pydantic import Field

from longtake.core.errors import BadInput
from longtake.core.media import VideoInfo
from longtake.core.plain import to_plain
from longtake.core.plan import Plan
from longtake.service import assets, idempotency, jobs, paging, planning, presets
from longtake.service.auth import Caller, needs
from longtake.service.blobs import Blobs
from longtake.service.database import Database
from longtake.service.jobs import Conflict, Wish
from longtake.service.problems import Problem
from longtake.service.routes.params import Params
from longtake.service.routes.shapes import (
    Attempts,
    Cursor,
    Given,
    Job,
    JobPlan,
    Jobs,
    JobState,
    Made,
    Most,
    Name,
    Preview,
    Steps,
    Text,
)
from longtake.service.tables import JOB_ENDED, JOB_STATES

Reads = Annotated[Caller, Depends(needs("jobs:read"))]
Writes = Annotated[Caller, Depends(needs("jobs:write"))]
_LONGEST_WAIT: Final = 60
_LOOK: Final = 0.5  # s


class Asking(Given):
    """What is to be made: of an asset, of the film that another job makes, or of words."""

    asset: Name | None = Field(
        default=None, description="the film; to generate, the picture that it begins with, if any"
    )
    parent: Name | None = Field(default=None, description="to upscale: the job that makes the film")
    kind: presets.Kind = "upscale"
    preset: Annotated[Text, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="an id that GET /presets names; `params` win over it"
    )
    params: Params = Field(default_factory=dict)
    container: Literal["mp4", "mkv"] = "mp4"


class NewJob(Asking):
    priority: int = Field(default=0, ge=-10, le=10)
    on_cancel: Literal["partial", "nothing"] = "partial"
    mixed: bool = Field(default=False, description="workers of other numerics may help")


class Cancelling(Given):
    mode: Literal["partial", "nothing"] | None = None


class Change(Given):
    priority: int = Field(ge=-10, le=10)


def router(database: Database, blobs: Blobs, calibration: Path) -> APIRouter:
    """Routes below /plans and /jobs."""
    routes = APIRouter(tags=["jobs"])
    desk = _Desk(database, blobs, calibration)

    @routes.post("/plans")
    def create_plan(asking: Asking, caller: Reads) -> Preview:
        """What a job would need and how long it would take; nothing begins."""
        return shown(desk.wish(caller.owner, NewJob(**asking.model_dump())).plan)

    @routes.post("/jobs", status_code=202)
    def create_job(
        asking: NewJob, caller: Writes, response: Response,
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200)] = None,
    ) -> Made:  # fmt: skip
        """Put a job into the queue; with an Idempotency-Key once, however often it is asked."""
        if idempotency_key is None:
            return _made(jobs.create(database, desk.wish(caller.owner, asking)))
        sha = idempotency.request_sha("POST /jobs", asking.model_dump())
        turn = idempotency.begin(database, caller.owner, idempotency_key, sha)
        if not isinstance(turn, idempotency.Turn):
            response.status_code, body = turn
            return Made.model_validate(body)
        try:  # job and answer are there together, or neither
            name = jobs.create(
                database, desk.wish(caller.owner, asking),
                lambda connection, name: turn.keep(connection, 202, _made(name).model_dump()),
            )  # fmt: skip
        except BaseException:
            turn.give_up()
            raise
        return _made(name)

    _looks(routes, database)
    _changes(routes, database, blobs)
    return routes


def _looks(routes: APIRouter, database: Database) -> None:
    @routes.get("/jobs")
    def list_jobs(
        caller: Reads,
        state: Annotated[
            list[JobState | Literal["active", "ended"]], Query(default_factory=list, max_length=20)
        ],
        cursor: Cursor = None,
        most: Most = 50,
    ) -> Jobs:
        """The newest first; `next` is the cursor of what follows. `state`: any of these; `active`
        are all that have not ended."""
        found = jobs.listed(
            database, caller.owner, states=_states(state), before=paging.place(cursor), most=most
        )
        return Jobs.model_validate({"jobs": found, "next": paging.following(found, most)})

    @routes.get("/jobs/{name}", response_model=Job, responses={304: {"description": "Unchanged"}})
    def get_job(
        name: Name, caller: Reads, response: Response,
        if_none_match: Annotated[str | None, Header()] = None,
        wait: Annotated[int, Query(ge=0, le=_LONGEST_WAIT)] = 0,
    ) -> Job | Response:  # fmt: skip
        """A job. `wait`: seconds to wait for its end, or for a change of the given ETag."""
        found, tag = _waited(database, caller.owner, name, if_none_match, wait)
        if if_none_match == tag:
            return Response(status_code=304, headers={"ETag": tag})
        response.headers["ETag"] = tag
        return Job.model_validate(found)

    @routes.get("/jobs/{name}/plan")
    def get_job_plan(name: Name, caller: Reads) -> JobPlan:
        """The frozen plan, or the estimate before."""
        text = jobs.plan_of(database, caller.owner, name)
        try:
            plan = Plan.from_json(text)
        except ValueError as error:
            raise Conflict(f"The plan of job {name} is of another version: {error}.") from None
        return JobPlan(
            stage=plan.stage, identity=plan.identity, preview=shown(plan), plan=json.loads(text)
        )

    @routes.get("/jobs/{name}/segments")
    def list_segments(name: Name, caller: Reads) -> Steps:
        """Every step of a job, and where it stands."""
        return Steps.model_validate({"segments": jobs.steps(database, caller.owner, name)})

    @routes.get("/jobs/{name}/attempts")
    def list_attempts(name: Name, caller: Reads) -> Attempts:
        """Who tried which step, and how it went; in the order in which they began."""
        return Attempts.model_validate({"attempts": jobs.attempts(database, caller.owner, name)})


def _states(wanted: Sequence[str]) -> set[str]:
    """All that are named, as states of jobs."""
    groups = {"active": set(JOB_STATES) - set(JOB_ENDED), "ended": set(JOB_ENDED)}
    return set().union(*(groups.get(word, {word}) for word in wanted))


def _waited(
    database: Database, owner: str, name: str, seen: str | None, wait: int
) -> tuple[dict[str, Any], str]:
    """The job and its ETag, as soon as it has ended or is another one than was seen."""
    end = time.monotonic() + wait
    while True:
        found = jobs.get(database, owner, name)
        why = (found["waiting"] or {}).get("reason", "")
        tag = f'"{found["revision"]}-{found["progress"]["frames"]}{why}"'
        rest = end - time.monotonic()
        if rest <= 0 or found["state"] in JOB_ENDED or seen not in (None, tag):
            return found, tag
        time.sleep(min(_LOOK, rest))


def _changes(routes: APIRouter, database: Database, blobs: Blobs) -> None:
    def shown_now(caller: Caller, name: str) -> Job:
        return Job.model_validate(jobs.get(database, caller.owner, name))

    @routes.post("/jobs/{name}/cancel", status_code=202)
    def cancel_job(name: Name, caller: Writes, how: Cancelling | None = None) -> Job:
        """Stop; what is done from the beginning becomes a film, unless `mode` is nothing."""
        jobs.cancel(database, caller.owner, name, how.mode if how else None)
        return shown_now(caller, name)

    @routes.post("/jobs/{name}/pause", status_code=202)
    def pause_job(name: Name, caller: Writes) -> Job:
        """Stop for now; what is under way is given back."""
        jobs.pause(database, caller.owner, name)
        return shown_now(caller, name)

    @routes.post("/jobs/{name}/resume", status_code=202)
    def resume_job(name: Name, caller: Writes) -> Job:
        """Go on after a pause."""
        jobs.resume(database, caller.owner, name)
        return shown_now(caller, name)

    @routes.post("/jobs/{name}/retry", status_code=202)
    def retry_job(name: Name, caller: Writes) -> Job:
        """Take up what failed or was stopped; segments that are done stay."""
        jobs.retry(database, caller.owner, name)
        return shown_now(caller, name)

    @routes.patch("/jobs/{name}")
    def change_job(name: Name, caller: Writes, wanted: Change) -> Job:
        """Higher priorities come first."""
        jobs.prioritise(database, caller.owner, name, wanted.priority)
        return shown_now(caller, name)

    @routes.delete("/jobs/{name}", status_code=204)
    def delete_job(name: Name, caller: Writes) -> Response:
        """Forget one that has ended; its film stays."""
        jobs.forget(database, caller.owner, name)
        shutil.rmtree(blobs.path(f"jobs/{name}"), ignore_errors=True)
        return Response(status_code=204)


class _Desk:
    """Understands requests."""

    def __init__(self, database: Database, blobs: Blobs, calibration: Path) -> None:
        self._database, self._blobs, self._calibration = database, blobs, calibration

    def wish(self, owner: str, asking: NewJob) -> Wish:
        """What is asked, planned. Raises Problem, or what plans raise."""
        params = presets.filled(self._database, owner, asking.preset, asking.params, asking.kind)
        if asking.kind == "generate":
            asked, info = self._from_words(owner, asking, params)
        else:
            asked, info = self._of_film(owner, asking, params)
        plan, limits, queue = planning.planned(self._database, asked, info, self._calibration)
        return Wish(
            owner=owner, task=asked.task, limits=limits, plan=plan, source=asking.asset,
            parent=asking.parent, priority=asking.priority, keep=asking.on_cancel,
            mixed=asking.mixed, queue=queue,
        )  # fmt: skip

    def _from_words(
        self, owner: str, asking: NewJob, params: dict[str, Any]
    ) -> tuple[planning.Asked, VideoInfo | None]:
        if asking.parent is not None:
            raise Problem(422, detail="parent: a film from words begins from no other job's film.")
        if asking.asset is None:
            return planning.from_words(None, params, asking.container), None
        row, info = assets.described(self._database, owner, asking.asset)
        if info.container != "images":
            raise BadInput(f"asset: {row.name} is a film; give a picture.")
        return planning.from_words(self._path(row), params, asking.container), info

    def _of_film(
        self, owner: str, asking: NewJob, params: dict[str, Any]
    ) -> tuple[planning.Asked, VideoInfo]:
        if (asking.asset is None) == (asking.parent is None):
            raise Problem(422, detail="Give asset or parent, one of both.")
        if asking.parent is not None:
            above = jobs.get(self._database, owner, asking.parent)
            if above["kind"] == "generate" and above["result"] is None:  # as it will be
                plan = Plan.from_json(jobs.plan_of(self._database, owner, asking.parent))
                path = plan.task.target
                return planning.understood(path, params, asking.container, path.name), plan.info
            name = above["result"] or above["asset"]
            if name is None:
                raise Conflict(f"Job {asking.parent} has no film to begin from.")
        else:
            name = asking.asset
        row, info = assets.described(self._database, owner, str(name))
        source = self._path(row)
        return planning.understood(source, params, asking.container, row.name), info

    def _path(self, row: Any) -> Path:
        return Path(row.path) if row.path else self._blobs.path(row.key)


def shown(plan: Plan) -> Preview:
    """A plan for people and forms: sizes in bytes, times in seconds."""
    memory, (width, height) = plan.memory, plan.geometry.target
    return Preview.model_validate({
        "frames": plan.geometry.frames, "width": width, "height": height,
        "segments": len(plan.segments), "ram": memory.ram, "vram": memory.vram,
        "disk": plan.disk.total, "seconds": plan.time.total if plan.time else None,
        "device": plan.placement.devices[0], "placement": to_plain(plan.placement),
        "memory": to_plain(memory), "notes": list(plan.notes),
        "knobs": dict(plan.recipe.knobs),
    })  # fmt: skip


def _made(name: str) -> Made:
    links = {"self": f"jobs/{name}", "segments": f"jobs/{name}/segments",
             "events": f"events?job={name}"}  # fmt: skip
    return Made.model_validate({"id": name, "state": "queued", "links": links})
