"""Weights over HTTP: what there is, what is fetched."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import Field

from longtake.service import weights
from longtake.service.auth import Caller, needs
from longtake.service.routes.shapes import Bytes, Given, Moment, Shape
from longtake.service.weights import Origin, Pulls, Shown
from longtake.weights import listing

Reads = Annotated[Caller, Depends(needs("jobs:read"))]
Admin = Annotated[Caller, Depends(needs("admin"))]
Name = Annotated[str, Path(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]


class NewPull(Given):
    origin: Origin = Field(default="hf", description="hf follows HF_ENDPOINT of the service")


class Pull(Shape):
    """How far a pull is, or how it ended."""

    state: weights.State
    origin: Origin
    file: str | None
    received: Bytes = Field(description="bytes of this file that are here")
    of: Bytes | None = Field(description="bytes of this file; null: not known")
    bytes_per_second: float = Field(ge=0)
    note: str | None = Field(description="what it does other than receive")
    error: str | None
    began: Moment


class WeightFile(Shape):
    role: str
    name: str
    state: listing.State
    here: Bytes
    of: Bytes | None = Field(description="bytes; null: not known")
    licence: str
    sha256: str | None = Field(description="as published, or as seen first")


class Weights(Shape):
    """A model; `partial` goes on where it was when it is pulled again."""

    name: str
    about: str
    engines: list[str] = Field(description="that are known to use it")
    licences: str
    folder: str
    state: listing.State
    here: Bytes
    of: Bytes | None = Field(description="bytes; null: not known")
    error: str | None = Field(description="why its files cannot be told")
    files: list[WeightFile]
    pull: Pull | None = Field(description="the last one since the service was started")


class AllWeights(Shape):
    weights: list[Weights]


def router(pulls: Pulls) -> APIRouter:
    """Routes below /weights; the pulls end with the application."""
    routes = APIRouter(tags=["weights"], lifespan=pulls.running)

    @routes.get("/weights")
    def list_weights(_: Reads) -> AllWeights:
        """All models, and what of them lies on the machine that answers."""
        return AllWeights(weights=[_weights(one) for one in pulls.shown()])

    @routes.post("/weights/{name}/pull", status_code=202)
    def start_pull(name: Name, caller: Admin, wanted: NewPull | None = None) -> Pull:
        """Fetch what is missing or damaged. One that is under way is told, not begun anew."""
        origin = (wanted or NewPull()).origin
        return _pull(pulls.start(caller.owner, name, origin))

    @routes.delete("/weights/{name}/pull", status_code=202)
    def stop_pull(name: Name, caller: Admin) -> Pull:
        """Stop it. What has come is kept."""
        return _pull(pulls.stop(caller.owner, name))

    return routes


def _weights(one: Shown) -> Weights:
    model = one.model
    return Weights(
        name=model.name, about=model.about, engines=list(one.engines), licences=model.licences,
        folder=str(model.where), state=model.state, here=model.here,
        of=model.of if model.files else None, error=one.error,
        files=[WeightFile(**asdict(file)) for file in model.files],
        pull=_pull(one.pull) if one.pull is not None else None,
    )  # fmt: skip


def _pull(pull: weights.Pull) -> Pull:
    return Pull(**asdict(pull))
