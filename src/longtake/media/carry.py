"""Takes the tracks beside the pictures from a source into a target, as `tracks.py` decided.

The source is opened a second time and read along with the joining, a packet at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Discard, Disposition, Stream

from longtake.core.errors import BadInput
from longtake.core.ports import Film
from longtake.media import subtitles
from longtake.media.subtitles import Cue, Timeline
from longtake.media.tracks import PICTURES, Container, How, Way, ways

if TYPE_CHECKING:
    AnyPacket = Packet[Any]
else:
    AnyPacket = Packet  # PyAV's class takes no parameters when it runs

# Words of a stream or a film that are not true of the new one.
STALE = ("BPS", "DURATION", "NUMBER_OF_FRAMES", "NUMBER_OF_BYTES", "_STATISTICS_", "ENCODER")
USUAL_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
BRANDS = ("major_brand", "minor_version", "compatible_brands", "vendor_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Where the kept range lies in the source's own time; None: no bound."""

    shift: Fraction  # s: target time = source time - shift
    begin: Fraction | None  # s, source time
    end: Fraction | None  # s, source time

    def holds(self, start: Fraction, stop: Fraction, clipped: bool) -> bool:
        """Whether something at [start, stop) is kept; `clipped`: any overlap counts."""
        if self.begin is not None and (stop <= self.begin if clipped else start < self.begin):
            return False
        return self.end is None or start < self.end


@dataclass(slots=True, kw_only=True)
class Steady:
    """Exact stamps for sound whose container rounds them (mkv: to 1 ms), sample by sample.

    As long as the given stamp is within one of the source's ticks of where the samples before
    it end, the samples are right; else the stamp is.
    """

    tick: Fraction  # s: of the source
    rate: int  # Hz: stamps come out in samples
    size: int = 0  # samples of every packet; 0: not known
    before: int = 0  # samples of the packet before
    next: int | None = None

    def stamp(self, given: Fraction, samples: int) -> int:
        """The start, in samples, of a packet of `samples` samples that says `given` s."""
        at = round(given * self.rate)
        if self.next is not None and abs(Fraction(self.next, self.rate) - given) <= self.tick:
            at = self.next
        self.next, self.before = at + samples, samples
        return at


@dataclass(slots=True, kw_only=True)
class Lane:
    """One track on its way: its stream in the source, in the target, and what it needs between."""

    way: Way
    source: Stream
    target: Stream
    steady: Steady | None = None
    timeline: Timeline | None = None
    last: int | None = None  # decoding stamp of the packet before, target's ticks


@dataclass(slots=True, kw_only=True)
class Tracks:
    """The other tracks of an open source; `add` makes their streams, `packets` fills them."""

    film: Film
    source: InputContainer | None  # None: the source has no other tracks
    container: Container
    drop: tuple[str, ...]
    span: Span
    lanes: list[Lane] = field(default_factory=list)

    def film_stream(self) -> Stream | None:
        """The source's own stream of pictures: metadata and disposition are taken from it."""
        return self.source.streams[self.film.info.stream] if self.source else None

    def before(self, out: OutputContainer) -> None:
        """Streams that come before the pictures in the source."""
        self._add(out, [w for w in self._ways() if w.track.index < self.film.info.stream])

    def after(self, out: OutputContainer) -> None:
        """Streams that come after the pictures, attachments, chapters and metadata."""
        self._add(out, [w for w in self._ways() if w.track.index > self.film.info.stream])
        if self.source is None:
            return
        self._attach(out)
        out.metadata.update(_cleaned(self.source.metadata))
        if "chapters" not in self.drop:
            out.set_chapters(self._chapters())

    def _ways(self) -> tuple[Way, ...]:
        return ways(self.film.info, self.container, self.drop).kept if self.source else ()

    def _add(self, out: OutputContainer, ways: Sequence[Way]) -> None:
        assert self.source is not None or not ways
        for way in ways:
            if self.source is None or self._attached(way):
                continue
            stream = self.source.streams[way.track.index]
            lane = Lane(way=way, source=stream, target=_stream(out, stream, way.how))
            describe(lane.target, stream)
            if way.how == "mov_text":
                lane.timeline = Timeline()
            if self.container == "mp4" and way.track.kind == "audio":
                lane.steady = _steady(stream)
            self.lanes.append(lane)

    def _attached(self, way: Way) -> bool:
        """Whether a track lies in the target's header and not among its packets."""
        return way.how == "attachment" or (way.how == "picture" and self.container == "matroska")

    def _attach(self, out: OutputContainer) -> None:
        assert self.source is not None
        for way in self._ways():
            if not self._attached(way):
                continue
            stream: Any = self.source.streams[way.track.index]
            suffix = PICTURES.get(way.track.codec, "bin")
            mime = f"image/{'jpeg' if suffix == 'jpg' else suffix}"
            if way.how == "attachment":
                data, mime = stream.data, stream.mimetype or "application/octet-stream"
            else:
                data, mime = self._picture(way.track.index), stream.metadata.get("mimetype", mime)
            name = stream.metadata.get("filename") or f"cover.{suffix}"
            added = out.add_attachment(name, mime, data)
            describe(added, stream)

    def _picture(self, index: int) -> bytes:
        """The bytes of a cover: the first packet of its stream."""
        with self.film.container() as again:
            for packet in again.demux(again.streams[index]):
                if packet.size:
                    return bytes(packet)
        raise BadInput(f"{self.film.info.path}: cover art track {index} is empty.")

    def _chapters(self) -> list[Any]:
        assert self.source is not None
        kept = []
        for chapter in self.source.chapters():
            base = chapter["time_base"] or Fraction(1, 1000)
            start, end = chapter["start"] * base, chapter["end"] * base
            if not self.span.holds(start, end, clipped=True):
                continue
            start = start if self.span.begin is None else max(start, self.span.begin)
            end = end if self.span.end is None else min(end, self.span.end)
            kept.append(
                {
                    **chapter,
                    "time_base": base,
                    "start": round((start - self.span.shift) / base),
                    "end": round((end - self.span.shift) / base),
                }
            )
        return kept

    def packets(self) -> Iterator[tuple[Fraction, AnyPacket]]:
        """Packets of all lanes with their decoding time in the target, s, in the source's order."""
        if self.source is None or not self.lanes:
            return
        lanes = {lane.source.index: lane for lane in self.lanes}
        for stream in self.source.streams:
            if stream.index not in lanes:
                stream.discard = Discard.all
        for packet in self._demuxed([lane.source for lane in self.lanes]):
            lane = lanes[packet.stream.index]
            if not packet.size:
                continue
            if lane.way.how == "picture":
                packet.pts = packet.dts = 0
                packet.stream = lane.target
                yield Fraction(0), packet
            elif packet.pts is not None or packet.dts is not None:
                yield from self._carried(lane, packet)
        for lane in self.lanes:
            if lane.timeline is not None:
                yield from (self._sample(lane, cue) for cue in lane.timeline.rest())

    def _demuxed(self, streams: list[Stream]) -> Iterator[AnyPacket]:
        assert self.source is not None
        try:
            yield from self.source.demux(streams)
        except av.FFmpegError as error:
            if not {"tail", "damaged"} & set(self.drop):
                raise BadInput(
                    f"{self.film.info.path}: the other tracks cannot be read to the end ({error}); "
                    f"--drop tail keeps what is there."
                ) from error

    def _carried(self, lane: Lane, packet: AnyPacket) -> Iterator[tuple[Fraction, AnyPacket]]:
        base = packet.time_base
        start = (packet.pts if packet.pts is not None else packet.dts or 0) * base
        stop = start + (packet.duration or 0) * base
        if not self.span.holds(start, stop, clipped=lane.way.track.kind == "subtitle"):
            return
        if lane.way.track.kind == "subtitle":
            yield from self._subtitle(lane, packet, start, stop)
        else:
            yield self._copied(lane, packet)

    def _subtitle(
        self, lane: Lane, packet: AnyPacket, start: Fraction, stop: Fraction
    ) -> Iterator[tuple[Fraction, AnyPacket]]:
        if lane.way.how == "copy" and self.span.begin is None and self.span.end is None:
            yield self._copied(lane, packet)
            return
        first = start if self.span.begin is None else max(start, self.span.begin)
        last = stop if self.span.end is None else min(stop, self.span.end)
        base = packet.time_base
        a, b = (round((x - self.span.shift) / base) for x in (first, last))
        if lane.way.how == "copy":
            packet.pts = packet.dts = a
            packet.duration = b - a
            packet.stream = lane.target
            yield a * base, packet
            return
        rewrite = subtitles.plain if lane.way.how == "mov_text" else subtitles.subrip
        events: list[Any] = packet.decode()
        text = "\n".join(rewrite(subtitles.event_text(e.ass.decode())) for e in events)
        cue = Cue(start=a, stop=b, text=text)
        if lane.timeline is not None:
            yield from (self._sample(lane, settled) for settled in lane.timeline.feed(cue))
        elif text:
            yield self._sample(lane, cue)

    def _sample(self, lane: Lane, cue: Cue) -> tuple[Fraction, AnyPacket]:
        raw = subtitles.mov_text(cue.text) if lane.timeline is not None else cue.text.encode()
        base = lane.source.time_base or Fraction(1, 1000)
        packet: AnyPacket = Packet(raw)
        packet.stream = lane.target
        packet.time_base = base
        packet.pts = packet.dts = cue.start
        packet.duration = cue.stop - cue.start
        packet.is_keyframe = True
        return cue.start * base, packet

    def _copied(self, lane: Lane, packet: AnyPacket) -> tuple[Fraction, AnyPacket]:
        base = packet.time_base
        shift = round(self.span.shift / base)
        packet.pts = None if packet.pts is None else packet.pts - shift
        packet.dts = None if packet.dts is None else packet.dts - shift
        packet.stream = lane.target
        if lane.way.track.kind == "video":  # mkv states no first decoding stamps: libav finds them
            at = packet.pts if packet.dts is None else packet.dts
            return (at or 0) * base, packet
        packet.dts = packet.pts if packet.dts is None else packet.dts
        if lane.steady is not None:
            base = self._steadied(lane.steady, packet)
        assert packet.dts is not None
        if lane.last is not None and packet.dts <= lane.last and self.container == "mp4":
            packet.dts = lane.last + 1  # mp4 needs rising stamps; a broken source repeats them
            packet.pts = max(packet.dts, packet.pts or 0)
        lane.last = packet.dts
        return packet.dts * base, packet

    def _steadied(self, steady: Steady, packet: AnyPacket) -> Fraction:
        given = (packet.pts or 0) * packet.time_base
        if packet.duration and not steady.size:
            samples = likely_samples(packet.duration, packet.time_base, steady.rate)
        else:  # a packet without a length is as long as the one before
            samples = steady.size or steady.before
        packet.pts = packet.dts = steady.stamp(given, samples)
        packet.duration = samples
        packet.time_base = Fraction(1, steady.rate)
        return packet.time_base


@contextmanager
def opened(
    film: Film, container: Container, drop: Sequence[str], end: Fraction | None = None
) -> Iterator[Tracks]:
    """The other tracks of `film`; `end`: s in the target, where a film that is not whole ends."""
    clock = film.clock()
    stop = clock.end
    if end is not None:
        stop = end + clock.shift if stop is None else min(stop, end + clock.shift)
    span = Span(shift=clock.shift, begin=clock.begin, end=stop)
    if film.info.container in ("images", "none"):
        yield Tracks(film=film, source=None, container=container, drop=tuple(drop), span=span)
        return
    with film.container() as source:
        yield Tracks(film=film, source=source, container=container, drop=tuple(drop), span=span)


def describe(target: Stream, source: Stream) -> None:
    """Language, title, disposition and other words of a stream, without what no longer holds."""
    words = _cleaned(source.metadata)
    title = words.pop("name", "")  # mp4's word for a title
    handler = words.pop("handler_name", "")  # one more, if it is not the muxer's own
    if not title and handler and not handler.endswith("Handler"):
        title = handler
    if title:
        words.setdefault("title", title)
    target.metadata.update(words)
    target.disposition = source.disposition


def _cleaned(words: dict[str, str]) -> dict[str, str]:
    return {k: v for k, v in words.items() if k not in BRANDS and not k.upper().startswith(STALE)}


def _stream(out: OutputContainer, source: Stream, how: How) -> Stream:
    if how == "mov_text":
        made: Any = out.add_stream("mov_text")
        made.codec_context.subtitle_header = subtitles.MOV_TEXT_HEADER
        made.codec_context.time_base = source.time_base
        made.time_base = source.time_base
        return made  # type: ignore[no-any-return]
    if how == "subrip":
        plain: Stream = out.add_mux_stream("subrip")
        plain.time_base = source.time_base
        return plain
    copy: Any = out.add_stream_from_template(source, opaque=True)
    if copy.type == "audio" and copy.codec_context.layout.name.endswith("channels"):
        # Not stated which they are: mp4 cannot leave that open for uncompressed sound.
        usual = USUAL_LAYOUTS.get(copy.codec_context.layout.nb_channels)
        if usual and copy.codec_context.name.startswith("pcm_"):
            copy.codec_context.layout = usual
    return copy  # type: ignore[no-any-return]


def _steady(stream: Stream) -> Steady | None:
    """For sound whose container ticks are coarser than its samples."""
    context: Any = stream.codec_context
    if not context.sample_rate or stream.time_base is None:
        return None
    if stream.time_base * context.sample_rate <= 1:
        return None
    return Steady(tick=stream.time_base, rate=context.sample_rate, size=context.frame_size)


def likely_samples(duration: int, tick: Fraction, rate: int) -> int:
    """Samples of a packet whose `duration` in coarse ticks was cut or rounded.

    Coders take samples by powers of two: of the counts that fit, the one with most factors of 2.
    """
    least = (duration - Fraction(1, 2)) * tick * rate
    most = (duration + 1) * tick * rate
    for power in range(13, 5, -1):
        count: int = round((least + most) / 2 / 2**power) << power
        if least < count < most:
            return count
    return round(duration * tick * rate)


def covers(stream: Stream) -> bool:
    """Whether a stream of pictures is cover art."""
    return bool(stream.disposition & Disposition.attached_pic)
