"""One segment to one closed, playable mp4: x264 or FFV1, with exact ticks and nothing of the clock.

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

from longtake.core.faults import strike
from longtake.core.media import Chroma, Clip, Color, OutputFormat, VideoInfo
from longtake.core.plan import Encoder
from longtake.media import color
from longtake.media.sinks._files import guarded, settle

SUFFIX = ".mp4"
CODECS = ("x264", "ffv1")
BIT_EXACT: int = ContainerFlags.bitexact.value  # type: ignore[assignment]  # no clock, no versions
LIBAV = {"x264": "libx264", "ffv1": "ffv1"}


def chroma(info: VideoInfo, encoder: str) -> Chroma:
    """The chroma format that loses nothing of the source: grey needs none, x264 has no RGB."""
    if info.chroma == "gray":
        return "420"
    if info.chroma == "rgb" and encoder == "x264":
        return "444"
    return info.chroma


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
            container.mux(writer.stream.encode(None))
        except BaseException:
            with suppress(av.FFmpegError, OSError):
                container.close()
            raise
        container.close()
        settle(path)


def _stream(container: OutputContainer, output: OutputFormat, encoder: Encoder) -> VideoStream:
    options = {"x264": _x264, "ffv1": _ffv1}[encoder.codec](encoder)
    stream = container.add_stream(LIBAV[encoder.codec], rate=output.rate, options=options)
    assert isinstance(stream, VideoStream)
    context = stream.codec_context
    context.width, context.height = output.width, output.height
    context.pix_fmt = color.pixel_format(encoder.codec, output.chroma, output.bits)
    # Both, and before the first packet: else libav rounds the stamps to 1 / rate.
    stream.time_base = output.time_base
    context.time_base = output.time_base
    context.sample_aspect_ratio = output.sar
    context.thread_count = encoder.threads
    context.thread_type = ThreadType.FRAME if encoder.codec == "x264" else ThreadType.SLICE
    context.flags |= CodecFlags.bitexact | CodecFlags.closed_gop | CodecFlags.global_header
    color.tag(context, output.color)
    return stream


def _x264(encoder: Encoder) -> dict[str, str]:
    asm = {"x264-params": f"asm={encoder.asm}"} if encoder.asm else {}
    return {"crf": str(encoder.crf), "preset": encoder.preset, **asm}


def _ffv1(_: Encoder) -> dict[str, str]:
    """Version 3 (checksums in every slice), every frame a keyframe."""
    return {"level": "3", "slicecrc": "1", "g": "1"}


@dataclass(slots=True, kw_only=True)
class PartWriter:
    """Encodes clips into an open part."""

    container: OutputContainer
    stream: VideoStream
    pictures: color.Writer
    output: OutputFormat
    frames: int = 0  # written so far

    def write(self, clip: Clip, pts: Sequence[int]) -> None:
        """Append `clip`; `pts` [T] in ticks of the output's time base, strictly rising."""
        strike("write")
        for pixels, at in zip(clip.pixels, pts, strict=True):
            frame = self.pictures.frame(pixels)
            frame.pts = at
            frame.time_base = self.output.time_base
            self.container.mux(self.stream.encode(frame))
            self.frames += 1
