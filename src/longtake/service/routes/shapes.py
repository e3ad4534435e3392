"""What bodies of requests and answers look like: the contract that OpenAPI tells.

A member of an answer is always there; it is null only where its type says so.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from longtake.core.media import Knob
from longtake.core.task import Drop
from longtake.service import paging

HIGHEST: Final = 2**53 - 1  # of the whole numbers that every reader of JSON takes as they are

Name = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[a-z0-9]+$")]
"""An id that we gave."""
_SIGN: Final = r"[^\u0000-\u001F\u007F]"
Text = Annotated[str, StringConstraints(pattern=rf"^{_SIGN}*$")]
"""A line: no database keeps NUL, no table or log wants the others."""
Title = Annotated[str, StringConstraints(pattern=rf"^{_SIGN}*[^\u0000-\u001F\u007F\s]{_SIGN}*$")]
"""A line that is not blank."""
Cursor = Annotated[str | None, Query(pattern=r"^[0-9]{1,18}-[a-z0-9]{1,64}$")]
"""The `next` of a page, to ask for what follows."""
Most = Annotated[int, Query(ge=1, le=paging.MOST)]
"""In a page."""
Moment = Annotated[int, Field(ge=0, le=HIGHEST, description="microseconds since 1970, UTC")]
Bytes = Annotated[int, Field(ge=0, le=HIGHEST, description="bytes")]
Seconds = Annotated[float, Field(ge=0, description="seconds")]
Ratio = Annotated[str, Field(pattern=r"^-?\d+/\d+$", description="numerator/denominator")]
Scope = Literal["jobs:read", "jobs:write", "assets:read", "assets:write", "admin"]
JobState = Literal["queued", "planning", "running", "joining", "paused",
                   "succeeded", "partial", "failed", "cancelled"]  # fmt: skip
StepState = Literal["blocked", "ready", "leased", "done", "failed", "cancelled"]
StepKind = Literal["plan", "segment", "join"]
Outcome = Literal["done", "lost", "oom", "crash", "error", "cancelled", "released"]
AssetState = Literal["receiving", "probing", "ready", "rejected", "deleted"]
Queue = Literal["gpu", "cpu"]


class Shape(BaseModel):
    """A part of an answer."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


class Given(BaseModel):
    """A body of a request."""

    model_config = ConfigDict(extra="forbid", strict=True)


# --- jobs ----------------------------------------------------------------------------------------


class _Written(Shape):
    codec: str = "auto"
    crf: int | None = None
    effort: str = Field("auto", description="of the encoder")
    bits: int | None = Field(None, description="per component")
    seed: int = 0


class Task(_Written):
    """What was asked; members are named and valued as the flags of `longtake upscale`."""

    kind: Literal["upscale"]
    engine: str = "lite"
    scale: Ratio | None = None
    height: int | None = Field(None, description="px of the film that is made")
    set: dict[str, Knob] = Field({}, description="knobs of the engine and of the recipe")
    frames: tuple[int, int | None] = Field((0, None), description="first, and behind the last")
    rate: Ratio | None = Field(None, description="frames per second of an image folder")
    assume_color: str | None = None
    pre_width: int | None = Field(None, description="px that the source is reduced to first")
    deinterlace: Literal["no", "bwdif", "ivtc"] = "no"
    drop: list[Drop] = []


class Generation(_Written):
    """The same of the flags of `longtake generate`; its picture is the job's asset."""

    kind: Literal["generate"]
    prompt: str
    negative: str = Field("", description="what it shall not show")
    engine: str = "wan"
    set: dict[str, Knob] = Field({}, description="knobs of the engine")


class Counts(Shape):
    """Segments by state."""

    blocked: int = 0
    ready: int = 0
    leased: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0


class Sampled(Shape):
    """Steps of a sampler; after the last one the frames are decoded."""

    done: int
    of: int


class Progress(Shape):
    frames: int = Field(description="that are made, those of segments in work included")
    of: int | None = Field(description="frames of the film; an estimate until it is planned")
    segments: Counts
    sampler: Sampled | None = Field(
        None, description="null before its first step, and for films that are read"
    )
    fps: float | None = Field(None, description="frames per second now, of all workers together")
    eta: Seconds | None = Field(None, description="seconds until the end, as it looks now")


class Waiting(Shape):
    """Why nobody is at work on a job that could go on."""

    reason: Literal["quota", "paused", "worker", "disk", "later"]
    detail: str


class Failure(Shape):
    """Why a job failed."""

    error: str | None = Field(description="the name of the error")
    detail: str | None
    code: int | None = Field(description="exit code that the command line would have given")


class Job(Shape):
    id: str
    kind: Literal["upscale", "generate"]
    name: str = Field(description="of the film that it makes")
    state: JobState
    wish: Literal["run", "pause", "cancel"] = Field(
        description="what it was told last; its state follows"
    )
    priority: int = Field(ge=-10, le=10)
    on_cancel: Literal["partial", "nothing"] = Field(
        description="what becomes of the part that is done, when it is cancelled"
    )
    mixed: bool = Field(description="workers of other numerics may help")
    parent: str | None = Field(description="the job whose film is the source")
    asset: str | None = Field(
        description="the source, or the picture that a film begins with; null where there is none, "
        "or where it is another job's film"
    )
    result: str | None = Field(description="the asset that it has made")
    identity: str | None = Field(description="of the frozen plan: all that decides the bytes")
    task: Annotated[Task | Generation, Field(discriminator="kind")]
    progress: Progress
    waiting: Waiting | None = Field(description="null while somebody is at work on it, and after")
    error: Failure | None = Field(description="null unless its state is failed")
    revision: int = Field(description="grows with every change of its state or its wish")
    created: Moment
    started: Moment | None
    ended: Moment | None


class Jobs(Shape):
    jobs: list[Job]
    next: str | None = Field(description="the cursor of those that follow; null behind the last")


class Links(Shape):
    """Relative to the API's root, so that they hold under any prefix."""

    self: str
    segments: str
    events: str


class Made(Shape):
    """A job that was put into the queue."""

    id: str
    state: Literal["queued"]
    links: Links


class Step(Shape):
    number: int = Field(description="-1 plans, from 0 on are segments, the last one joins")
    kind: StepKind
    queue: Queue
    state: StepState
    worker: str | None = Field(description="who has it, or had it last")
    fence: int = Field(description="how often it was claimed")
    attempts: int = Field(description="that count: three may fail")
    frames: int = Field(description="of its part of the film")
    frames_done: int
    sampler: Sampled | None = Field(description="null where none is at work")
    bytes: Bytes | None = Field(description="of its committed part")
    sha256: str | None
    error: str | None = Field(description="of the last attempt that failed")
    began: Moment | None
    ended: Moment | None


class Steps(Shape):
    segments: list[Step] = Field(description="and the steps that plan and join, by number")


class Attempt(Shape):
    number: int = Field(description="of the step")
    fence: int
    worker: str
    device: str | None
    outcome: Outcome | None = Field(description="null while it lasts")
    detail: str | None
    fps: float | None = Field(description="frames per second")
    step_time: int | None = Field(description="microseconds that a step of the sampler takes")
    decode_time: int | None = Field(
        description="microseconds from the sampler's last step to the finished part"
    )
    vram: Bytes | None = Field(description="bytes of GPU memory at the peak")
    began: Moment
    ended: Moment | None


class Attempts(Shape):
    attempts: list[Attempt]


# --- plans ---------------------------------------------------------------------------------------


class Placement(Shape):
    """Where and when bytes lie; it changes no byte of the film."""

    devices: list[str]
    offload: str = Field(description="how weights come to the device")
    step: int = Field(description="frames per pass through the engine")
    queue: int = Field(description="clips waiting between two stages")
    threads: int
    state: Literal["device", "host"]
    resident_blocks: int = Field(description="blocks of each net that stay on the device")
    host_blocks: int = Field(description="of the others, where nets are read from the disk")
    slots: int = Field(description="on the device, through which blocks come")
    granularity: Literal["block", "phase"] = Field(description="what comes at a time")
    read_ahead: int = Field(description="blocks that are read before they are used")
    disk_workers: int = Field(description="threads that read")
    copy_streams: int = Field(description="as asked; one is used")
    bandwidth: float = Field(description="of what bus and disk could carry, 0.1 to 1")
    offload_text: bool = Field(description="the text encoder leaves the device after its turn")
    offload_image: bool = Field(description="the same of the image encoder")
    vace_blocks_to_swap: int = Field(description="accepted, without effect")


class HostMemory(Shape):
    """Bytes on the host at the peak, by cause, without the engine."""

    process: Bytes
    decode: Bytes
    frames: Bytes
    encode: Bytes


class EngineMemory(Shape):
    """Bytes of the engine at the peak, by cause."""

    context: Bytes
    weights: Bytes
    block: Bytes
    state: Bytes
    activations: Bytes
    workspace: Bytes
    beside: Bytes = Field(description="bytes on the host while the engine is on a GPU: libraries")
    parked: Bytes = Field(description="the same: what waits there for its turn")


class Memory(Shape):
    host: HostMemory
    engine: EngineMemory
    on_gpu: bool


class Preview(Shape):
    """What a job needs and how long it takes."""

    frames: int
    width: int = Field(description="px of the film that is made")
    height: int = Field(description="px of the film that is made")
    segments: int
    ram: Bytes
    vram: Bytes = Field(description="bytes on each GPU; 0 without one")
    disk: Bytes = Field(description="bytes of the film and of its parts, estimated")
    seconds: Seconds | None = Field(description="null where nothing like it was measured yet")
    device: str
    placement: Placement
    memory: Memory
    notes: list[str] = Field(description="what a person should know")
    knobs: dict[str, Knob] = Field(description="all of the engine's, as they will be")


class JobPlan(Shape):
    stage: Literal["estimate", "frozen"] = Field(
        description="frozen: frames are counted and cuts are found"
    )
    identity: str = Field(description="of all that decides the bytes")
    preview: Preview
    plan: dict[str, Any] = Field(description="the plan itself, as `longtake run` takes it")


# --- films ---------------------------------------------------------------------------------------


class Color(Shape):
    """Code points of ITU-T H.273; 2 is not stated."""

    matrix: int
    primaries: int
    transfer: int
    full_range: bool | None


class Track(Shape):
    """A stream beside the film's own."""

    index: int
    kind: Literal["video", "audio", "subtitle", "attachment", "data"]
    codec: str
    language: str
    title: str
    channels: int
    sample_rate: int = Field(description="Hz")


class Film(Shape):
    """What the header of a film says."""

    container: str
    codec: str
    width: int = Field(description="px, as coded: before rotation and sample aspect ratio")
    height: int = Field(description="px")
    frames: int = Field(description="as the header says, or the duration")
    rate: Ratio = Field(description="frames per second, numerator/denominator")
    duration: Ratio = Field(description="seconds, numerator/denominator")
    variable: bool = Field(description="frames do not lie on the grid of `rate`")
    bits: int = Field(description="per component")
    chroma: Literal["420", "422", "444", "gray", "rgb"]
    alpha: bool
    color: Color
    sar: Ratio = Field(description="sample aspect ratio")
    rotation: int = Field(description="degrees")
    fields: Literal["progressive", "tff", "bff", "unknown"]
    tracks: list[Track]
    chapters: int
    size: Bytes
    notes: list[str] = Field(description="what a person should know")


class Asset(Shape):
    """A film that is here."""

    id: str
    kind: Literal["source", "result", "partial"]
    state: AssetState
    name: str
    bytes: Bytes
    sha256: str | None
    reason: str | None = Field(description="why it was rejected")
    job: str | None = Field(description="that made it")
    created: Moment
    expires: Moment | None
    video: Film | None = Field(description="null until it was looked at")


class Assets(Shape):
    assets: list[Asset]
    next: str | None = Field(description="the cursor of those that follow; null behind the last")
