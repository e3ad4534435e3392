"""Films made to be looked at in a browser: H.264 with 8 bits, BT.709, frames at their own times."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from longtake.core.media import Clip, Color, OutputFormat
from longtake.core.plan import Encoder
from longtake.core.plugins import find
from longtake.core.ports import Sink, Writer
from longtake.media.sheet import RGB, Sheet
from longtake.media.sides import Size

TICKS = 120_000  # per second: exact for all usual rates
_TAGS = Color(matrix=1, primaries=1, transfer=1, full_range=False)


@dataclass(slots=True)
class Reel:
    """An open film; frames come with their times in s."""

    writer: Writer
    zero: Fraction | None = None  # s: when the first frame is shown
    frames: int = 0
    pts: int = -1  # of the last frame, ticks

    def add(self, picture: RGB, at: Fraction) -> None:
        self.zero = at if self.zero is None else self.zero
        self.pts = max(self.pts + 1, round((at - self.zero) * TICKS))
        self.writer.write(Clip(pixels=picture[None], start=self.frames), [self.pts])
        self.frames += 1


@contextmanager
def reel(path: Path, size: Size, rate: Fraction) -> Generator[Reel]:
    """A film at `path` (.mp4); `rate` is its usual one."""
    sink: Sink = find("media.sinks", "mp4")
    output = OutputFormat(
        width=size[0], height=size[1], rate=rate, time_base=Fraction(1, TICKS), variable=True,
        bits=8, chroma="420", color=_TAGS, matrix=1, full_range=False, sar=Fraction(1), rotation=0,
    )  # fmt: skip
    encoder = Encoder(codec="x264", crf=16, preset="veryfast", threads=4, asm="")
    with sink.open(path, output, encoder, 0) as writer:
        yield Reel(writer)


@dataclass(slots=True)
class Layouts:
    """The asked layouts of two films, each into a film of its own."""

    sheets: Sequence[Sheet]
    reels: Sequence[Reel]

    def add(self, a: RGB, b: RGB, at: Fraction) -> None:
        for sheet, film in zip(self.sheets, self.reels, strict=True):
            film.add(sheet.draw(a, b), at)
