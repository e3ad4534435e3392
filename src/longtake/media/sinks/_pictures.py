"""A folder of pictures, 8 or 16 bits a component, one file a frame, nothing lost.

Files are named by frame number, `00000000.png`, or as the frames of the source where that is a
folder of pictures. A part is a folder too; joining links its files into the target.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import av
from av.codec.context import Flags as CodecFlags
from av.codec.context import ThreadType
from av.video.codeccontext import VideoCodecContext

from longtake.core.faults import strike
from longtake.core.media import Clip, OutputFormat, VideoInfo
from longtake.core.plan import Encoder, Plan
from longtake.core.ports import Film, Losses, Writer
from longtake.media import color
from longtake.media.sinks._files import PartDamaged, guarded, settle
from longtake.media.tracks import DROPS

_OPTIONS = {
    # A fifth of the time of the usual level 6, for a sixth more bytes.
    "png": {"pred": "paeth", "compression_level": "1"},
    "tiff": {"compression_algo": "deflate", "compression_level": "1"},
}
_WORDS = {"audio": "sound", "subtitle": "subtitles", "attachment": "attachments", "data": "data"}


@dataclass(slots=True, kw_only=True)
class PictureWriter:
    """Encodes clips into numbered files; several pictures may be in work at once."""

    folder: Path
    suffix: str
    context: VideoCodecContext
    pictures: color.Writer
    output: OutputFormat
    number: int  # of the next frame
    waiting: deque[Path] = field(default_factory=deque)
    written: int = 0

    def write(self, clip: Clip, pts: Sequence[int]) -> None:
        """Append `clip`; pictures in a folder have no times, so `pts` only orders them."""
        strike("write")
        for pixels, at in zip(clip.pixels, pts, strict=True):
            frame = self.pictures.frame(pixels)
            frame.pts = at
            frame.time_base = self.output.time_base
            self.waiting.append(self.folder / named(self.number, self.suffix))
            self.number += 1
            self.put(self.context.encode(frame))

    def put(self, packets: Sequence[av.Packet]) -> None:  # type: ignore[type-arg]
        for packet in packets:
            path = self.waiting.popleft()
            path.write_bytes(bytes(packet))
            settle(path)
            self.written += 1


def named(number: int, suffix: str) -> str:
    """The file name of a frame of a film."""
    return f"{number:08d}{suffix}"


@contextmanager
def _open(
    path: Path, output: OutputFormat, encoder: Encoder, first: int
) -> Iterator[PictureWriter]:
    with guarded(path):
        path.mkdir(exist_ok=True)
        for old in path.iterdir():  # of a part that was interrupted
            old.unlink()
        writer = PictureWriter(
            folder=path,
            suffix=suffix_of(encoder),
            context=_context(output, encoder),
            pictures=color.Writer(output, encoder.codec),
            output=output,
            number=first,
        )
        yield writer
        writer.put(writer.context.encode(None))
        if not writer.written:
            raise ValueError(f"{path}: a part needs at least one frame")
        settle(path)


def _context(output: OutputFormat, encoder: Encoder) -> VideoCodecContext:
    context = av.CodecContext.create(encoder.codec, "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height = output.width, output.height
    context.pix_fmt = color.pixel_format(encoder.codec, output.chroma, output.bits)
    context.time_base = output.time_base
    context.framerate = output.rate
    context.sample_aspect_ratio = output.sar
    context.thread_count = encoder.threads
    context.thread_type = ThreadType.FRAME
    context.flags |= CodecFlags.bitexact
    context.options = dict(_OPTIONS[encoder.codec])
    return context


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureSink:
    codecs: tuple[str, ...]
    part: str = ""

    def chroma(self, info: VideoInfo, encoder: str) -> str:
        del info, encoder
        return "rgb"

    def losses(self, info: VideoInfo, drop: Sequence[str]) -> Losses:
        """Nothing is refused: who asks for pictures knows that they are silent, and is told."""
        noted = [
            f"A folder of pictures holds no {word}: {count} track{'s'[: count > 1]} left out."
            for kind, word in _WORDS.items()
            if (count := len([t for t in info.tracks if t.kind == kind]))
            and DROPS[kind] not in drop
        ]
        if info.variable:
            noted.append("A folder of pictures holds no times: those of the frames are lost.")
        if info.rotation:
            noted.append(
                f"A folder of pictures holds no rotation: turn them by {info.rotation} degrees."
            )
        return Losses(noted=tuple(noted))

    def open(
        self, path: Path, output: OutputFormat, encoder: Encoder, first: int
    ) -> AbstractContextManager[Writer]:
        return _open(path, output, encoder, first)

    def join(self, parts: Sequence[Path], target: Path, film: Film, plan: Plan) -> Iterator[int]:
        """Link every file into `target`; an interrupted join can be run again."""
        suffix = suffix_of(plan.recipe.encoder)
        with guarded(target):
            target.mkdir(exist_ok=True)
            for part, segment in zip(parts, plan.segments, strict=False):
                strike("join")
                names = final_names(film, segment.start, segment.stop, suffix)
                held = {p.name for p in part.iterdir()}
                if len(held) > len(names):
                    raise PartDamaged(f"{part} holds {len(held)} pictures instead of {len(names)}.")
                for number, name in enumerate(names, segment.start):
                    _place(part / named(number, suffix), target / name)
                yield segment.stop
            settle(target)


def suffix_of(encoder: Encoder) -> str:
    """What the files of a codec end in."""
    return f".{encoder.codec}"


def final_names(film: Film, start: int, stop: int, suffix: str) -> list[str]:
    """File names of frames [start, stop) in the target."""
    names = film.names(start, stop)
    if names is None:
        return [named(i, suffix) for i in range(start, stop)]
    return [Path(name).with_suffix(suffix).name for name in names]


def _place(made: Path, target: Path) -> None:
    """Put one file into the target, by link or, where the file system has none, by moving."""
    if not made.exists():
        if target.exists():  # moved by a join before this one
            return
        raise PartDamaged(f"{made} is missing.")
    target.unlink(missing_ok=True)
    try:
        os.link(made, target)
    except OSError:
        made.replace(target)
