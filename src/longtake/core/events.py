"""What a running plan reports. The command line draws them, a worker stores them, tests collect."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from longtake.core.plan import Placement, Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysed:
    """Frames of the source counted so far, before the plan is frozen."""

    frames: int
    of: int  # expected, from the header


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The plan is frozen and the work begins or goes on."""

    plan: Plan
    resumed: int  # segments found done


@dataclass(frozen=True, slots=True, kw_only=True)
class Advanced:
    """Output frames finished so far in the whole film."""

    frames: int
    of: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentDone:
    segment: int
    start: int
    stop: int
    seconds: float
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Replanned:
    """Memory ran out: the same recipe goes on with a more frugal placement."""

    reason: str
    placement: Placement


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """Frames of the parts put together so far."""

    frames: int
    of: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """Frames of the joined file decoded and compared so far."""

    frames: int
    of: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    target: Path
    frames: int
    seconds: float  # wall time of this run
    fps: float  # frames of this run / seconds of its segment work
    bytes: int
    peak_ram: int  # bytes: VmHWM of this process
    predicted_ram: int  # bytes
    peak_vram: int | None
    predicted_vram: int | None
    stages: dict[str, float]  # busy seconds by stage: decode, compute, encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Salvaged:
    """What an unfinished job had done now lies in a film of its own."""

    target: Path
    frames: int
    of: int  # frames of the whole film
    segments: int
    left_out: int  # segments that are done but lie behind a gap


Event = (
    Analysed
    | Started
    | Advanced
    | SegmentDone
    | Replanned
    | Warned
    | Joined
    | Verified
    | Finished
    | Salvaged
)
