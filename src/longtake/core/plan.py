"""The waist of the hourglass: everything above makes a Plan, everything below obeys one.

A plan splits in two. The *recipe* decides the pixels; the *placement* decides only where and when
bytes live. A job may resume under another placement, never under another recipe.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any, Literal

from longtake.core.media import Deinterlace, Knobs, OutputFormat, VideoInfo
from longtake.core.plain import from_plain, to_plain
from longtake.core.task import Task, Upscale, as_named_now

VERSION = 1  # of the stored plan and of the journal


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """The unit of work, resume and commit: output frames [start, stop).

    It is computed from input frames [lead, stop + tail). `cuts` are absolute frames inside
    (lead, stop + tail) at which a new shot begins; an engine never sees two shots in one stream.
    """

    index: int
    lead: int
    start: int
    stop: int
    tail: int = 0  # frames of look-ahead
    cuts: tuple[int, ...] = ()

    def shots(self) -> tuple[tuple[int, int], ...]:
        """Half-open runs of input frames, each inside one shot and giving output."""
        edges = [self.lead, *self.cuts, self.stop + self.tail]
        return tuple((a, b) for a, b in pairwise(edges) if b > self.start and a < self.stop)


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    frames: int
    source: tuple[int, int]  # (width, height) px of the frames that the engine sees
    target: tuple[int, int]  # (width, height) px
    scale: Fraction  # what was asked; target is scale x source, rounded


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """All that decides the bytes of a compressed frame besides its pixels."""

    codec: Literal[
        "x264", "x265", "av1", "ffv1", "png", "tiff", "nvenc-h264", "nvenc-h265", "nvenc-av1"
    ]
    crf: int
    preset: str  # as the encoder itself calls it
    threads: int  # bytes depend on it (x264), so it follows from the size, never from the machine
    asm: str  # instruction set (x264 with AVX-512 is not deterministic: docs/lab.md); NVENC: card


@dataclass(frozen=True, slots=True, kw_only=True)
class Numerics:
    """Two machines with equal numerics give equal bytes."""

    device: Literal["cpu", "cuda"]
    capability: tuple[int, int] | None  # of the GPU
    dtype: Literal["uint8", "float32", "bfloat16", "float16"]
    libav: str  # version of PyAV, which pins its libraries
    torch: str | None  # None for engines that do not use it


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How the source becomes RGB frames."""

    first: int  # absolute frame of the source that is frame 0 of the job
    deinterlace: Deinterlace
    matrix: int  # H.273 matrix used to read
    full_range: bool
    drop: tuple[str, ...]  # "tail", "damaged" and "alpha" change what is read
    size: tuple[int, int] | None = None  # px that frames are reduced to; None: as they are coded


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What a film is generated from."""

    prompt: str
    negative: str
    image: tuple[int, int] | None  # (width, height) px of the picture that it begins with


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What decides the pixels and the bytes of the film."""

    source: str  # sha256 of the input bytes; "" while only estimated, or where there are none
    engine: str
    weights: str | None  # sha256 of the file of weights, or of the list of several
    knobs: Knobs
    seed: int
    segment_frames: int
    reading: Reading | Script
    output: OutputFormat
    encoder: Encoder
    numerics: Numerics

    @property
    def read(self) -> Reading:
        """Raises TypeError for a film that is generated."""
        if isinstance(self.reading, Script):
            raise TypeError("a generated film is not read")
        return self.reading


def weights_identity(hashes: Sequence[str]) -> str | None:
    """What `Recipe.weights` says of files with these sha256, in the engine's order."""
    if len(hashes) < 2:
        return hashes[0] if hashes else None
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where and when bytes live; free to change between runs and under memory pressure."""

    devices: tuple[str, ...]  # one worker each: "cpu", "cuda:0"
    offload: str  # where weights lie: a strategy of offload/
    step: int  # frames per pass through the engine
    queue: int  # clips waiting between two stages
    threads: int  # of the host's maths library
    state: Literal["device", "host"] = "device"  # where an engine's recurrent state lies
    # what follows is of strategies under which blocks come in turn (ring, disk)
    resident_blocks: int = 0  # of each net, on the device for good
    host_blocks: int = 0  # of the others of a net that is read from the disk, in host memory
    slots: int = 2  # on the device, through which blocks come: 2 or 3
    granularity: Literal["block", "phase"] = "block"  # what comes at a time
    read_ahead: int = 3  # blocks that are read from the disk before they are used
    disk_workers: int = 2  # threads that read
    copy_streams: int = 1  # asked for; copies go through one: the bus is one link
    bandwidth: float = 1.0  # of what copies and reads could take of bus and disk, 0.1 .. 1
    offload_text: bool = True  # the text encoder leaves the device when its turn is over
    offload_image: bool = True  # the same of the image encoder
    vace_blocks_to_swap: int = 0  # of a net that no model here has


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Peak bytes of one open engine on its device, by cause."""

    context: int = 0  # CUDA context and library modules; the maths library on a CPU
    weights: int = 0
    block: int = 0  # largest block: what a ring of blocks needs twice
    state: int = 0  # recurrent state and caches
    activations: int = 0
    workspace: int = 0
    beside: int = 0  # on the host while the engine is on a GPU: libraries
    parked: int = 0  # the same: page-locked memory for weights and state that wait there

    @property
    def total(self) -> int:
        """Bytes on the engine's own device."""
        return self.context + self.weights + self.state + self.activations + self.workspace

    @property
    def outside(self) -> int:
        """Bytes on the host while the engine is on a GPU."""
        return self.beside + self.parked


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFootprint:
    """Peak bytes of one process on the host, by cause, without the engine."""

    process: int  # interpreter, numpy, libav
    decode: int
    frames: int  # clips in the queues and in hand
    encode: int

    @property
    def total(self) -> int:
        return self.process + self.decode + self.frames + self.encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    host: HostFootprint
    engine: Footprint
    on_gpu: bool

    @property
    def ram(self) -> int:
        """Peak bytes of host memory of one process."""
        return self.host.total + (self.engine.outside if self.on_gpu else self.engine.total)

    @property
    def vram(self) -> int:
        """Peak bytes on each GPU."""
        return self.engine.total if self.on_gpu else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """Bytes on the target's file system, estimated."""

    parts: int  # the work folder
    target: int  # the joined file, beside the parts until it is verified

    @property
    def total(self) -> int:
        return self.parts + self.target


@dataclass(frozen=True, slots=True, kw_only=True)
class Time:
    """Seconds, from this machine's calibration."""

    decode: float
    compute: float
    encode: float
    total: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOutlook:
    """What one stage of the work is expected to take."""

    name: str
    seconds: float | None  # None: the machine's speed is not known
    vram: int  # peak bytes on the GPU; 0 without one
    ram: int  # peak bytes of the process on the host


@dataclass(frozen=True, slots=True, kw_only=True)
class BlocksOutlook:
    """The blocks of the net that computes most: where they lie, and what the way of one takes."""

    blocks: int
    device: int  # of them on the device for good
    host: int
    disk: int
    block: int  # bytes of one
    compute: float | None = None  # s of one; None: the machine's speed is not known
    copy: float | None = None  # s, from the host to the device
    read: float | None = None  # s, from the disk
    seconds: float | None = None  # of a pass through all blocks

    @property
    def copies_hidden(self) -> bool | None:
        """Whether copies take no longer than computing; None: that is not known."""
        if self.compute is None or self.copy is None:
            return None
        return (self.host + self.disk) * self.copy <= self.blocks * self.compute

    @property
    def reads_hidden(self) -> bool | None:
        """The same of what is read from the disk."""
        if self.compute is None or self.read is None:
            return None
        return self.disk * self.read <= self.blocks * self.compute


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What an engine expects of a plan on a machine, stage by stage."""

    stages: tuple[StageOutlook, ...] = ()
    blocks: BlocksOutlook | None = None

    @property
    def seconds(self) -> float | None:
        """Of all stages together; None: the machine's speed is not known."""
        each = [stage.seconds for stage in self.stages]
        known = [seconds for seconds in each if seconds is not None]
        return sum(known) if known and len(known) == len(each) else None

    def stage(self, name: str) -> StageOutlook | None:
        return next((stage for stage in self.stages if stage.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    stage: Literal["estimate", "frozen"]  # frozen: frames counted, cuts found, input hashed
    task: Task
    info: VideoInfo  # of what is read; of a generated film what it will be itself
    geometry: Geometry
    recipe: Recipe
    placement: Placement
    segments: tuple[Segment, ...]
    memory: Memory
    disk: Disk
    time: Time | None  # None: not calibrated
    outlook: Outlook | None = None  # None: the engine works in one stage
    cuts: tuple[int, ...] = ()  # frames of the job at which a shot begins
    notes: tuple[str, ...] = ()

    @property
    def upscale(self) -> Upscale:
        """The task. Raises TypeError for a film that is generated."""
        if not isinstance(self.task, Upscale):
            raise TypeError("the film is generated")
        return self.task

    @property
    def identity(self) -> str:
        """Hash of all that decides the bytes; equal identities may share segments."""
        text = json.dumps(self.decisive(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def decisive(self) -> dict[str, Any]:
        """The part of the plan that a resumed job must share, as plain values."""
        return {
            "geometry": to_plain(self.geometry),
            "recipe": to_plain(self.recipe),
            "segments": [to_plain(s) for s in self.segments],
        }

    def to_json(self) -> str:
        return json.dumps({"version": VERSION, **to_plain(self)}, indent=1)

    @staticmethod
    def from_json(text: str) -> Plan:
        """Raises ValueError that names what is wrong."""
        value = json.loads(text)
        if not isinstance(value, dict) or value.pop("version", None) != VERSION:
            raise ValueError(f"this is not a plan of version {VERSION}")
        value.pop("balance", None)  # of the machine that it was made on (`plan --explain`)
        if isinstance(value.get("task"), dict):
            value["task"] = as_named_now(value["task"])
        return from_plain(Plan, value)
