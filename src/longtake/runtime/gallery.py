"""The source and every clip of a preview together: one film of all, figures, stills, a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from longtake.core.events import Compared, Event
from longtake.media import stills
from longtake.media.likeness import Likeness, Mark, Tally, finite
from longtake.media.sheet import RGB, Fitter, Grid
from longtake.media.sides import Eye, Shown, Side, common
from longtake.media.source import FileFilm
from longtake.planner.explain import bytes_, clock
from longtake.runtime import outcome, variants
from longtake.runtime.compare import decibels, luma_words
from longtake.runtime.report import Moment, Plot, Report, Rows, stamp
from longtake.runtime.showreel import reel
from longtake.runtime.variants import Excerpt, Made

SPREAD = 3  # stills spread evenly, beside the worst
_TELL = 16  # frames between two reports


@dataclass(slots=True, kw_only=True)
class Gallery:
    """The source and all clips together, frame by frame."""

    film: FileFilm  # the source's frames of the range
    source: Eye
    made: Sequence[Made]
    sides: Sequence[Side]
    folder: Path
    excerpt: Excerpt
    labels: tuple[str, ...]
    notes: list[str]
    likenesses: Sequence[Likeness]
    tallies: Sequence[Tally]
    choice: stills.Choice[None]
    times: list[Fraction] = field(default_factory=list)  # s on the film's clock

    @staticmethod
    def begun(
        made: Sequence[Made], excerpt: Excerpt, folder: Path, notes: Sequence[str]
    ) -> Gallery:
        plan = variants.excerpt_plan(variants.frozen(made[0].variant, excerpt), excerpt)
        film = variants.film_of(plan, excerpt.index)
        reading = plan.recipe.read
        source = Eye(plan.info, reading.matrix, reading.full_range)
        sides = [Side(m.clip, like=source) for m in made]
        tick = plan.info.time_base
        times = [p * tick for p in excerpt.index.pts(excerpt.first, excerpt.stop)]
        zero = excerpt.index.pts(0, 1)[0] * tick
        length = times[-1] - times[0]
        return Gallery(
            film=film, source=source, made=made, sides=sides, folder=folder, excerpt=excerpt,
            labels=("source, Lanczos", *(m.variant.name for m in made)), notes=list(notes),
            likenesses=[Likeness(source.coded, common(source, s)) for s in sides],
            tallies=[Tally() for _ in sides],
            choice=stills.Choice(
                spread=tuple(
                    times[0] - zero + length * (2 * n + 1) / (2 * SPREAD) for n in range(SPREAD)
                ),
                apart=max(Fraction(1, 2), length / 8), worst=2,
            ),
            times=[t - zero for t in times],
        )  # fmt: skip

    def compared(self) -> Iterator[Event]:
        """One pass over all: figures to the table, views to the film. Raises BadInput."""
        size = self.sides[0].shown
        grid = Grid(size, self.labels)
        if grid.cell[0] < size[0] - 1:
            self.notes.append(
                f"preview.mp4: each view is reduced from {size[0]}x{size[1]} to {grid.cell[0]}x"
                f"{grid.cell[1]} px, so that browsers can play the film. The clips are not."
            )
        columns = ["frame", "time"]
        for made in self.made:
            columns += [f"psnr_y {made.variant.name}", f"ssim_y {made.variant.name}"]
        of = self.excerpt.frames
        with ExitStack() as stack:
            table = stack.enter_context(outcome.Table(self.folder / "frames.csv", columns))
            rate = self.film.info.rate
            film = stack.enter_context(reel(self.folder / "preview.mp4", grid.size, rate))
            for number, views, marks in self._moments(stack):
                film.add(grid.draw(views), self.times[number])
                at = self.excerpt.first + number
                flat = [x for m in marks for x in (m.psnr, m.ssim)]
                table.add(at, float(self.times[number]), *flat)
                worst = min(m.psnr for m in marks)
                self.choice.see(number, self.times[number], worst, None)
                if number % _TELL == 0:
                    yield Compared(frames=number, of=of)
        yield Compared(frames=of, of=of)

    def _moments(self, stack: ExitStack) -> Iterator[tuple[int, list[RGB], list[Mark]]]:
        """(number in the range, every view in its own size, marks of the variants)."""
        for number, picture, others in self._decoded(stack):
            views, marks = [self.source.rgb(picture)], []
            for at, (side, shown) in enumerate(zip(self.sides, others, strict=True)):
                likeness = self.likenesses[at]
                mark = likeness.mark(
                    self.source.luma(picture, likeness.scale),
                    side.luma(shown.picture, likeness.scale),
                )
                self.tallies[at].add(mark, self.excerpt.first + number)
                marks.append(mark)
                views.append(side.rgb(shown.picture))
            yield number, views, marks

    def _decoded(self, stack: ExitStack) -> Iterator[tuple[int, Any, tuple[Shown, ...]]]:
        """(number in the range, the source's frame, the clips' frames)."""
        pictures = stack.enter_context(closing(self.film.pictures(0, self.excerpt.frames)))
        clips = [stack.enter_context(closing(s.frames())) for s in self.sides]
        together = zip(pictures, zip(*clips, strict=True), strict=True)
        for number, (picture, others) in enumerate(together):
            yield number, picture, others

    def concluded(self, source: Path) -> None:
        """Write the stills, name the clips, write summary and page."""
        moments = list(self._stills())
        names = [self._kept(number, made) for number, made in enumerate(self.made, 1)]
        span = float(self.times[0]), float(self.times[-1])
        page = Report(
            title=f"Preview of {source.name} at {stamp(span[0])}",
            notes=self.notes,
            tables=[self._predicted(), self._fidelity()],
            plots=[
                Plot(
                    caption=f"{made.variant.name}: PSNR of luma to the source, made small again",
                    unit="dB", curve=tally.psnr_bins.curve(), seconds=span,
                )
                for made, tally in zip(self.made, self.tallies, strict=True)
            ],
            views=self.labels,
            moments=moments,
            first=stills.worst_of(self.choice.chosen()),
            videos=[
                ("All views (preview.mp4)", "preview.mp4"),
                *((f"{m.variant.name} ({n})", n) for m, n in zip(self.made, names, strict=True)),
            ],
        )  # fmt: skip
        outcome.write_page(self.folder / outcome.REPORT, page.html())
        outcome.write_json(self.folder / outcome.SUMMARY, self._summary(source, names))

    def _kept(self, number: int, made: Made) -> str:
        """Move a clip among the results; returns its name."""
        plain = "".join(c if c.isalnum() else "-" for c in made.variant.name).strip("-").lower()
        name = f"{number}-{plain[:60]}{made.clip.suffix}"
        made.clip.replace(self.folder / name)
        return name

    def _stills(self) -> Iterator[Moment]:
        """The chosen frames in every view, decoded once more."""
        chosen = {s.number: s for s in self.choice.chosen()}
        fitters = [Fitter(self.sides[0].shown) for _ in self.labels]
        with ExitStack() as stack:
            for number, views in self._views(stack):
                still = chosen.get(number)
                if still is None:
                    continue
                at = self.excerpt.first + number
                pictures = []
                for place, (fitter, view) in enumerate(zip(fitters, views, strict=True)):
                    pixels = fitter.fit(view)
                    path = self.folder / outcome.STILLS / f"{at:08d}-{place}.png"
                    path.write_bytes(stills.png(pixels))
                    pictures.append(stills.embedded(pixels))
                moment = stamp(float(still.time))
                yield Moment(
                    name=f"frame {at}, {moment}",
                    about=f"Frame {at} at {moment}, {still.why}: made small again, the least "
                    f"faithful view has {decibels(still.likeness)}.",
                    pictures=pictures,
                )

    def _views(self, stack: ExitStack) -> Iterator[tuple[int, list[RGB]]]:
        """(number in the range, every view in its own size)."""
        for number, picture, others in self._decoded(stack):
            views = [self.source.rgb(picture)]
            views += [s.rgb(o.picture) for s, o in zip(self.sides, others, strict=True)]
            yield number, views

    def _predicted(self) -> Rows:
        rows = [("variant", "speed", "whole film takes", "disk", "RAM", "VRAM")]
        for made in self.made:
            plan = made.variant.plan
            rows.append((
                made.variant.name,
                "made by an earlier run" if made.fps is None else f"{made.fps:.2f} fps",
                "not known" if made.seconds is None else f"about {clock(made.seconds)}",
                f"about {bytes_(made.disk)}, while joining "
                f"{bytes_(made.disk * 2 + plan.info.size)}",
                bytes_(plan.memory.ram),
                bytes_(plan.memory.vram) if plan.memory.on_gpu else "none",
            ))  # fmt: skip
        plan = self.made[0].variant.plan
        device = plan.placement.devices[0]
        return Rows(
            rows=rows,
            caption=f"Measured on frames {self.excerpt.first}:{self.excerpt.stop}, on {device}. "
            f"What the whole film ({plan.geometry.frames:,} frames by its header) takes is "
            "predicted from that, and from earlier jobs of the same kind on this machine.",
        )

    def _fidelity(self) -> Rows:
        rows = [("variant", "PSNR", "worst frame", "SSIM", "worst frame")]
        for made, tally in zip(self.made, self.tallies, strict=True):
            low, less = tally.least_psnr, tally.least_ssim
            rows.append((
                made.variant.name,
                decibels(tally.psnr),
                f"{decibels(low[0])} (frame {low[1]})",
                "not measured" if tally.ssim is None else f"{tally.ssim:.6f}",
                f"{less[0]:.6f} (frame {less[1]})" if tally.measured else "not measured",
            ))  # fmt: skip
        width, height = self.source.coded
        return Rows(
            rows=rows,
            caption=f"Fidelity: each clip made small again (bicubic, {width}x{height} px) against "
            f"the source, luma {luma_words(self.likenesses[0])}; by libavfilter. It tells how much "
            "of the source comes back, not whether added detail is right, nor which looks best.",
        )

    def _summary(self, source: Path, names: Sequence[str]) -> dict[str, object]:
        found = [
            {
                "name": made.variant.name, "clip": name, "fps": made.fps,
                "predicted_seconds": made.seconds, "predicted_disk": made.disk,
                "predicted_ram": made.variant.plan.memory.ram,
                "predicted_vram": made.variant.plan.memory.vram or None,
                "fidelity_psnr_y": finite(tally.psnr), "fidelity_ssim_y": tally.ssim,
                "fidelity_worst_psnr_y": finite(tally.least_psnr[0]),
            }
            for made, tally, name in zip(self.made, self.tallies, names, strict=True)
        ]  # fmt: skip
        return {
            "source": str(source), "first": self.excerpt.first, "stop": self.excerpt.stop,
            "begin": float(self.times[0]), "variants": found, "notes": self.notes,
        }  # fmt: skip
