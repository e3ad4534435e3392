"""Presets over HTTP."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Response
from pydantic import Field

from longtake.service import presets
from longtake.service.auth import Caller, needs
from longtake.service.database import Database
from longtake.service.problems import Problem
from longtake.service.routes.params import Params
from longtake.service.routes.shapes import Given, Moment, Name, Shape, Title

Reads = Annotated[Caller, Depends(needs("jobs:read"))]
Writes = Annotated[Caller, Depends(needs("jobs:write"))]


class PresetGiven(Given):
    name: Title = Field(min_length=1, max_length=60)
    params: Params


class NewPreset(PresetGiven):
    kind: Literal["upscale", "generate"] = Field(default="upscale", description="of the jobs")
    shared: bool = Field(default=False, description="for everybody; admins only")


class PresetShown(Shape):
    id: str = Field(description="what POST /jobs and POST /plans take as `preset`")
    name: str
    about: str = Field(description="what for; empty unless it comes with an engine")
    origin: Literal["built-in", "shared", "own"]
    kind: Literal["upscale", "generate"] = Field(description="of the jobs that take it")
    params: Params
    created: Moment | None = Field(description="null where it comes with an engine")


class PresetsShown(Shape):
    presets: list[PresetShown]


def router(database: Database) -> APIRouter:
    """Routes below /presets."""
    routes = APIRouter(tags=["presets"])

    @routes.get("/presets")
    def list_presets(caller: Reads) -> PresetsShown:
        """Those of the engines, those that admins share, and the caller's own."""
        found = presets.listed(database, caller.owner)
        return PresetsShown(presets=[_shown(one) for one in found])

    @routes.post("/presets", status_code=201)
    def create_preset(wanted: NewPreset, caller: Writes) -> PresetShown:
        if wanted.shared and not _admin(caller):
            raise Problem(403, detail="To share a preset needs a token with the scope admin.")
        return _shown(
            presets.create(
                database, caller.owner, wanted.name, wanted.params, shared=wanted.shared,
                kind=wanted.kind,
            )
        )  # fmt: skip

    @routes.put("/presets/{name}")
    def replace_preset(name: Name, wanted: PresetGiven, caller: Writes) -> PresetShown:
        """Name and parameters anew, of one's own; admins change shared ones, too."""
        return _shown(
            presets.change(
                database, caller.owner, name, wanted.name, wanted.params, admin=_admin(caller)
            )
        )

    @routes.delete("/presets/{name}", status_code=204)
    def delete_preset(name: Name, caller: Writes) -> Response:
        presets.remove(database, caller.owner, name, admin=_admin(caller))
        return Response(status_code=204)

    return routes


def _admin(caller: Caller) -> bool:
    return "admin" in caller.scopes


def _shown(one: presets.Preset) -> PresetShown:
    return PresetShown(**asdict(one))
