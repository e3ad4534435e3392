"""What a running plan reports. The command line draws them, a worker stores them, tests collect."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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
class Stepped:
    """Steps of the sampler taken so far, of the segment that is being generated."""

    segment: int
    steps: int
    of: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentDone:
    segment: int
    start: int
    stop: int
    seconds: float
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Slowed:
    """Two steps, or stretches of frames, in a row took more than 1.5 times what they should."""

    segment: int
    unit: Literal["step", "frame"]
    seconds: float  # of a unit, of the latter of the two
    expected: float  # s
    of: Literal["plan", "start"]  # who said so: the plan, or the first of this run
    cause: str  # "RAM", "VRAM", "heat", "disk" or "unknown"
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Replanned:
    """Memory ran out or runs short, or its place costs time: the same recipe goes on elsewhere."""

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
class StageReport:
    """What a stage took, beside what the plan said. None: not said, or not measured."""

    name: str
    seconds: float
    predicted_seconds: float | None = None
    ram: int | None = None  # peak bytes of the process
    predicted_ram: int | None = None
    vram: int | None = None  # peak bytes of the process on its GPU
    predicted_vram: int | None = None


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
    report: tuple[StageReport, ...] = ()  # predicted against observed, stage by stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Salvaged:
    """What an unfinished job had done now lies in a film of its own."""

    target: Path
    frames: int
    of: int  # frames of the whole film
    segments: int
    left_out: int  # segments that are done but lie behind a gap


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmBegun:
    """A batch turns to one of its films; the events up to the next one are of this film."""

    source: Path
    target: Path
    number: int  # 1 is the first
    of: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmSkipped:
    """The film was finished and verified by an earlier run."""

    source: Path
    target: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmFailed:
    """This film of a batch failed; the others go on."""

    source: Path
    target: Path
    error: str  # name of the error's class
    message: str
    exit_code: int  # that the film alone would have ended with


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What became of every film of a batch: (source, target) of those done and skipped."""

    done: tuple[tuple[Path, Path], ...]
    skipped: tuple[tuple[Path, Path], ...]
    failed: tuple[FilmFailed, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Frames compared so far; of how many is the headers' word."""

    frames: int
    of: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Likened:
    """Two films have been compared. None stands for infinity: all frames are identical."""

    folder: Path
    frames: int
    identical: int  # frames without any difference of luma
    psnr_y: float | None  # dB, from the mean squared error of all frames
    worst_psnr_y: float | None  # dB
    worst_frame: int | None  # of A, by PSNR; None where all are identical
    ssim_y: float | None  # mean; None for pictures under 8 px
    worst_ssim_y: float | None
    at: tuple[int, int]  # px: the size at which it was measured
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantMade:
    """A variant of a preview is done."""

    variant: str
    fps: float | None  # None: its frames were made by an earlier run
    predicted_seconds: float | None  # for the whole film
    predicted_ram: int
    predicted_vram: int | None
    predicted_disk: int  # bytes of the whole film, as this run of frames was coded


@dataclass(frozen=True, slots=True, kw_only=True)
class Previewed:
    folder: Path
    first: int  # frames [first, stop) of the film
    stop: int
    variants: tuple[str, ...]
    seconds: float


Event = (
    Analysed
    | Started
    | Advanced
    | Stepped
    | SegmentDone
    | Slowed
    | Replanned
    | Warned
    | Joined
    | Verified
    | Finished
    | Salvaged
    | FilmBegun
    | FilmSkipped
    | FilmFailed
    | Batch
    | Compared
    | Likened
    | VariantMade
    | Previewed
)
