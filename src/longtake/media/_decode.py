"""Decoded frames of a film from a point on: the one loop that analysis and reading share.

Both must see the same frames, so what is skipped, and when, is decided here only.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from heapq import heapify, heappop, heappush
from pathlib import Path

import av
from av.container import InputContainer
from av.error import ExitError, FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from longtake.core.errors import BadInput
from longtake.media import guard
from longtake.media._ffv1 import Checksums
from longtake.media._records import Rows

ENDED = (EOFError, av.error.EOFError)
MPEG = ("mpegts", "mpeg")
REORDER = 8  # frames by which decoding may run ahead of presentation
UNTIMED = ("avi",)
"""Containers that know only in which order packets are decoded: what libav then says of the time of
presentation is a guess, and wrong for B-frames. There the frames are shown at the packets' times in
rising order, which is what AVI means."""


@dataclass(slots=True)
class Tally:
    """What happened while decoding; grows while the frames are drawn."""

    packets: int = 0  # of the film, with content
    lost: int = 0  # packets that could not be decoded since the last frame was given
    errors: int = 0  # such packets in all, after the first frame
    early: int = 0  # such packets before the first frame: a recording that began mid-picture
    faults: int = 0  # packets at which the decoder complained, wherever they lie
    broken_end: bool = False  # the last packet was cut off, or reading ended with an error


def open_stream(
    path: Path, stream: int, threads: int = guard.THREADS, *, strict: bool = False
) -> tuple[InputContainer, VideoStream]:
    """The container and the stream that `probe` chose, its decoder set up. Raises BadInput."""
    container = guard.open_film(path)
    try:
        if stream >= len(container.streams) or container.streams[stream].type != "video":
            raise BadInput(f"{path}: stream {stream} is no video: the file has changed.")
        film = container.streams[stream]
        assert isinstance(film, VideoStream)
        guard.check(film, path)
        for other in container.streams:
            if other.index != stream:
                other.discard = av.stream.Discard.all
        guard.prepare(film, threads, strict=strict)
    except BaseException:
        container.close()
        raise
    return container, film


def frames(
    container: InputContainer,
    stream: VideoStream,
    tally: Tally,
    path: Path,
    most: int | None = None,
) -> Generator[av.VideoFrame]:
    """Frames in presentation order from where the container stands.

    A packet that cannot be decoded is counted in `tally` and skipped; a packet that is the last
    and was cut off is not decoded. Ends after `most` packets. Raises BadInput when reading takes
    too long and when the film is encrypted.
    """
    seen = False
    context = stream.codec_context
    times: list[int] | None = [] if container.format.name in UNTIMED else None
    sums = Checksums(context.name)
    for packet in _packets(container, stream, tally, path):
        if most is not None and tally.packets > most:
            return
        if times is not None and packet is not None and packet.dts is not None:
            heappush(times, packet.dts)
        try:
            sums.check(packet)
            found = context.decode(packet)
        except ENDED:
            return
        except FFmpegError:
            tally.lost += 1
            tally.faults += 1
            if times and packet is not None and packet.dts in times:
                times.remove(packet.dts)
                heapify(times)
            if seen:
                tally.errors += 1
            else:
                tally.early += 1
            continue
        for frame in found:
            seen = True
            if times is not None:
                frame.pts = heappop(times) if times else None
            yield frame
            tally.lost = 0


def _packets(
    container: InputContainer, stream: VideoStream, tally: Tally, path: Path
) -> Iterator[Packet[VideoStream] | None]:
    """The film's packets, each held back until the next is read; None at the end, to flush."""
    held: Packet[VideoStream] | None = None
    try:
        for packet in container.demux(stream):
            if not packet.size:
                continue
            if held is not None:
                yield held
            tally.packets += 1
            if packet.has_sidedata("encryption_info"):
                raise BadInput(f"{path}: the film is encrypted.")
            held = packet
    except ExitError:
        raise BadInput(f"{path}: reading took longer than {guard.OPEN_SECONDS:g} s.") from None
    except FFmpegError:
        tally.broken_end = True
    except IndexError:
        pass  # PyAV, at the end, where the file announced streams that it did not have at first
    if held is not None and held.is_corrupt:
        tally.broken_end = True
    elif held is not None:
        yield held
    yield None


def seek(container: InputContainer, stream: VideoStream, key: Rows, before: Rows) -> bool:
    """Go to the keyframe `key` (its record); False where the container cannot.

    MPEG streams have no table of keyframes: libav looks for a decoding time there, which lies
    before the time of presentation, so the goal is some frames earlier (`before`, a record).
    """
    row = before if container.format.name in MPEG else key
    try:
        container.seek(int(row["raw"]), stream=stream)
    except FFmpegError:
        return False
    return True


def raw_time(frame: av.VideoFrame) -> int | None:
    """The timestamp by which a decoded frame is known, ticks of its stream.

    The presentation time; where there is none, the time at which it was decoded.
    """
    return frame.pts if frame.pts is not None else frame.dts


def clock_origin(container: InputContainer) -> Fraction:
    """Seconds at which the film's clock should read 0.

    MPEG streams begin at any time of day: there it is the earliest start of a stream. Elsewhere
    the clock means something and is kept.
    """
    if container.format.name not in MPEG:
        return Fraction(0)
    starts = [
        s.start_time * s.time_base
        for s in container.streams
        if s.type in ("video", "audio") and s.start_time is not None and s.time_base is not None
    ]
    return min(starts, default=Fraction(0))
