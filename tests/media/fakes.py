"""A film that is only a table and arrays, and the plans and parts that go with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from longtake.core.media import Clip, Color, OutputFormat, Pixels, VideoInfo
from longtake.core.plan import (
    Disk,
    Encoder,
    Footprint,
    Geometry,
    HostFootprint,
    Memory,
    Numerics,
    Placement,
    Plan,
    Reading,
    Recipe,
    Segment,
)
from longtake.core.ports import Clock
from longtake.core.task import Upscale
from longtake.media import _look

NTSC = Fraction(24000, 1001)
X264 = Encoder(codec="x264", crf=16, preset="ultrafast", threads=1, asm="sse2")
FFV1 = Encoder(codec="ffv1", crf=0, preset="", threads=1, asm="")
PNG = Encoder(codec="png", crf=0, preset="", threads=1, asm="")


def output(**changes: Any) -> OutputFormat:
    """An ordinary output, 64x48, 23.976 frames/s."""
    usual = OutputFormat(
        width=64, height=48, rate=NTSC, time_base=Fraction(1, 24000), variable=False, bits=8,
        chroma="420", color=Color(), matrix=6, full_range=False, sar=Fraction(1), rotation=0,
    )  # fmt: skip
    return dataclasses.replace(usual, **changes)


def info(path: Path = Path("no.mkv"), **changes: Any) -> VideoInfo:
    usual = VideoInfo(
        path=path, container="matroska,webm", codec="h264", width=64, height=48, frames=0,
        rate=NTSC, time_base=Fraction(1, 1000),
    )  # fmt: skip
    return dataclasses.replace(usual, **changes)


@dataclass
class FakeFilm:
    """Frames by a table of stamps; `pixels` are what the job's output shows."""

    info: VideoInfo
    stamps: list[int]
    last: int  # ticks: where the last frame ends
    pixels: Pixels | None = None  # [T, H, W, 3]
    time: Clock = field(default_factory=Clock)
    files: list[str] | None = None
    levels: list[tuple[float, float]] | None = None  # mean luma and difference of each frame

    def pts(self, start: int, stop: int) -> list[int]:
        assert 0 <= start <= stop <= len(self.stamps)
        return self.stamps[start:stop]

    def end(self) -> int:
        return self.last

    def read(self, start: int, stop: int, size: int) -> Iterator[Clip]:
        assert self.pixels is not None
        for at in range(start, stop, size):
            yield Clip(pixels=self.pixels[at : min(at + size, stop)], start=at)

    def clock(self) -> Clock:
        return self.time

    def container(self) -> AbstractContextManager[Any]:
        return av.open(str(self.info.path))

    def names(self, start: int, stop: int) -> list[str] | None:
        return None if self.files is None else self.files[start:stop]

    def luma(self, start: int, stop: int) -> NDArray[np.float32]:
        return np.array([a for a, _ in self._levels()[start:stop]], np.float32)

    def difference(self, start: int, stop: int) -> NDArray[np.float32]:
        return np.array([b for _, b in self._levels()[start:stop]], np.float32)

    def _levels(self) -> list[tuple[float, float]]:
        if self.levels is None:
            assert self.pixels is not None
            self.levels, before = [], None
            for picture in self.pixels:
                form = "rgb24" if picture.dtype == np.uint8 else "rgb48le"
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), form)
                now = _look.look(frame.reformat(format="yuv444p", dst_color_range=1))
                moved = 0.0 if before is None else float(np.abs(now.grid - before).mean())
                self.levels.append((now.mean, moved))
                before = now.grid
        return self.levels


def moving(frames: int, out: OutputFormat, seed: int = 0) -> Pixels:
    """[T, H, W, 3] smooth, coloured, no two frames alike; uint16 where `out` has more bits."""
    grid = np.random.default_rng(seed).random((9, 9, 3))
    y, x = np.linspace(0, 7.99, out.height), np.linspace(0, 7.99, out.width)
    yi, xi = y.astype(int), x.astype(int)
    yf, xf = (y - yi)[:, None, None], (x - xi)[None, :, None]
    still = (
        grid[yi][:, xi] * (1 - yf) * (1 - xf)
        + grid[yi + 1][:, xi] * yf * (1 - xf)
        + grid[yi][:, xi + 1] * (1 - yf) * xf
        + grid[yi + 1][:, xi + 1] * yf * xf
    )
    rolled = np.stack([np.roll(still, (3 * t, 5 * t), (0, 1)) for t in range(frames)])
    if out.bits <= 8:
        return np.rint(rolled * 255).astype(np.uint8)
    return np.rint(rolled * 65535).astype(np.uint16)


def cuts(frames: int, *stops: int) -> tuple[Segment, ...]:
    """Segments that end at `stops` and at `frames`."""
    edges = [0, *stops, frames]
    return tuple(
        Segment(index=i, lead=a, start=a, stop=b) for i, (a, b) in enumerate(pairwise(edges))
    )


def plan(
    film: FakeFilm, out: OutputFormat, encoder: Encoder, segments: Sequence[Segment], **task: Any
) -> Plan:
    """A frozen plan for the sinks; what they do not look at is empty."""
    frames = segments[-1].stop
    return Plan(
        stage="frozen",
        task=Upscale(source=film.info.path, target=Path("out"), **task),
        info=film.info,
        geometry=Geometry(
            frames=frames, source=(film.info.width, film.info.height),
            target=(out.width, out.height), scale=Fraction(1),
        ),
        recipe=Recipe(
            source="", engine="resize", weights=None, knobs={}, seed=0, segment_frames=240,
            reading=Reading(
                first=0, deinterlace="no", matrix=out.matrix, full_range=out.full_range, drop=()
            ),
            output=out, encoder=encoder,
            numerics=Numerics(
                device="cpu", capability=None, dtype="uint8", libav=av.__version__, torch=None
            ),
        ),
        placement=Placement(devices=("cpu",), offload="resident", step=1, queue=1, threads=1),
        segments=tuple(segments),
        memory=Memory(
            host=HostFootprint(process=0, decode=0, frames=0, encode=0), engine=Footprint(),
            on_gpu=False,
        ),
        disk=Disk(parts=0, target=0),
        time=None,
    )  # fmt: skip


def regular(frames: int, out: OutputFormat, source: VideoInfo | None = None) -> FakeFilm:
    """A film of constant rate from tick 0, with pictures."""
    step = 1 / out.rate / out.time_base
    stamps = [round(i * step) for i in range(frames + 1)]
    film = FakeFilm(info=source or info(), stamps=stamps[:-1], last=stamps[-1])
    film.pixels = moving(frames, out)
    return film


def write_parts(sink: Any, film: FakeFilm, job: Plan, folder: Path, clip: int = 7) -> list[Path]:
    """Every segment of `job` into its own part, in clips of `clip` frames."""
    parts = []
    for segment in job.segments:
        path = folder / f"{segment.index:06d}{sink.part}"
        with sink.open(path, job.recipe.output, job.recipe.encoder, segment.start) as writer:
            for piece in film.read(segment.start, segment.stop, clip):
                writer.write(piece, film.pts(piece.start, piece.stop))
        parts.append(path)
    return parts


def joined(sink: Any, film: FakeFilm, job: Plan, folder: Path, name: str) -> Path:
    """Parts and all: the finished target."""
    target = folder / name
    counts = list(sink.join(write_parts(sink, film, job, folder), target, film, job))
    assert counts[-1] == job.geometry.frames
    assert counts == sorted(counts)
    return target


def shown(path: Path) -> list[tuple[Fraction, Fraction]]:
    """(start, duration) in s of every frame of the pictures, in order, by packet."""
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        base = stream.time_base or Fraction(1)
        found = [
            (p.pts * base, (p.duration or 0) * base)
            for p in file.demux(stream)
            if p.size and p.pts is not None
        ]
    return sorted(found)


def decoded(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as file:
        return list(file.decode(video=0))
