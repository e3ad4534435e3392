"""Parts and the source's other tracks to one file, by packets: nothing is encoded again.

The parts say in which order frames were coded; when a frame is shown comes from the film's own
table. Decoding stamps are made anew from that table, because parts of one frame, and parts seen
from their own beginning, have stamps that do not fit together (docs/lab.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import lcm
from pathlib import Path
from typing import Any

import av
from av.container import OutputContainer
from av.video.stream import VideoStream

from longtake.core.faults import strike
from longtake.core.plan import Plan, Segment
from longtake.core.ports import Film
from longtake.media import carry, color
from longtake.media.carry import AnyPacket
from longtake.media.sinks import _matroska
from longtake.media.sinks._files import PartDamaged, guarded, settle
from longtake.media.sinks._parts import BIT_EXACT, HEVC, colour_flag
from longtake.media.tracks import Container

YIELD_EVERY = 256  # frames between two reports of a long part
_FINEST = 10_000_000  # ticks / s up to which the movie's clock fits pictures and sound exactly


def join(
    parts: Sequence[Path], target: Path, film: Film, plan: Plan, container: Container
) -> Iterator[int]:
    """Write `target`; yields frames joined so far. `parts` may be the first few of the plan.

    Raises PartDamaged that names the part, DiskFull, BadInput where the source's other tracks
    cannot be read.
    """
    segments = plan.segments[: len(parts)]
    if not segments or len(parts) > len(plan.segments):
        raise ValueError(f"{len(parts)} parts for {len(plan.segments)} segments")
    frames = segments[-1].stop
    whole = frames == plan.geometry.frames
    clock = Stamps.of(film, plan, frames)
    ends = None if whole else clock.end * clock.time_base
    with guarded(target), carry.opened(film, container, plan.task.drop, ends) as others:
        with _created(target, container, plan, others) as out:
            title = _Header(out=out, plan=plan, container=container, others=others)
            stream = title.streams(parts[0])
            sound = _Merged(out=out, packets=others.packets())
            pictures = _pictures(zip(parts, segments, strict=True), clock)
            for done, packet in enumerate(pictures, 1):
                assert packet.dts is not None
                sound.until(packet.dts * clock.time_base)
                packet.stream = stream
                out.mux(packet)
                if done % YIELD_EVERY == 0 and done < frames:
                    yield done
            sound.rest()
        if container == "matroska":
            _matroska.set_aspect(target, plan.recipe.output, title.title)
        settle(target)
    yield frames


@contextmanager
def _created(
    target: Path, container: Container, plan: Plan, others: carry.Tracks
) -> Iterator[OutputContainer]:
    """The target, closed properly or, after an exception, without another one."""
    out = av.open(
        str(target), "w", format=container, container_options=_options(container, plan, others)
    )
    out.flags |= BIT_EXACT
    try:
        yield out
    except BaseException:
        with suppress(av.FFmpegError, OSError):
            out.close()
        raise
    out.close()


def _options(container: Container, plan: Plan, others: carry.Tracks) -> dict[str, str]:
    # Packets come in order of time already. Where a track has none for a while (subtitles), libav
    # would hold ten seconds of all others back, and those may be gigabytes.
    options = {"max_interleave_delta": "1"}
    ticks = plan.recipe.output.time_base.denominator
    if container == "matroska":
        # Sound may begin before the pictures. Blocks can say so; libav would move all of them.
        return options | {"avoid_negative_ts": "disabled", "default_mode": "passthrough"}
    rates = [t.sample_rate for t in others.film.info.of("audio") if t.sample_rate]
    movie = ticks
    for rate in rates:
        movie = lcm(movie, rate) if lcm(movie, rate) <= _FINEST else movie
    return options | {
        "movie_timescale": str(movie),
        "video_track_timescale": str(ticks),
        "movflags": "+faststart" + colour_flag(plan.recipe.output),
        "strict": "experimental",  # TrueHD in mp4
    }


@dataclass(slots=True, kw_only=True)
class _Header:
    """All that is said before the first packet."""

    out: OutputContainer
    plan: Plan
    container: Container
    others: carry.Tracks
    title: str = ""  # of the pictures' track

    def streams(self, first: Path) -> VideoStream:
        """Make every stream in the source's order; returns that of the pictures."""
        self.others.before(self.out)
        with av.open(str(first)) as part:
            # By its decoder: no encoder has the name of AV1's, and none is needed.
            stream = self.out.add_stream_from_template(part.streams.video[0], opaque=True)
        if self.container == "mp4" and stream.codec_context.codec.canonical_name == "hevc":
            stream.codec_context.codec_tag = HEVC
        output = self.plan.recipe.output
        stream.time_base = output.time_base
        stream.codec_context.sample_aspect_ratio = output.sar
        color.tag(stream.codec_context, output.color)
        # A rate of 0 is not stated: frames of a variable film have no common duration.
        variable = output.variable and self.container == "matroska"
        stream.codec_context.framerate = Fraction(0) if variable else output.rate
        if output.rotation:
            stream.set_display_rotation(output.rotation)
        source = self.others.film_stream()
        if source is not None:
            carry.describe(stream, source)
        if self.container == "matroska" and output.sar != 1:
            self.title = stream.metadata.get("title", "")
            stream.metadata["title"] = self.title + _matroska.ROOM
        self.others.after(self.out)
        return stream


@dataclass(slots=True)
class _Merged:
    """The other tracks, let in between the pictures' packets by time."""

    out: OutputContainer
    packets: Iterator[tuple[Fraction, AnyPacket]]
    waiting: tuple[Fraction, AnyPacket] | None = None

    def until(self, time: Fraction) -> None:
        """All packets up to `time` (s)."""
        while (self.waiting or self._next()) and self.waiting and self.waiting[0] <= time:
            self.out.mux(self.waiting[1])
            self.waiting = None

    def rest(self) -> None:
        while self.waiting or self._next():
            assert self.waiting is not None
            self.out.mux(self.waiting[1])
            self.waiting = None

    def _next(self) -> bool:
        self.waiting = next(self.packets, None)
        return self.waiting is not None


@dataclass(slots=True, kw_only=True)
class Stamps:
    """When frames are shown and decoded, from the film's table, read a stretch at a time."""

    film: Film
    time_base: Fraction  # s per tick
    frames: int  # to be written
    end: int  # ticks: where the last of them ends

    @staticmethod
    def of(film: Film, plan: Plan, frames: int) -> Stamps:
        whole = frames == plan.geometry.frames
        end = film.end() if whole else film.pts(frames, frames + 1)[0]
        base = plan.recipe.output.time_base
        return Stamps(film=film, time_base=base, frames=frames, end=end)

    def shown(self, start: int, stop: int) -> list[int]:
        """Stamps of frames [start, stop) and of what follows the last: stop - start + 1 ticks."""
        if stop < self.frames:
            return self.film.pts(start, stop + 1)
        return [*self.film.pts(start, stop), self.end]

    def decoded(self, depth: int) -> Iterator[int]:
        """Decoding stamps in coding order: those of `depth` frames earlier, extrapolated before."""
        yield from (self.shown(0, 1)[0] - self._step(depth) * n for n in range(depth, 0, -1))
        for start in range(0, self.frames, YIELD_EVERY):
            yield from self.film.pts(start, min(start + YIELD_EVERY, self.frames))

    def _step(self, depth: int) -> int:
        """Ticks between the extrapolated stamps: as the film ends, so it must begin.

        The samples of an mp4 last from one decoding stamp to the next. Their sum reaches the end
        of the film if what is missing behind is put before. More than the first frame lasts it
        must not be: libav's muxer (8.1) then moves the whole film.
        """
        tail = self.shown(max(0, self.frames - depth - 1), self.frames)
        first = self.shown(0, 1)
        return min(first[1] - first[0], max(b - a for a, b in pairwise(tail)))


def _pictures(parts: Iterator[tuple[Path, Segment]], clock: Stamps) -> Iterator[AnyPacket]:
    """Packets of all parts in coding order, stamped."""
    header: bytes | None = None
    decoded: Iterator[int] | None = None
    for path, segment in parts:
        strike("join")
        shown = clock.shown(segment.start, segment.stop)
        with av.open(str(path)) as part:
            context: Any = part.streams.video[0].codec_context
            extradata, depth = context.extradata or b"", context.reorder_depth
        if header is None:
            header, decoded = extradata, clock.decoded(depth)
        if extradata != header:
            raise PartDamaged(
                f"{path} was coded with other parameters than the first part; run the job again "
                f"with --restart."
            )
        assert decoded is not None
        yield from _stamped(path, shown, clock.time_base, decoded)


def _stamped(
    path: Path, shown: list[int], base: Fraction, decoded: Iterator[int]
) -> Iterator[AnyPacket]:
    """Packets of one part; `shown` as `Stamps.shown` gives it."""
    frames = len(shown) - 1
    with av.open(str(path)) as part:
        ranks = sorted(p.pts for p in part.demux(video=0) if p.size and p.pts is not None)
    if len(ranks) != frames:
        raise PartDamaged(f"{path} holds {len(ranks)} frames instead of {frames}.")
    rank = {pts: i for i, pts in enumerate(ranks)}
    if len(rank) != frames:
        raise PartDamaged(f"{path} has {frames - len(rank)} frames with the time of another.")
    with av.open(str(path)) as part:
        for packet in part.demux(video=0):
            if not packet.size or packet.pts is None:
                continue
            at = rank[packet.pts]
            packet.time_base = base
            packet.pts, packet.dts = shown[at], next(decoded)
            packet.duration = shown[at + 1] - shown[at]
            if packet.dts > packet.pts:
                raise PartDamaged(f"{path}: frame {at} is needed before it is decoded.")
            yield packet
