"""One segment to one closed, playable mp4, with exact ticks and nothing of the clock.

A part is an mp4 whatever the target is: with `movie_timescale` at the time base's denominator it is
the only container that keeps any tick exactly and gives packets with both stamps (docs/lab.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import av
from av.codec.context import Flags as CodecFlags
from av.codec.context import ThreadType
from av.container import Flags as ContainerFlags
from av.container import OutputContainer
from av.video.stream import VideoStream

from longtake.core.codecs import CODECS
from longtake.core.faults import strike
from longtake.core.media import Chroma, Clip, Color, OutputFormat, VideoInfo
from longtake.core.plan import Encoder
from longtake.media import color, encoders
from longtake.media.carry import AnyPacket
from longtake.media.sinks._files import guarded, settle

SUFFIX = ".mp4"
_IN_ORDER = 2  # frames that no encoder reorders
CODED = ("x264", "x265", "av1", "nvenc-h264", "nvenc-h265", "nvenc-av1")  # in every container
HEVC = "hvc1"  # parameters in the header only; Apple's players take no other in an mp4
BIT_EXACT: int = ContainerFlags.bitexact.value  # type: ignore[assignment]  # no clock, no versions


def chroma(info: VideoInfo, encoder: str) -> Chroma:
    """The chroma format that loses least of the source: grey needs none, RGB is near to 4:4:4."""
    written = CODECS[encoder].chroma
    wanted = [info.chroma, *(["444"] if info.chroma == "rgb" else [])]
    return next((c for c in wanted if c in written), "420")


def colour_flag(output: OutputFormat) -> str:
    """libav's mp4 muxer writes a colour box for an untagged film too, if it is asked to."""
    return "+write_colr" if output.color != Color() else "-write_colr"


@contextmanager
def open_part(path: Path, output: OutputFormat, encoder: Encoder) -> Iterator[PartWriter]:
    """A writer of one part; left normally the file is closed and on the disk.

    Left by an exception, the file is closed as it is and the caller deletes it. Raises DiskFull,
    and ValueError where nothing was written.
    """
    with guarded(path):
        container = av.open(
            str(path),
            "w",
            format="mp4",
            container_options={
                "movie_timescale": str(output.time_base.denominator),
                "video_track_timescale": str(output.time_base.denominator),
                "movflags": colour_flag(output),
            },
        )
        container.flags |= BIT_EXACT
        try:
            writer = PartWriter(
                container=container,
                stream=_stream(container, output, encoder),
                pictures=color.Writer(output, encoder.codec),
                output=output,
            )
            yield writer
            if not writer.frames:
                raise ValueError(f"{path}: a part needs at least one frame")
            container.mux(_last(writer))
        except BaseException:
            with suppress(av.FFmpegError, OSError):
                container.close()
            raise
        container.close()
        settle(path)


def _stream(container: OutputContainer, output: OutputFormat, encoder: Encoder) -> VideoStream:
    name, options = encoders.LIBAV[encoder.codec], encoders.options(encoder)
    stream = container.add_stream(name, rate=output.rate, options=options)
    assert isinstance(stream, VideoStream)
    context = stream.codec_context
    if context.codec.canonical_name == "hevc":
        context.codec_tag = HEVC
    context.width, context.height = output.width, output.height
    context.pix_fmt = color.pixel_format(encoder.codec, output.chroma, output.bits)
    # Both, and before the first packet: else libav rounds the stamps to 1 / rate.
    stream.time_base = output.time_base
    context.time_base = output.time_base
    context.sample_aspect_ratio = output.sar
    context.thread_count = encoder.threads
    context.thread_type = ThreadType.SLICE if encoder.codec == "ffv1" else ThreadType.FRAME
    context.flags |= CodecFlags.bitexact | CodecFlags.closed_gop | CodecFlags.global_header
    color.tag(context, output.color)
    return stream


def _last(writer: PartWriter) -> list[AnyPacket]:
    """What the encoder still holds. x265 leaves open when one or two frames are decoded."""
    packets = writer.stream.encode(None)
    if writer.frames <= _IN_ORDER:
        for packet in packets:
            packet.dts = packet.pts
    return packets


@dataclass(slots=True, kw_only=True)
class PartWriter:
    """Encodes clips into an open part."""

    container: OutputContainer
    stream: VideoStream
    pictures: color.Writer
    output: OutputFormat
    frames: int = 0  # written so far

    def _encode(self, frame: av.VideoFrame) -> list[AnyPacket]:
        if self.frames:
            return self.stream.encode(frame)
        with encoders.ordinary_priority():  # the first frame opens the encoder
            return self.stream.encode(frame)

    def write(self, clip: Clip, pts: Sequence[int]) -> None:
        """Append `clip`; `pts` [T] in ticks of the output's time base, strictly rising."""
        strike("write")
        for pixels, at in zip(clip.pixels, pts, strict=True):
            frame = self.pictures.frame(pixels)
            frame.pts = at
            frame.time_base = self.output.time_base
            self.container.mux(self._encode(frame))
            self.frames += 1
