"""What the stream of events tells: the `data` of every type of event."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, RootModel

from longtake.service.routes.logs import LogLine
from longtake.service.routes.shapes import (
    AssetState,
    Bytes,
    JobState,
    Moment,
    Shape,
    StepKind,
    StepState,
)
from longtake.service.weights import State as PullState


class _Told(Shape):
    job: str | None = Field(description="whose event it is; null where it is of none")
    at: Moment


class JobStateData(Shape):
    state: JobState | Literal["deleted"]
    error: str | None = None
    detail: str | None = None
    code: int | None = None


class JobStateEvent(_Told):
    type: Literal["job.state"]
    data: JobStateData


class JobProgressData(Shape):
    frames: int = Field(description="of the job that are made")
    of: int | None
    segment: int = Field(description="number of the one that goes on")
    done: int = Field(description="frames of that segment that are made")


class JobProgressEvent(_Told):
    type: Literal["job.progress"]
    data: JobProgressData


class JobStepData(Shape):
    segment: int = Field(description="number of the one that goes on")
    done: int = Field(description="steps of its sampler that are taken")
    of: int


class JobStepEvent(_Told):
    type: Literal["job.step"]
    data: JobStepData


class SegmentStateData(Shape):
    number: int
    kind: StepKind
    state: StepState
    worker: str | None


class SegmentStateEvent(_Told):
    type: Literal["segment.state"]
    data: SegmentStateData


class AssetStateData(Shape):
    asset: str
    state: AssetState


class AssetStateEvent(_Told):
    type: Literal["asset.state"]
    data: AssetStateData


class WeightsStateData(Shape):
    weights: str = Field(description="name of the model")
    state: PullState
    error: str | None = None


class WeightsStateEvent(_Told):
    type: Literal["weights.state"]
    data: WeightsStateData


class WeightsProgressData(Shape):
    weights: str = Field(description="name of the model")
    file: str | None
    received: Bytes = Field(description="bytes of this file that are here")
    of: Bytes | None = Field(description="bytes of this file; null: not known")
    bytes_per_second: float
    note: str | None = Field(description="what it does other than receive")


class WeightsProgressEvent(_Told):
    type: Literal["weights.progress"]
    data: WeightsProgressData


class JobLogData(Shape):
    lines: list[LogLine]


class JobLogEvent(_Told):
    type: Literal["job.log"]
    data: JobLogData


class Event(
    RootModel[
        Annotated[
            JobStateEvent
            | JobProgressEvent
            | JobStepEvent
            | SegmentStateEvent
            | AssetStateEvent
            | JobLogEvent
            | WeightsStateEvent
            | WeightsProgressEvent,
            Field(discriminator="type"),
        ]
    ]
):
    """One event."""
