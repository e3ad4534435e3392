"""Two films of the same picture content, side by side in time: what is compared with what.

A side is a film or a folder of pictures, read from its beginning to its end, one frame at a time.
Two sides meet by time, never by frame number: rates may differ or vary.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from longtake.core.errors import BadInput
from longtake.core.media import UNSPECIFIED, OutputFormat, VideoInfo
from longtake.media import _decode, color, images
from longtake.media._clock import Clock
from longtake.media.probe import probe

Size = tuple[int, int]  # (width, height) px
_PLAIN = ("yuv", "nv12", "nv16", "nv24", "p010", "p016", "p210", "gray")
_HIGH = ("p010", "p016", "p210")  # their samples lie in the upper bits of 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How luma is counted: H.273 matrix, range, bits (8, 10 or 16)."""

    matrix: int
    full: bool
    bits: int

    @property
    def format(self) -> str:
        """libav's name of a plane of such luma."""
        return {8: "gray", 10: "gray10le", 16: "gray16le"}[self.bits]

    @property
    def peak(self) -> int:
        return (1 << self.bits) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A decoded frame and the time during which it is shown, s on the film's own clock."""

    number: int
    time: Fraction
    end: Fraction
    picture: av.VideoFrame


class Eye:
    """Decoded frames of one film as upright arrays, read with its matrix and range."""

    def __init__(self, info: VideoInfo, matrix: int, full: bool) -> None:
        self.info = info
        self.matrix = matrix
        self.full = full
        self._turns = round(info.rotation / 90) % 4
        self._rgb = color.Reader(matrix, full, 8)
        self._deep = color.Reader(matrix, full, 16)
        self._writer: tuple[Scale, color.Writer] | None = None

    @property
    def coded(self) -> Size:
        """Size of the upright picture in the film's own samples."""
        size = self.info.width, self.info.height
        return size[::-1] if self._turns % 2 else size

    @property
    def shown(self) -> Size:
        """Size of the upright picture in square pixels: never fewer than there are samples."""
        sar = self.info.sar or Fraction(1)
        width, height = self.info.width, self.info.height
        size = (round(width * sar), height) if sar >= 1 else (width, round(height / sar))
        return size[::-1] if self._turns % 2 else size

    @property
    def scale(self) -> Scale:
        bits = self.info.bits
        deep = 8 if bits <= 8 else 10 if bits <= 10 else 16
        return Scale(matrix=self.matrix, full=self.full, bits=deep)

    def rgb(self, picture: av.VideoFrame) -> NDArray[np.uint8]:
        """[H, W, 3] upright, 8 bits."""
        pixels: Any = self._rgb.rgb(picture)
        return self.upright(pixels)

    def luma(self, picture: av.VideoFrame, scale: Scale) -> NDArray[Any]:
        """[H, W] upright, on `scale`: the coded samples themselves wherever they mean the same."""
        plain = picture.format.name.startswith(_PLAIN) and not picture.format.is_big_endian
        same = (self.matrix, self.full) == (scale.matrix, scale.full)
        if not (plain and same and picture.format.components[0].bits <= scale.bits):
            return self.upright(self._converted(picture, scale))
        return self.upright(_samples(picture, scale))

    def upright(self, pixels: NDArray[Any]) -> NDArray[Any]:
        return np.rot90(pixels, self._turns) if self._turns else pixels

    def _converted(self, picture: av.VideoFrame, scale: Scale) -> NDArray[Any]:
        """By way of RGB with 16 bits, from this film's matrix and range to the scale's."""
        if self._writer is None or self._writer[0] != scale:
            self._writer = scale, color.Writer(_luma_format(self.info, scale), "ffv1")
        coded = self._writer[1].frame(self._deep.rgb(picture))
        return _samples(coded, scale)


def _luma_format(info: VideoInfo, scale: Scale) -> OutputFormat:
    return OutputFormat(
        width=info.width, height=info.height, rate=info.rate, time_base=info.time_base,
        variable=False, bits=scale.bits, chroma="444", color=info.color, matrix=scale.matrix,
        full_range=scale.full, sar=Fraction(1), rotation=0,
    )  # fmt: skip


def _samples(picture: av.VideoFrame, scale: Scale) -> NDArray[Any]:
    """The first plane, its bits made those of `scale`; a copy."""
    plane: Any = picture.planes[0]
    bits = picture.format.components[0].bits
    kind = np.dtype(np.uint8) if bits <= 8 else np.dtype("<u2")
    rows: NDArray[Any] = np.frombuffer(plane, kind).reshape(-1, plane.line_size // kind.itemsize)
    luma = rows[: picture.height, : picture.width]
    if picture.format.name.startswith(_HIGH):
        luma = luma >> (16 - bits)
    if bits == scale.bits:
        return luma.copy()
    if scale.full:  # 255 means 1023
        deep = luma.astype(np.uint32) * scale.peak
        return ((2 * deep + (1 << bits) - 1) // (2 * ((1 << bits) - 1))).astype(np.uint16)
    return luma.astype(np.uint16) << (scale.bits - bits)


class Side(Eye):
    """One film or folder, from its file. Raises BadInput for what cannot be read.

    `like`: where the film states no matrix, it is read as this other one is.
    """

    def __init__(
        self,
        path: Path,
        rate: Fraction | None = None,
        assume: str | None = None,
        like: Eye | None = None,
    ) -> None:
        info = probe(path, rate)
        matrix, full, guess = color.reading_of(info, assume)
        self.guessed = guess is not None
        if guess and like is not None and like.matrix != color.IDENTITY:
            matrix, guess = like.matrix, f": read and written as {_name(like.matrix, full)}, "
        super().__init__(info, matrix, full)
        self.notes = tuple(x for x in (*info.notes, *_warnings(info, guess)) if x)
        self.lost = 0  # packets that could not be decoded, so far

    @property
    def name(self) -> str:
        return self.info.path.name or str(self.info.path)

    def frames(self) -> Generator[Shown]:
        """Every frame in the order of the film; the end of the last is what its header says."""
        step = 1 / (self.info.rate or Fraction(25))
        held: Shown | None = None
        with closing(self._timed()) as timed:
            for number, (time, duration, picture) in enumerate(timed):
                if held is not None:
                    yield replace(held, end=time)
                held = Shown(
                    number=number, time=time, end=time + (duration or step), picture=picture
                )
        if held is not None:
            yield held

    def begin(self) -> Fraction:
        """When the first frame is shown, s on the film's own clock. Raises BadInput."""
        with closing(self.frames()) as frames:
            first = next(frames, None)
        if first is None:
            raise BadInput(f"{self.info.path}: not one frame of it can be decoded.")
        return first.time

    def _timed(self) -> Generator[tuple[Fraction, Fraction, av.VideoFrame]]:
        """(time s, stated duration s, frame)."""
        info, tick = self.info, self.info.time_base
        if info.container == "images":
            for number, picture in enumerate(images.frames(info, 0, info.frames)):
                yield number / info.rate, Fraction(0), picture
            return
        container, stream = _decode.open_stream(info.path, info.stream)
        with container:
            origin = _decode.clock_origin(container)
            clock = Clock(1 / ((info.rate or Fraction(25)) * tick))
            tally = _decode.Tally()
            with closing(_decode.frames(container, stream, tally, info.path)) as found:
                for number, picture in enumerate(found):
                    if (picture.width, picture.height) != (info.width, info.height):
                        raise BadInput(
                            f"{info.path}: frame {number} is {picture.width}x{picture.height} px, "
                            f"those before it are {info.width}x{info.height}: a change of size "
                            "inside a film is not supported."
                        )
                    time = clock.show(_decode.raw_time(picture)) * tick - origin
                    yield time, (picture.duration or 0) * tick, picture
                    self.lost = tally.errors


def two(a: Path, b: Path, rate: Fraction | None, assume: str | None) -> tuple[Side, Side]:
    """Two films of one content: what one of them does not say of its rate (a folder of pictures)
    or colours the other one tells.

    Where neither says anything, the smaller one is guessed (it is the likelier source) and both
    are read so. Raises BadInput.
    """
    pace, told = _pace(a, b) if rate is None else (rate, None)
    one, other = (Side(path, pace, assume) for path in (a, b))
    area = [side.info.width * side.info.height for side in (one, other)]
    if other.guessed and not (one.guessed and area[1] < area[0]):
        other = Side(b, pace, assume, one)
    elif one.guessed:
        one = Side(a, pace, assume, other)
    for side in (one, other):
        if told and side.info.container == "images":
            side.notes += (told,)
    return one, other


def _pace(a: Path, b: Path) -> tuple[Fraction | None, str | None]:
    """The rate for a folder of pictures beside a film: the film's, and words on it."""
    if a.is_dir() == b.is_dir():
        return None, None
    rate = probe(b if a.is_dir() else a).rate
    return rate, f"Its pictures are shown at the other film's {float(rate):.3f} fps: see --rate."


def _name(matrix: int, full: bool) -> str:
    return f"{color.MATRICES[matrix]}-{'full' if full else 'limited'}"


def _warnings(info: VideoInfo, guess: str | None) -> Iterator[str]:
    if guess and info.color.matrix == UNSPECIFIED:
        words = guess.partition(": read and written as ")[2].partition(",")[0]
        yield f"It states no colour matrix: read as {words}."
    if info.color.hdr:
        yield "It is HDR: measured as coded, and too dark or too pale in the pictures made of it."
    if info.alpha:
        yield "It has an alpha channel, which is left out."
    if info.rotation % 90:
        yield f"It is turned by {info.rotation} degrees; only quarter turns are followed."
    if info.fields in ("tff", "bff"):
        yield "It is interlaced: its frames are compared as they are, both fields in one."


def common(a: Eye, b: Eye) -> Scale:
    """The luma scale for two films: the first's, with the bits of the deeper one.

    A film of RGB has no luma of its own: the other's scale is taken, else BT.709 with full range.
    """
    bits = max(a.scale.bits, b.scale.bits)
    coded = [eye for eye in (a, b) if eye.matrix != color.IDENTITY]
    if not coded:
        return Scale(matrix=color.ASSUMED["bt709"], full=True, bits=bits)
    return replace(coded[0].scale, bits=bits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What both films show at `time` (s, on the clock of A)."""

    time: Fraction
    a: Shown
    b: Shown
    judged: bool  # False: only B changes here; A's frame has been judged already


def pairs(a: Iterator[Shown], b: Iterator[Shown], step: Fraction) -> Iterator[Pair]:
    """Every frame of both films during the time that they have in common.

    Each frame of A is judged once, against the frame that B shows in its middle, or half a frame of
    B (`step` s is its usual length) after its beginning where that is earlier: so rounded and
    trembling timestamps do not matter. Frames of B that no frame of A meets (a higher rate) come
    with the frame that A shows meanwhile.
    """
    last: Pair | None = None
    other = next(b, None)
    for one in a:
        moment = one.time + min(one.end - one.time, step) / 2
        while other is not None and other.end <= moment:
            passed, other = other, next(b, None)
            if last is not None and passed is not last.b:
                yield Pair(time=passed.time, a=last.a, b=passed, judged=False)
        if other is None:
            return
        if other.time > moment:
            continue  # B has not begun
        last = Pair(time=one.time, a=one, b=other, judged=True)
        yield last
    if last is None:
        return
    for rest in b:
        if rest.time >= last.a.end:
            return
        yield Pair(time=rest.time, a=last.a, b=rest, judged=False)


def moved(frames: Iterator[Shown], by: Fraction) -> Iterator[Shown]:
    """The same frames, shown later by so many seconds."""
    return (replace(f, time=f.time + by, end=f.end + by) for f in frames)
