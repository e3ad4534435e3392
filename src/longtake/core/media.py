"""What flows: runs of frames, and what is known of a film before its frames are worked on."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
Chroma = Literal["420", "422", "444", "gray", "rgb"]
FieldOrder = Literal["progressive", "tff", "bff", "unknown"]
Pulldown = Literal["none", "3:2", "2:3:3:2", "repeat", "soft"]
"""repeat: whole frames shown twice; soft: the film's own frames, with flags that say how long each
is shown."""
Deinterlace = Literal["no", "bwdif", "ivtc"]
TrackKind = Literal["video", "audio", "subtitle", "attachment", "data"]

UNSPECIFIED = 2  # H.273: a code point that the stream does not state


@dataclass(frozen=True, slots=True, kw_only=True)
class Color:
    """Colour tags as ITU-T H.273 code points; `UNSPECIFIED` where the source states nothing."""

    matrix: int = UNSPECIFIED
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    full_range: bool | None = None  # None: not stated

    @property
    def hdr(self) -> bool:
        """True for PQ (16) and HLG (18) transfer curves."""
        return self.transfer in (16, 18)


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """A stream of the source beside its film: sound, subtitles, cover art, fonts, data."""

    index: int  # stream index in the container
    kind: TrackKind
    codec: str
    language: str = ""
    title: str = ""
    channels: int = 0
    sample_rate: int = 0  # Hz


@dataclass(frozen=True, slots=True, kw_only=True)
class Telecine:
    """Whether a film was brought from 24 to 30 frames/s (1000/1001 of both, as a rule), and how."""

    pattern: Pulldown
    share: float  # of the cycles of five frames in which something moves: those with the pattern
    cycles: int  # of five frames in which something moves, among those looked at
    frames: int = 0  # of the film without the repeats; 0 until it is analysed with ivtc

    @property
    def found(self) -> bool:
        return self.pattern != "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoInfo:
    """A source as its header (and, once analysed, its index) describes it."""

    path: Path
    container: str  # libav's name of the demuxer; "images": a folder of pictures; "none": no file
    codec: str
    width: int  # px, as coded: before rotation and sample aspect ratio
    height: int  # px
    frames: int  # exact once `exact`, else from the header or from duration x rate
    exact: bool = False  # True: counted by decoding
    rate: Fraction  # frames / s
    time_base: Fraction  # s per tick of `start` and of every pts
    start: int = 0  # pts of the first frame, ticks
    duration: Fraction = Fraction(0)  # s
    variable: bool = False  # True: the frames do not lie on the grid of `rate`
    bits: int = 8  # per component
    chroma: Chroma = "420"
    alpha: bool = False
    color: Color = field(default_factory=Color)
    sar: Fraction = Fraction(1)  # sample aspect ratio; 1 where not stated
    rotation: int = 0  # degrees, as the display matrix states it
    fields: FieldOrder = "unknown"
    telecine: Telecine | None = None  # None: not looked for
    stream: int = 0  # index of the film's stream
    tracks: tuple[Track, ...] = ()
    chapters: int = 0
    size: int = 0  # bytes of the file(s)
    notes: tuple[str, ...] = ()  # what a user should know: odd headers, guesses made

    def of(self, kind: TrackKind) -> tuple[Track, ...]:
        """The tracks of one kind, in file order."""
        return tuple(t for t in self.tracks if t.kind == kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """Consecutive frames on the host. Floats exist only on a device, inside an engine."""

    pixels: Pixels  # [T, H, W, 3] RGB; uint8, or uint16 over the full 16-bit scale
    start: int  # absolute index of the first frame in the film

    @property
    def stop(self) -> int:
        return self.start + len(self.pixels)

    def within(self, start: int, stop: int) -> Clip:
        """The part of this clip inside absolute frames [start, stop); may be empty."""
        a = min(max(start, self.start), self.stop)
        b = max(min(stop, self.stop), a)
        return Clip(pixels=self.pixels[a - self.start : b - self.start], start=a)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFormat:
    """What the written video looks like, apart from how it is compressed."""

    width: int  # px
    height: int  # px
    rate: Fraction  # frames / s
    time_base: Fraction  # s per tick
    variable: bool  # True: frame i keeps the source's own timestamp; False: start + i / rate
    bits: int  # per component
    chroma: Chroma
    color: Color  # the tags to write; untagged stays untagged
    matrix: int  # H.273 matrix used to go from RGB to YUV and back
    full_range: bool  # range used to go from RGB to YUV and back
    sar: Fraction
    rotation: int  # degrees


Knob = bool | int | float | str
Knobs = dict[str, Knob]
