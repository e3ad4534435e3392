"""The sockets plugins fit into. One file in engines/, offload/ or media/sinks/ fills one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from longtake.core.events import Event
from longtake.core.machine import Machine
from longtake.core.media import Clip, Knobs, OutputFormat, VideoInfo
from longtake.core.plan import (
    Encoder,
    Footprint,
    Geometry,
    Outlook,
    Placement,
    Plan,
    Recipe,
    Script,
    Segment,
)

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """What an engine asks of the stream it is given."""

    lead: int = 0  # frames of warm-up before its output can be trusted
    tail: int = 0  # frames of look-ahead
    align: int = 1  # frames: streams begin at multiples of it behind the start of their shot
    segment_frames: int = 240  # default length of a segment
    steps: tuple[int, ...] = (8, 4, 2, 1)  # frames per pass, from fast to frugal
    # (offload, state) of a Placement that the engine can work under, from fast to frugal
    placements: tuple[tuple[str, Literal["device", "host"]], ...] = (("resident", "device"),)
    blocks: int = 0  # most that one of its nets has, where some strategy brings them in turn
    phases: bool = False  # whether parts of a block can come by themselves
    encoders: tuple[str, ...] = ()  # of "text" and "image" those that may stay on the device


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """Knobs of an engine under a name. They are filled in before a job is planned; the name itself
    decides nothing."""

    name: str
    about: str  # one line: what for
    knobs: Knobs
    place: Knobs = field(default_factory=dict)  # as `--place`: it changes no byte of a film


class Upscaler(Protocol):
    """One open engine. `upscale` is a generator whose local variables are the recurrent state."""

    def upscale(self, clips: Iterable[Clip]) -> Iterator[Clip]:
        """One shot in, the same frames out, larger; dtype as the recipe's output wants."""
        ...


CHECKPOINT: Final = "checkpoint.safetensors"
"""In the folder of a generator, until the film is done. While it is written its name is longer."""


class Generator(Protocol):
    """One open engine that makes films from words."""

    def generate(self, segment: Segment, folder: Path) -> Iterator[Clip | Step | Entered]:
        """The frames of a segment, before them every step of the sampler, and before each of its
        stages, as its outlook names them, that it turns to it. In `folder` it keeps
        the state of the last step, as CHECKPOINT: called again there, it goes on from it to the
        same bytes."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Entered:
    """The work turns to a stage."""

    stage: str
    share: float = 1.0  # of it that is left to do


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step of a sampler is taken."""

    done: int
    of: int


class Works(Protocol):
    """What planning asks of every engine. Cheap to import: torch is touched only inside `open`."""

    about: str  # one line for `longtake engines`
    knobs: type[Any]  # frozen dataclass of what `--set` may change; see core.knobs
    devices: tuple[str, ...]  # of "cpu", "cuda"; first the one it is made for
    presets: tuple[Preset, ...]  # the first is the defaults; an engine may leave it out

    def grid(self, knobs: Knobs) -> Grid: ...
    def weights(self, knobs: Knobs) -> tuple[Path, ...]:
        """The files of weights that will be used. Raises WeightsMissing, BadInput."""
        ...

    def decide(self, knobs: Knobs, machine: Machine, device: str) -> tuple[Knobs, tuple[str, ...]]:
        """The knobs with what is left to the machine decided, as far as it is told by name in the
        recipe, and what the user should know of it."""
        ...

    def leaner(self, knobs: Knobs, geometry: Geometry) -> Iterable[Knobs]:
        """Changes of knobs that need less memory and make another film, the mildest first: proposed
        where a job does not fit, never made unasked."""
        ...

    def dtype(self, machine: Machine, device: str, knobs: Knobs) -> str:
        """The dtype on that device, from what the machine is, never from timing."""
        ...

    def footprint(self, geometry: Geometry, recipe: Recipe, placement: Placement) -> Footprint: ...


class Engine(Works, Protocol):
    """Makes films larger."""

    scales: tuple[Fraction, ...]  # natural scales, smallest first

    def open(
        self, plan: Plan, device: str, offload: Offload
    ) -> AbstractContextManager[Upscaler]: ...


class Author(Works, Protocol):
    """Makes films from words."""

    def film(self, knobs: Knobs, script: Script) -> Made:
        """What will be made. Raises Usage for what the model does not make."""
        ...

    def outlook(self, plan: Plan, machine: Machine) -> Outlook:
        """What each stage takes. Any engine may have it; those that have are placed by seconds."""
        ...

    def open(
        self, plan: Plan, device: str, offload: Offload
    ) -> AbstractContextManager[Generator]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A film that is generated."""

    frames: int
    size: tuple[int, int]  # (width, height) px
    rate: Fraction  # frames / s
    notes: tuple[str, ...] = ()  # what a user should know


class Offload(Protocol):
    def home(self, device: str) -> str:
        """Where a model is built before it is attached: the device, or "cpu"."""
        ...

    def attach(self, model: nn.Module, device: str) -> AbstractContextManager[nn.Module]:
        """Apply to a built model from outside; undone on exit."""
        ...


class Writer(Protocol):
    def write(self, clip: Clip, pts: Sequence[int]) -> None:
        """Append frames; `pts` in ticks of the output's time base, strictly rising."""
        ...


class Sink(Protocol):
    """A target format. Parts are closed, playable files (or folders) of the final codec."""

    @property
    def part(self) -> str:
        """Suffix of a part, "" for a folder."""
        ...

    @property
    def codecs(self) -> tuple[str, ...]:
        """Of `Encoder.codec` those that go into this target, the default first."""
        ...

    def chroma(self, info: VideoInfo, encoder: str) -> str:
        """The chroma format in which this target keeps what the source has."""
        ...

    def losses(self, info: VideoInfo, drop: Sequence[str]) -> Losses:
        """What of the source this target cannot hold."""
        ...

    def open(
        self, path: Path, output: OutputFormat, encoder: Encoder, first: int
    ) -> AbstractContextManager[Writer]:
        """A writer of one part whose first frame is frame `first` of the job."""
        ...

    def join(self, parts: Sequence[Path], target: Path, film: Film, plan: Plan) -> Iterator[int]:
        """Join the parts and the source's other tracks by packets into `target`; yields frames
        joined so far. `parts` may be a prefix of the film (`recover`)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """What a target cannot hold: `refused` stops the job, `noted` is told to the user."""

    refused: tuple[str, ...] = ()
    noted: tuple[str, ...] = ()


class Film(Protocol):
    """An analysed source: exact frames, their timestamps, ways to get at them.

    Frame numbers are those of the job: frame 0 is the first of `--frames`.
    """

    info: VideoInfo

    def pts(self, start: int, stop: int) -> list[int]:
        """Timestamps of output frames [start, stop) in ticks of the *output's* time base."""
        ...

    def end(self) -> int:
        """Timestamp at which the last frame ends, ticks of the output's time base."""
        ...

    def read(self, start: int, stop: int, size: int) -> Iterator[Clip]:
        """Frames [start, stop) in clips of at most `size`; decodes from the nearest keyframe."""
        ...

    def clock(self) -> Clock:
        """How the source's time becomes the target's, and which part of it the job keeps."""
        ...

    def container(self) -> AbstractContextManager[Any]:
        """The source opened once more, as for decoding, to read its other tracks by packet.

        Never asked of an image folder, which has none.
        """
        ...

    def names(self, start: int, stop: int) -> list[str] | None:
        """File names of frames [start, stop) of an image folder; None for a video."""
        ...

    def luma(self, start: int, stop: int) -> NDArray[np.float32]:
        """Mean of each frame's coded luma on the 8-bit scale 0 .. 255, range not expanded."""
        ...

    def difference(self, start: int, stop: int) -> NDArray[np.float32]:
        """Mean |luma(t) - luma(t - 1)| of each frame on the same scale; 0 for frame 0."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Target time = source time - shift; None keeps what lies before or after the film."""

    shift: Fraction = Fraction(0)  # s
    begin: Fraction | None = None  # s, source time at which the job's first frame begins
    end: Fraction | None = None  # s, source time at which the job's last frame ends


class Ledger(Protocol):
    """What of a job is done: a journal in a folder, or the service's database."""

    def part(self, segment: Segment) -> Path:
        """Where the unfinished part of a segment is to be written."""
        ...

    def committed(self) -> Mapping[int, Path]:
        """The parts that are on disk, by segment."""
        ...

    def commit(self, segment: Segment, part: Path, seconds: float) -> Path:
        """Make a finished part durable, then say so; returns where it lies now."""
        ...

    def record(self, event: Event) -> None:
        """Keep an event for people who look later."""
        ...
