"""What there is: engines, workers, the machine and who asks."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import Field
from sqlalchemy import select

from longtake import __version__
from longtake.core.media import Knob
from longtake.core.plugins import names
from longtake.planner.survey import survey
from longtake.runtime.engines import described, generator
from longtake.service.auth import Caller, needs
from longtake.service.database import Database
from longtake.service.disk import space
from longtake.service.routes.shapes import Bytes, Moment, Queue, Scope, Seconds, Shape
from longtake.service.tables import worker

Reads = Annotated[Caller, Depends(needs("jobs:read"))]


# --- engines -------------------------------------------------------------------------------------


class _Knob(Shape):
    name: str
    help: str
    allowed: str = Field(description="the range, for people")


class Choice(_Knob):
    kind: Literal["choice"]
    default: Knob
    choices: list[Knob]


class Switch(_Knob):
    kind: Literal["switch"]
    default: bool


class WholeNumber(_Knob):
    kind: Literal["integer"]
    default: int
    least: int | None
    most: int | None


class Number(_Knob):
    kind: Literal["number"]
    default: float
    least: float | None
    most: float | None


class Words(_Knob):
    kind: Literal["text"]
    default: str


AnyKnob = Annotated[Choice | Switch | WholeNumber | Number | Words, Field(discriminator="kind")]
_KINDS: Final = {bool: "switch", int: "integer", float: "number", str: "text"}


class EnginePreset(Shape):
    name: str
    about: str = Field(description="what it is for")
    knobs: dict[str, Knob]
    place: dict[str, Knob] = Field(description="as `params.place`: it changes no byte of a film")


class Generator(Shape):
    """Makes films from words."""

    name: str
    about: str
    devices: list[Literal["cpu", "cuda"]] = Field(description="first the one that it is made for")
    presets: list[EnginePreset] = Field(description="the first one is the defaults")
    knobs: list[AnyKnob] = Field(description="`params.set` takes them by name")


class Engine(Generator):
    """Makes films larger."""

    scales: list[float] = Field(description="its natural ones, smallest first")


class Engines(Shape):
    engines: list[Engine]
    generators: list[Generator]


# --- workers -------------------------------------------------------------------------------------


class Gpu(Shape):
    index: int
    uuid: str
    name: str
    vram: Bytes
    free: Bytes
    capability: tuple[int, int] = Field(description="CUDA compute capability")
    driver: str


class Machine(Shape):
    cores: int
    ram: Bytes
    free_ram: Bytes = Field(description="bytes, when the worker began")
    cpu: str
    flags: list[str]
    gpus: list[Gpu]
    torch: str | None = Field(description="its version")


class Telemetry(Shape):
    """How the machine of a worker fares; of the GPU what its driver tells."""

    ram: Bytes
    ram_free: Bytes
    waits: str | None = Field(None, description="why it begins nothing, though there may be work")
    uuid: str | None = Field(None, description="of the GPU; null on a CPU, as all that follows")
    vram: Bytes | None = None
    vram_free: Bytes | None = None
    load: int | None = Field(None, description="percent")
    temperature: int | None = Field(None, description="degrees Celsius")
    watts: float | None = None


class WorkerGpu(Shape):
    """As all processes of its host number it."""

    uuid: str
    name: str
    index: int


class Worker(Shape):
    id: str
    host: str
    pid: int
    device: str
    queues: list[Queue]
    version: str
    state: Literal["idle", "busy", "draining", "gone"]
    doing: str | None = Field(description="job/number of the step")
    gpu: WorkerGpu | None
    drained: Moment | None = Field(
        description="microseconds since 1970, UTC: since when it shall take no more"
    )
    began: Moment
    beat: Moment = Field(description="microseconds since 1970, UTC: when it was last heard of")
    machine: Machine | None
    telemetry: Telemetry | None = Field(description="null until it has told")


class Workers(Shape):
    workers: list[Worker]


# --- the system ----------------------------------------------------------------------------------


class Disk(Shape):
    """Of the folder of data."""

    total: Bytes
    free: Bytes
    low_water: Bytes = Field(description="bytes that stay free: no upload may take them")


class Ram(Shape):
    """Of the host of the API, the limit of its control group included."""

    total: Bytes
    available: Bytes


class Me(Shape):
    """Who asks."""

    owner: str
    name: str
    admin: bool
    scopes: list[Scope] = Field(description="of the token that was shown")


class System(Shape):
    version: str
    database: Literal["sqlite", "postgresql"]
    auth: Literal["local", "tokens"]
    uptime: Seconds = Field(description="seconds since the API began")
    disk: Disk
    ram: Ram
    roots: list[str] = Field(description="folders whose films may be named by path")
    me: Me


def router(
    database: Database, data: Path, *, roots: Sequence[Path] = (), low_water: int = 0
) -> APIRouter:
    """Routes below /engines, /workers and /system. `data`: the folder of data; `low_water`: bytes
    of its disk that stay free."""
    routes = APIRouter(tags=["system"])
    began = time.monotonic()

    @routes.get("/engines")
    def list_engines(_: Reads) -> Engines:
        """Engines and their knobs with ranges: what forms are made of."""
        return Engines(
            engines=[Engine.model_validate(_with_kinds(described(n))) for n in names("engines")],
            generators=[
                Generator.model_validate(_with_kinds(generator(n))) for n in names("generators")
            ],
        )

    @routes.get("/workers")
    def list_workers(_: Reads) -> Workers:
        """Who does the work, on what, and what their GPUs do."""
        with database.read() as connection:
            rows = connection.execute(select(worker).order_by(worker.c.began)).mappings().all()
        return Workers(workers=[_worker(row) for row in rows])

    @routes.get("/system")
    def get_system(caller: Reads, request: Request) -> System:
        """What this service is, what is left of its machine, and who asks."""
        (total, free), machine = space(data), survey()
        return System(
            version=__version__,
            database="sqlite" if database.is_sqlite else "postgresql",
            auth=request.app.state.auth.mode,
            uptime=time.monotonic() - began,
            disk=Disk(total=total, free=free, low_water=low_water),
            ram=Ram(total=machine.ram, available=machine.free_ram),
            roots=[str(root) for root in roots],
            me=_me(caller),
        )

    return routes


def _me(caller: Caller) -> Me:
    return Me.model_validate({
        "owner": caller.owner, "name": caller.name, "admin": "admin" in caller.scopes,
        "scopes": sorted(caller.scopes),
    })  # fmt: skip


def _with_kinds(found: dict[str, Any]) -> dict[str, Any]:
    """An engine whose knobs say of what kind they are, without those that name places."""
    knobs = [
        {**knob, "kind": "choice" if knob["choices"] else _KINDS[type(knob["default"])]}
        for knob in found["knobs"]
        if not knob["local"]
    ]
    return {**found, "knobs": knobs}


def _worker(row: Any) -> Worker:
    return Worker.model_validate({
        **row, "queues": row["queues"].split(),
        **{key: json.loads(row[key] or "null") for key in ("machine", "telemetry", "gpu")},
    })  # fmt: skip
