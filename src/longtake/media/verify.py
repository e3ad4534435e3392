"""Whether a finished film is what was planned: decoded once, compared with the source's tables.

What is wrong is collected and told together, as far as reading goes on. Memory is flat.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.context import ThreadType
from av.container import InputContainer
from av.video.stream import VideoStream

from longtake.core.errors import VerifyFailed
from longtake.core.media import OutputFormat
from longtake.core.plan import Plan, Recipe, Script
from longtake.core.ports import Film
from longtake.media import _look, carry
from longtake.media._ffv1 import slices_intact
from longtake.media._tally import Tally, end_of, track_faults
from longtake.media.carry import AnyPacket
from longtake.media.color import IDENTITY
from longtake.media.sinks import _pictures
from longtake.media.tracks import Container, ways

THREADS = 2  # of the decoder
STRICT = {"err_detect": "crccheck+bitstream+buffer+explode"}
STRETCH = 256  # frames whose tables are read at once
TELL = 32  # frames after which a file's check says how far it is
_MOST = 20  # faults told

# Shares of the way from black to white, and luma steps of 255: far beyond what an engine may do,
# far below what a lost picture does.
BLACK, NOT_BLACK = 0.02, 0.08
OFF = 0.25
MOVING, STILL = 2.0, 0.1  # the source moves by so much, the target by less than a tenth of that


def part(path: Path, output: OutputFormat, frames: int) -> None:
    """A quick look at a part just closed, without decoding. Raises VerifyFailed."""
    if path.is_dir():
        held = len(list(path.iterdir()))
        if held != frames:
            raise VerifyFailed(f"{path} holds {held} pictures instead of {frames}.")
        return
    try:
        with av.open(str(path)) as file:
            stream = file.streams.video[0]
            stamps = {p.pts for p in file.demux(stream) if p.size}
            size = (stream.codec_context.width, stream.codec_context.height)
            header = stream.codec_context.extradata
    except (av.FFmpegError, IndexError) as error:
        raise VerifyFailed(f"{path} cannot be read ({error}).") from error
    if len(stamps) != frames:
        raise VerifyFailed(f"{path} holds {len(stamps)} frames instead of {frames}.")
    if size != (output.width, output.height) or not header:
        raise VerifyFailed(
            f"{path} is {size[0]}x{size[1]} instead of {output.width}x{output.height}, "
            f"or has no coding parameters."
        )


def verify(path: Path, film: Film, plan: Plan, frames: int | None = None) -> Iterator[int]:
    """Check the joined file or folder at `path`; yields frames checked so far.

    `frames`: how many there should be, default all of the plan. Raises VerifyFailed with all that
    is wrong.
    """
    wrong = Faults()
    count = plan.geometry.frames if frames is None else frames
    looks = Pictures(film=film, plan=plan, frames=count, wrong=wrong)
    if path.is_dir():
        yield from _folder(path, looks)
    else:
        yield from _file(path, looks)
    if looks.seen != count:
        wrong.tell(f"{looks.seen} frames instead of {count}")
    wrong.settle(path)


@dataclass(slots=True)
class Faults:
    """What is wrong, with runs of frames told as one."""

    told: list[str] = field(default_factory=list)
    runs: dict[str, list[list[int]]] = field(default_factory=dict)

    def tell(self, what: str) -> None:
        self.told.append(what)

    def frame(self, what: str, number: int) -> None:
        """`what` is wrong with one frame: "is black"."""
        runs = self.runs.setdefault(what, [])
        if runs and runs[-1][1] == number:
            runs[-1][1] = number + 1
        elif len(runs) < _MOST:
            runs.append([number, number + 1])

    def settle(self, path: Path) -> None:
        """Raises VerifyFailed if anything was told."""
        for what, runs in self.runs.items():
            shown = ", ".join(f"{a}" if b == a + 1 else f"{a} to {b - 1}" for a, b in runs)
            self.told.append(f"frame {shown}: {what}")
        if self.told:
            more = len(self.told) - _MOST
            lines = self.told[:_MOST] + ([f"and {more} more"] if more > 0 else [])
            raise VerifyFailed(f"({path})\n  " + "\n  ".join(lines))


@dataclass(slots=True, kw_only=True)
class Pictures:
    """Decoded frames, one after the other, against the film's tables."""

    film: Film
    plan: Plan
    frames: int
    wrong: Faults
    seen: int = 0
    before: _look.Grid | None = None
    table: tuple[int, Any, Any, Any] = (0, (), (), ())  # first frame; pts, luma, difference

    def take(self, frame: av.VideoFrame, time: Fraction | None, tick: Fraction) -> None:
        """`time` (s) and the length of a tick of the target; None where it has no times."""
        number, self.seen = self.seen, self.seen + 1
        if number >= self.frames:
            return
        output = self.plan.recipe.output
        pts, luma, moved = self._row(number)
        if time is not None:
            off = time - pts * output.time_base
            if abs(off) > max(tick, output.time_base):
                self.wrong.frame("is shown at another time than in the source", number)
        if (frame.width, frame.height) != (output.width, output.height):
            self.wrong.frame(f"is {frame.width}x{frame.height}", number)
            return
        self._light(frame, number, luma, moved)

    def _row(self, number: int) -> tuple[int, float, float]:
        first, stamps, luma, moved = self.table
        if not first <= number < first + len(stamps):
            first, stop = number, min(number + STRETCH, self.frames)
            stamps = self.film.pts(first, stop)
            luma, moved = self.film.luma(first, stop), self.film.difference(first, stop)
            self.table = (first, stamps, luma, moved)
        at = number - first
        return stamps[at], float(luma[at]), float(moved[at])

    def _light(self, frame: av.VideoFrame, number: int, luma: float, moved: float) -> None:
        look = _look.look(frame)
        recipe = self.plan.recipe
        given = _share(luma, _in_full(recipe))
        made = _share(look.mean, recipe.output.full_range or recipe.output.chroma == "rgb")
        if made < BLACK and given > NOT_BLACK:
            self.wrong.frame("is black, the source is not", number)
        elif abs(made - given) > OFF:
            self.wrong.frame("is much lighter or darker than the source", number)
        if self.before is not None and moved > MOVING:
            still = float(np.abs(look.grid - self.before).mean())
            if still < STILL * moved:
                self.wrong.frame("repeats the one before, the source moves", number)
        self.before = look.grid


def _in_full(recipe: Recipe) -> bool:
    """Whether the source's luma reaches from 0 to 255; of a generated film there is none."""
    reading = recipe.reading
    return not isinstance(reading, Script) and (reading.full_range or reading.matrix == IDENTITY)


def _share(luma: float, full: bool) -> float:
    """How far luma (0 .. 255) lies between black, 0, and white, 1."""
    return luma / 255 if full else (luma - 16) / 219


def _folder(path: Path, looks: Pictures) -> Iterator[int]:
    """Pictures, by the names they must have."""
    suffix = _pictures.suffix_of(looks.plan.recipe.encoder)
    names = {p.name for p in path.iterdir()}
    for start in range(0, looks.frames, STRETCH):
        stop = min(start + STRETCH, looks.frames)
        for number, name in enumerate(
            _pictures.final_names(looks.film, start, stop, suffix), start
        ):
            if name not in names:
                looks.wrong.frame("has no file", number)
                continue
            names.discard(name)
            try:
                looks.take(_picture(path / name, suffix[1:]), None, Fraction(0))
            except (av.FFmpegError, IndexError, EOFError):
                looks.wrong.frame("cannot be decoded", number)
        yield stop
    if names:
        looks.wrong.tell(f"{len(names)} files that are no frames: {', '.join(sorted(names)[:3])}")


def _picture(path: Path, codec: str) -> av.VideoFrame:
    context: Any = av.CodecContext.create(codec, "r")
    context.options = {} if codec == "tiff" else STRICT  # libav's own TIFF tags are errors to it
    context.thread_count = 1
    packet: AnyPacket = av.Packet(path.read_bytes())
    frame: av.VideoFrame = [*context.decode(packet), *context.decode(None)][0]
    return frame


def _file(path: Path, looks: Pictures) -> Iterator[int]:
    container: Container = "matroska" if path.suffix.lower() == ".mkv" else "mp4"
    told = 0
    try:
        with av.open(str(path)) as file:
            watch = _Watch(stream=_pictures_of(file, looks, container), looks=looks)
            for _ in watch.through(file):
                if looks.seen >= told + TELL:
                    told = looks.seen
                    yield told
            watch.finish()
            types = {s.index: s.type for s in file.streams}
            found = [(types[index], tally) for index, tally in watch.tallies.items()]
    except (av.FFmpegError, IndexError) as error:
        looks.wrong.tell(f"frame {looks.seen} or a little later cannot be decoded ({error})")
        return
    yield looks.seen
    for fault in track_faults(looks.film, looks.plan, looks.frames, container, found):
        looks.wrong.tell(fault)


def _pictures_of(file: InputContainer, looks: Pictures, container: Container) -> VideoStream:
    """The film's stream: it stands where it stood in the source, covers aside."""
    info = looks.film.info
    kept = ways(info, container, looks.plan.task.drop).kept
    before = [w for w in kept if w.track.kind == "video" and w.how == "copy"]
    number = len([w for w in before if w.track.index < info.stream])
    return [s for s in file.streams.video if not carry.covers(s)][number]


@dataclass(slots=True, kw_only=True)
class _Watch:
    """One pass over a file: its pictures are decoded, its other packets counted."""

    stream: VideoStream
    looks: Pictures
    tallies: dict[int, Tally] = field(default_factory=dict)
    packets: int = 0  # of the pictures
    end: Fraction = Fraction(0)  # s: of the pictures

    def through(self, file: InputContainer) -> Iterator[None]:
        """Yields after every packet of the pictures."""
        for other in file.streams:
            if other.index != self.stream.index:
                self.tallies[other.index] = Tally()
        self.stream.codec_context.options = STRICT
        self.stream.thread_count = THREADS
        self.stream.thread_type = ThreadType.AUTO
        for packet in file.demux():
            if packet.stream.index != self.stream.index:
                self.tallies[packet.stream.index].take(packet)
                continue
            self._take(packet)
            yield

    def _take(self, packet: AnyPacket) -> None:
        base = packet.time_base
        if packet.size:
            self.end = max(self.end, ((packet.pts or 0) + (packet.duration or 0)) * base)
            if self.stream.codec_context.name == "ffv1" and not slices_intact(bytes(packet)):
                self.looks.wrong.frame("has a slice with a wrong checksum", self.packets)
            self.packets += 1
        for frame in packet.decode():
            assert isinstance(frame, av.VideoFrame)
            if not self.looks.seen:
                self._told(frame)
            self.looks.take(frame, (frame.pts or 0) * base, base)

    def _told(self, frame: av.VideoFrame) -> None:
        """Geometry and colour as stream and frame tell them to a player."""
        output = self.looks.plan.recipe.output
        told = {
            "sample aspect ratio": (self.stream.sample_aspect_ratio or Fraction(1), output.sar),
            "rotation": (frame.rotation % 360, output.rotation % 360),
            "colour matrix": (int(frame.colorspace), output.color.matrix),
            "colour primaries": (int(frame.color_primaries), output.color.primaries),
            "transfer curve": (int(frame.color_trc), output.color.transfer),
            "full range": (int(frame.color_range) == 2, bool(output.color.full_range)),
        }
        for what, (found, planned) in told.items():
            if found != planned:
                self.looks.wrong.tell(f"{what} {found} instead of {planned}")

    def finish(self) -> None:
        """Whether the last frame ends when it should; its start and length are both rounded.

        Of a variable rate only an mp4 without reordering says how long each frame lasts.
        """
        looks, output = self.looks, self.looks.plan.recipe.output
        tick = self.stream.time_base or Fraction(1)
        reorders = self.stream.codec_context.reorder_depth > 0
        silent = reorders or "matroska" in self.stream.container.format.name
        if looks.seen != looks.frames or (output.variable and silent):
            return
        planned = end_of(looks.film, looks.plan, looks.frames) * output.time_base
        if abs(self.end - planned) > max(tick, output.time_base) + tick:
            looks.wrong.tell(
                f"the pictures end at {float(self.end):.6f} s, not at {float(planned):.6f} s"
            )
