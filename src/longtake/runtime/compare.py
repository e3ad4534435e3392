"""Compare two films of the same picture content: figures, films beside each other, a page."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

from longtake.core.errors import BadInput
from longtake.core.events import Compared, Event, Likened, Warned
from longtake.media import stills
from longtake.media.color import MATRICES
from longtake.media.likeness import CAP, Likeness, Tally, finite
from longtake.media.sheet import Fitter, Layout, Sheet, grid_of
from longtake.media.sides import Eye, Pair, Shown, Side, Size, common, moved, pairs, two
from longtake.runtime import outcome, workfolder
from longtake.runtime.report import Moment, Plot, Report, Rows, stamp
from longtake.runtime.showreel import Layouts, reel
from longtake.runtime.stages import ahead

At = Literal["a", "b", "larger"]
SPREAD = 3  # stills spread evenly over the film, beside the worst
_TELL = 32  # frames between two reports
_AHEAD = 2  # frames decoded ahead of each film


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What is asked."""

    a: Path
    b: Path
    target: Path
    layouts: tuple[Layout, ...] = ("side", "difference")
    gain: int = 8
    at: At = "a"
    align: Literal["clock", "first"] = "clock"
    shift: Fraction = Fraction(0)  # s by which B is shown later
    rate: Fraction | None = None  # of image folders
    assume: str | None = None
    restart: bool = False


def compare(ask: Comparison) -> Iterator[Event]:
    """Report as it goes. The folder `ask.target` appears, whole, with the `Likened` event.

    Raises BadInput for what cannot be read or has no common time, Usage for a bad target.
    """
    began = time.monotonic()
    with outcome.folder(ask.target, ask.restart, (ask.a, ask.b)) as work:
        try:
            run = _Run.begun(ask, outcome.emptied(work))
            for note in run.notes:
                yield Warned(message=note)
            yield from run.measured()
            for note in run.missed():
                yield Warned(message=note)
            done = run.concluded(time.monotonic() - began)
            outcome.publish(work, ask.target)
        finally:
            workfolder.clear(work)  # nothing of it could be gone on with
    yield done


class _Watched:
    """Frames passed on, and whether there were no more."""

    def __init__(self, frames: Iterator[Shown]) -> None:
        self._frames = frames
        self.ended = False

    def __iter__(self) -> Iterator[Shown]:
        return self

    def __next__(self) -> Shown:
        try:
            return next(self._frames)
        except StopIteration:
            self.ended = True
            raise


def _larger(one: Size, other: Size) -> Size:
    return max(one, other, key=lambda s: (s[0] * s[1], s))


def _measured_size(at: At, a: Eye, b: Eye) -> Size:
    if at == "larger":
        return _larger(a.coded, b.coded)
    return a.coded if at == "a" else b.coded


@dataclass(slots=True, kw_only=True)
class _Run:
    """One pass over both films."""

    ask: Comparison
    folder: Path
    a: Side
    b: Side
    likeness: Likeness
    choice: stills.Choice[tuple[Shown, Shown]]
    begins: tuple[Fraction, Fraction]  # s: of A's and B's clocks
    zeros: tuple[Fraction, Fraction]  # s taken off each clock
    tally: Tally = field(default_factory=Tally)
    first: Pair | None = None
    last: Pair | None = None
    notes: list[str] = field(default_factory=list)
    watched: tuple[_Watched, ...] = ()

    @staticmethod
    def begun(ask: Comparison, folder: Path) -> _Run:
        a, b = two(ask.a, ask.b, ask.rate, ask.assume)
        starts = a.begin(), b.begin()
        zeros = starts if ask.align == "first" else (Fraction(0), Fraction(0))
        opens = starts[0] - zeros[0], starts[1] - zeros[1] + ask.shift
        ends = opens[0] + a.info.duration, opens[1] + b.info.duration
        begin, length = max(opens), max(Fraction(0), min(ends) - max(opens))
        run = _Run(
            ask=ask, folder=folder, a=a, b=b,
            likeness=Likeness(_measured_size(ask.at, a, b), common(a, b)),
            choice=stills.Choice(
                spread=tuple(begin + length * (2 * n + 1) / (2 * SPREAD) for n in range(SPREAD)),
                apart=max(Fraction(1), length / 20),
            ),
            begins=starts, zeros=zeros,
        )  # fmt: skip
        run.notes += [f"A ({a.name}): {n}" for n in a.notes]
        run.notes += [f"B ({b.name}): {n}" for n in b.notes]
        run._differences()
        return run

    @property
    def size(self) -> Size:
        """The larger of both pictures in square pixels: that of a view."""
        return _larger(self.a.shown, self.b.shown)

    def measured(self) -> Iterator[Event]:
        """Decode both, once: figures to the table, views to the films."""
        expected = max(1, round(min(self.a.info.duration, self.b.info.duration) * self.a.info.rate))
        columns = ("frame_a", "frame_b", "time_a", "time_b", "psnr_y", "ssim_y")
        with ExitStack() as stack:
            table = stack.enter_context(outcome.Table(self.folder / "frames.csv", columns))
            layouts = self._layouts(stack)
            met = stack.enter_context(closing(self._met()))
            for pair in met:
                if pair.judged:
                    self._judge(pair, table)
                if layouts.reels:
                    a, b = self.a.rgb(pair.a.picture), self.b.rgb(pair.b.picture)
                    layouts.add(a, b, pair.time)
                if pair.judged and self.tally.frames % _TELL == 0:
                    yield Compared(frames=self.tally.frames, of=max(expected, self.tally.frames))
            if self.first is None:
                raise BadInput(self._apart())
        yield Compared(frames=self.tally.frames, of=self.tally.frames)

    def _layouts(self, stack: ExitStack) -> Layouts:
        labels = tuple(f"{n} {side.name}" for n, side in zip("AB", (self.a, self.b), strict=True))
        sheets = [Sheet(layout, self.size, labels, self.ask.gain) for layout in self.ask.layouts]
        rate = max(self.a.info.rate, self.b.info.rate)
        reels = [
            stack.enter_context(reel(self.folder / f"{s.layout}.mp4", s.size, rate)) for s in sheets
        ]
        return Layouts(sheets, reels)

    def _met(self) -> Generator[Pair]:
        with (
            closing(ahead(self.a.frames(), _AHEAD)) as a,
            closing(ahead(self.b.frames(), _AHEAD)) as b,
        ):
            self.watched = _Watched(a), _Watched(b)
            shift = self.ask.shift - self.zeros[1]
            step = 1 / (self.b.info.rate or Fraction(25))
            one, other = self.watched
            for pair in pairs(moved(one, -self.zeros[0]), moved(other, shift), step):
                self.first = self.first or pair
                self.last = pair
                yield pair

    def _judge(self, pair: Pair, table: outcome.Table) -> None:
        scale = self.likeness.scale
        mark = self.likeness.mark(
            self.a.luma(pair.a.picture, scale), self.b.luma(pair.b.picture, scale)
        )
        self.tally.add(mark, pair.a.number)
        table.add(
            pair.a.number, pair.b.number, float(pair.a.time), float(pair.b.time), mark.psnr,
            mark.ssim,
        )  # fmt: skip
        self.choice.see(pair.a.number, pair.time, mark.psnr, (pair.a, pair.b))

    def _differences(self) -> None:
        """What a reader should know before the figures."""
        shapes = [Fraction(*eye.shown) for eye in (self.a, self.b)]
        if abs(shapes[0] / shapes[1] - 1) > Fraction(1, 50):
            self.notes.append(
                f"The pictures have different shapes ({_px(self.a.shown)} and {_px(self.b.shown)} "
                f"in square pixels): they are stretched to one shape."
            )
        if self.ask.align == "clock" and self.begins[0] != self.begins[1]:
            later = float(self.begins[1] - self.begins[0])
            self.notes.append(
                f"B begins {abs(later):.3f} s {'later' if later > 0 else 'earlier'} than A on its "
                f"own clock; times are compared as they are. If only the files differ and not the "
                f"pictures, use --align first."
            )
        for layout in self.ask.layouts:
            columns, rows = grid_of(layout)
            cell = Sheet(layout, self.size, ("A", "B"), 1).cell
            if cell[0] < self.size[0] - 1:
                self.notes.append(
                    f"{layout}.mp4: {columns * self.size[0]}x{rows * self.size[1]} px would be too "
                    f"large for browsers; each view is reduced to {_px(cell)}."
                )

    def missed(self) -> list[str]:
        """Faults found and frames left out, once the films have been read."""
        notes = [
            f"{name}: {side.lost} packets could not be decoded and were left out."
            for name, side in (("A", self.a), ("B", self.b))
            if side.lost
        ]
        assert self.first is not None
        for name, other, before in (("A", "B", self.first.a), ("B", "A", self.first.b)):
            if before.number:
                notes.append(f"{before.number} frames of {name} lie before {other} begins.")
        for name, other, side, seen in zip("AB", "BA", (self.a, self.b), self.watched, strict=True):
            if not seen.ended:
                notes.append(
                    f"{name} goes on after the end of {other}: it lasts "
                    f"{float(side.info.duration):.3f} s by its header, and what lies behind "
                    f"{stamp(float(self.last.time if self.last else 0))} was not compared."
                )
        self.notes += notes
        return notes

    def _apart(self) -> str:
        begins = [start - zero for start, zero in zip(self.begins, self.zeros, strict=True)]
        begins[1] += self.ask.shift
        a, b = (
            f"{stamp(float(begin))} to {stamp(float(begin + side.info.duration))}"
            for begin, side in zip(begins, (self.a, self.b), strict=True)
        )
        return (
            f"{self.ask.a} and {self.ask.b} have no time in common: A has {a}, B has {b}. "
            "--align first lays their beginnings on each other, --shift moves B."
        )

    def concluded(self, seconds: float) -> Likened:
        """Write the stills, the summary and the page."""
        tally, chosen = self.tally, self.choice.chosen()
        moments = [self._moment(still) for still in chosen]
        done = Likened(
            folder=self.ask.target,
            frames=tally.frames,
            identical=tally.identical,
            psnr_y=finite(tally.psnr),
            worst_psnr_y=finite(tally.least_psnr[0]),
            worst_frame=tally.least_psnr[1] if math.isfinite(tally.least_psnr[0]) else None,
            ssim_y=tally.ssim,
            worst_ssim_y=tally.least_ssim[0] if tally.measured else None,
            at=self.likeness.size,
            seconds=seconds,
        )
        assert self.first is not None
        assert self.last is not None
        span = float(self.first.time), float(self.last.time)
        plots = [
            Plot(caption="PSNR of luma", unit="dB", curve=tally.psnr_bins.curve(), seconds=span),
            Plot(caption="SSIM of luma", unit="", curve=tally.ssim_bins.curve(), seconds=span),
        ]
        page = Report(
            title=f"{self.a.name} and {self.b.name}",
            notes=self.notes,
            tables=[self._figures(), self._films(), self._frames(chosen)],
            plots=plots,
            views=[f"A: {self.a.name}", f"B: {self.b.name}"],
            moments=moments,
            first=stills.worst_of(chosen),
            videos=[(f"{_CAPTIONS[n]} ({n}.mp4)", f"{n}.mp4") for n in self.ask.layouts],
        )
        outcome.write_page(self.folder / outcome.REPORT, page.html())
        outcome.write_json(self.folder / outcome.SUMMARY, self._summary(done))
        return done

    def _moment(self, still: stills.Still[tuple[Shown, Shown]]) -> Moment:
        pictures = []
        for name, eye, shown in zip("ab", (self.a, self.b), still.content, strict=True):
            pixels = Fitter(self.size).fit(eye.rgb(shown.picture))
            path = self.folder / outcome.STILLS / f"{still.number:08d}-{name}.png"
            path.write_bytes(stills.png(pixels))
            pictures.append(stills.embedded(pixels))
        return Moment(
            name=f"frame {still.number}, {stamp(float(still.time))}",
            about=f"Frame {still.number} of A at {stamp(float(still.time))}, {still.why}: "
            f"PSNR {decibels(still.likeness)}.",
            pictures=pictures,
        )

    def _figures(self) -> Rows:
        tally = self.tally
        width, height = self.likeness.size
        least, ssim = tally.least_psnr, tally.least_ssim
        rows = [
            ("luma", "all frames", "worst frame"),
            ("PSNR", decibels(tally.psnr), f"{decibels(least[0])} (frame {least[1]} of A)"),
            ("SSIM", "not measured" if tally.ssim is None else f"{tally.ssim:.6f}",
             f"{ssim[0]:.6f} (frame {ssim[1]} of A)" if tally.measured else "not measured"),
            ("frames", f"{tally.frames:,}", f"{tally.identical:,} of them identical"),
        ]  # fmt: skip
        capped = f" Identical frames are drawn at {CAP:g} dB." if tally.identical else ""
        caption = (
            f"B against A at {width}x{height} px (--at {self.ask.at}); the other size is brought "
            f"to it with swscale's bicubic kernel. Luma {luma_words(self.likeness)}. PSNR of all "
            "frames is that of their mean squared error, SSIM the mean; both by libavfilter."
            f"{capped}"
        )
        return Rows(caption=caption, rows=rows)

    def _films(self) -> Rows:
        rows = [("", "A", "B")]
        described = [_described(side) for side in (self.a, self.b)]
        rows += [(name, one, described[1][name]) for name, one in described[0].items()]
        return Rows(caption="The two films.", rows=rows)

    def _frames(self, chosen: Sequence[stills.Still[tuple[Shown, Shown]]]) -> Rows:
        rows = [("frame of A", "frame of B", "time", "PSNR", "chosen as")]
        rows += [
            (str(s.number), str(s.content[1].number), stamp(float(s.time)), decibels(s.likeness),
             s.why)
            for s in chosen
        ]  # fmt: skip
        return Rows(caption="The frames below; the same as PNG files in the folder stills. Pictures"
                    f" are {_px(self.size)} in square pixels, enlarged with Lanczos where they are "
                    "smaller.", rows=rows)  # fmt: skip

    def _summary(self, done: Likened) -> dict[str, object]:
        return {
            "a": str(self.ask.a), "b": str(self.ask.b), "frames": done.frames,
            "identical_frames": done.identical, "psnr_y": done.psnr_y,
            "worst_psnr_y": done.worst_psnr_y, "worst_frame": done.worst_frame,
            "ssim_y": done.ssim_y, "worst_ssim_y": done.worst_ssim_y, "at": list(done.at),
            "luma": luma_words(self.likeness), "begin": float(self.first.time if self.first else 0),
            "end": float(self.last.time if self.last else 0), "layouts": list(self.ask.layouts),
            "gain": self.ask.gain, "notes": self.notes,
        }  # fmt: skip


_CAPTIONS = {
    "side": "Beside each other", "stack": "Above each other", "split": "Two halves of one picture",
    "difference": "Differences, amplified",
}  # fmt: skip


def _px(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def decibels(value: float) -> str:
    return "identical" if math.isinf(value) else f"{value:.3f} dB"


def luma_words(likeness: Likeness) -> str:
    scale = likeness.scale
    span = "full" if scale.full else "limited"
    return f"of {scale.bits} bits, {MATRICES[scale.matrix]}, {span} range"


def _described(side: Side) -> dict[str, str]:
    info = side.info
    variable = ", variable" if info.variable else ""
    return {
        "file": str(info.path),
        "picture": f"{info.codec}, {info.width}x{info.height} px, {info.bits} bit {info.chroma}",
        "shape": f"sample aspect ratio {info.sar}, rotated by {info.rotation} degrees: "
        f"{_px(side.shown)} in square pixels",
        "time": f"{float(info.rate):.3f} fps{variable}, {float(info.duration):.3f} s by its header",
    }
