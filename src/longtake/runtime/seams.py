"""What a seam between two segments costs: how near the frames behind it come to those of a stream
that was never cut, for several lengths of warm-up.

A stretch of the film without a hard cut goes through the engine as one stream, and then again from
later frames on, as the segment of a job would. Both see the same frames, noise and look-ahead, so
that what differs is what the engine would have remembered. Frames are compared as they leave the
engine, before any encoder.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from math import inf, log10
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longtake.core.errors import BadInput, Usage
from longtake.core.events import Replanned, Warned
from longtake.core.knobs import ranges, settle
from longtake.core.machine import Machine
from longtake.core.media import Clip, Knobs, Pixels
from longtake.core.plan import Plan, Segment
from longtake.core.ports import Engine, Film, Grid
from longtake.core.steps import done
from longtake.core.task import Drop, Limits, Upscale
from longtake.media import color, scenes
from longtake.media import excerpt as excerpts
from longtake.media.excerpt import Span
from longtake.media.index import FilmIndex
from longtake.planner.calibration import Calibration
from longtake.planner.choices import Crafts
from longtake.runtime import allocator, offloads, variants
from longtake.runtime.prepare import draft
from longtake.runtime.recover import Recovery
from longtake.runtime.segment import Line, computed, decoded
from longtake.runtime.stages import Meter

WINDOWS = (8, 16, 32)  # frames behind the seam that are told of, each from its first on
BEHIND = WINDOWS[-1]
LEADS = (0, 1, 2, 3, 5, 8)  # steps
HISTORY = 16  # steps that the uncut stream has seen at the seam, at least
KNOB = "lead"  # of engines that let it be chosen
BOUND = 45.0  # dB
_LOOKED = 4  # times as many frames are searched for a stretch without a cut
_ROWS = 256  # compared in one go
_SILENT: tuple[Drop, ...] = ("audio", "subtitles", "chapters", "attachments", "data")

Errors = NDArray[np.float64]  # [frames, 2]: mean squared error of luma and of RGB, full scale is 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What to measure. `task` says how the film is made; its target does not count."""

    task: Upscale
    limits: Limits
    at: int | Fraction = Fraction(0)  # the stretch begins there or later: a frame, or s
    leads: tuple[int, ...] | None = None  # steps; None: LEADS, or 0 for an engine without memory
    # steps; None: twice the longest lead, and at least HISTORY for an engine with memory
    history: int | None = None
    bound: float = BOUND  # dB that every frame behind the seam should have


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """PSNR of the first frames behind the seam against the uncut stream, dB; None: identical."""

    frames: int
    luma: float | None  # of the mean squared error of all frames
    luma_worst: float | None  # of the frame that differs most
    rgb: float | None
    rgb_worst: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one lead gives."""

    lead: int  # steps
    frames: int  # of warm-up
    segment_frames: int  # of the job's segments with this lead
    work: float  # frames of warm-up for each frame of a segment
    likeness: tuple[Likeness, ...]  # one for each of WINDOWS

    @property
    def worst(self) -> float:
        """dB of the worst frame, in luma or in RGB; infinity: identical."""
        last = self.likeness[-1]
        return min(inf if x is None else x for x in (last.luma_worst, last.rgb_worst))


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    film: str
    source: tuple[int, int]  # px
    target: tuple[int, int]  # px
    engine: str
    given: Knobs  # knobs that were set
    dtype: str
    device: str
    first: int  # frame of the film at which the uncut stream begins
    seam: int  # frame of the film at which the others are cut off
    stop: int  # the last frame that is compared, plus one
    step: int  # frames that a lead is a multiple of
    own: int  # the engine's lead as it is set, steps, rounded up
    chosen: bool  # whether the engine has a knob for it
    bound: float  # dB
    rows: tuple[Row, ...]  # by lead
    enough: int | None  # the smallest lead from which on no frame lies below the bound
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """The streams that are to be made: the uncut one first."""

    plan: Plan
    crafts: Crafts
    film: Film
    orders: tuple[Segment, ...]
    uncut: Path  # where its frames wait

    @property
    def seam(self) -> int:
        return self.orders[0].start


def seams(
    wish: Wish, machine: Machine, known: Calibration, scratch: Path
) -> Generator[str | Report]:
    """Measure; yields what is being done, in words, and the report last. All files lie in
    `scratch`: the index of a few hundred frames, and 32 frames of the target's size.

    Raises what planning the job raises, and BadInput where there is no shot long enough.
    """
    began = time.monotonic()
    plan, crafts = _planned(wish, machine, known, scratch)
    grid = crafts.engine.grid(plan.recipe.knobs)
    leads, history = _asked(wish, grid)
    _allowed(leads, grid, crafts.engine, plan.recipe.knobs)
    frames = history * grid.align + BEHIND + grid.tail
    yield f"looking for a shot of {frames} frames"
    index, first = _stretch(wish, plan, scratch / "index", frames)
    plan = variants.counted(plan, index)
    trial = _Trial(
        plan=plan, crafts=crafts, film=variants.film_of(plan, index),
        orders=_orders(first + history * grid.align, (history, *leads), grid),
        uncut=scratch / "uncut",
    )  # fmt: skip
    errors, more = yield from _measured(trial)
    rows = tuple(
        _row(lead, grid, plan, crafts.engine, e) for lead, e in zip(leads, errors, strict=True)
    )
    yield _report(wish, trial, grid, rows, [*plan.notes, *more], time.monotonic() - began)


# --- what is asked -------------------------------------------------------------------------------


def _planned(
    wish: Wish, machine: Machine, known: Calibration, scratch: Path
) -> tuple[Plan, Crafts]:
    """The plan of the whole film. Nothing of it is encoded: its sink takes everything."""
    if wish.task.deinterlace == "ivtc":
        raise Usage(
            "--deinterlace ivtc decides by the whole film which frames there are: measure on a "
            "film that it has made, or with --deinterlace no."
        )
    task = replace(
        wish.task, target=scratch / "film.mkv", codec="ffv1", frames=(0, None),
        drop=tuple(dict.fromkeys((*wish.task.drop, *_SILENT))),
    )  # fmt: skip
    plan, crafts = draft(task, wish.limits, machine, known)
    return variants.alone(plan), crafts


def _asked(wish: Wish, grid: Grid) -> tuple[tuple[int, ...], int]:
    """Leads, rising, and the steps that the uncut stream has seen at the seam."""
    remembers = grid.lead or grid.tail
    leads = tuple(sorted(set(wish.leads or (LEADS if remembers else (0,)))))
    least = HISTORY if remembers else 1
    history = max(least, 2 * leads[-1]) if wish.history is None else wish.history
    if leads[-1] >= history:
        raise Usage(
            f"--history {history}: the uncut stream must have seen more than the longest lead, "
            f"which is {leads[-1]}; twice as much is good."
        )
    return leads, history


def _allowed(leads: Sequence[int], grid: Grid, engine: Engine, knobs: Knobs) -> None:
    """Raises Usage for leads that the engine's knob does not take."""
    if _chosen(grid, engine, knobs):
        for lead in leads:
            settle(engine.knobs, {KNOB: lead})


def _chosen(grid: Grid, engine: Engine, knobs: Knobs) -> bool:
    """Whether the engine has a knob for the lead that counts steps of the grid."""
    if KNOB not in ranges(engine.knobs):
        return False
    return grid.lead == int(knobs[KNOB]) * grid.align


def _stretch(wish: Wish, plan: Plan, folder: Path, frames: int) -> tuple[FilmIndex, int]:
    """The first run of so many frames without a hard cut from `wish.at` on: an index that holds
    it, and its first frame. Raises BadInput."""
    info, drop = plan.info, plan.task.drop
    span = Span(at=wish.at, length=_LOOKED * frames / info.rate)
    try:
        index, first, stop = done(excerpts.near(info, folder, span, drop))
    except excerpts.Irregular:
        index, first, stop = done(excerpts.through(info, folder, span, drop, lambda *_: True))
    cuts = (first + cut for cut in scenes.cuts(index, first, stop))
    shots = list(pairwise([first, *cuts, stop]))
    for a, b in shots:
        if b - a >= frames:
            return index, a
    a, b = max(shots, key=lambda shot: shot[1] - shot[0])
    raise BadInput(
        f"{info.path}: no shot of {frames} frames lies in frames {first}:{stop}; the longest is "
        f"{a}:{b}, {b - a} frames. Look elsewhere with --at, or try shorter --leads and --history."
    )


def _orders(seam: int, leads: Sequence[int], grid: Grid) -> tuple[Segment, ...]:
    return tuple(
        Segment(
            index=i, lead=seam - lead * grid.align, start=seam, stop=seam + BEHIND, tail=grid.tail
        )
        for i, lead in enumerate(leads)
    )


# --- the streams ---------------------------------------------------------------------------------


def _measured(trial: _Trial) -> Generator[str, None, tuple[list[Errors], list[str]]]:
    """Errors of all streams but the uncut one, and what is to be told. Where memory runs out the
    rest is made with less, as in a job."""
    if trial.plan.recipe.numerics.torch is None:
        allocator.steady()
    recovery = Recovery(plan=trial.plan, engine=trial.crafts.engine)
    left = list(trial.orders)
    found: list[Errors] = []
    notes: list[str] = []
    while left:
        plan = recovery.plan
        device, offload = plan.placement.devices[0], offloads.placed(plan.placement)
        try:
            with trial.crafts.engine.open(plan, device, offload) as upscaler:
                line = Line(
                    film=trial.film, upscaler=upscaler, sink=trial.crafts.sink, meter=Meter()
                )
                while left:
                    yield _told(left[0], trial)
                    errors = _one(line, left[0], trial)
                    found += [] if errors is None else [errors]
                    left.pop(0)
        except Exception as error:
            if not left:
                raise
            event = recovery.after(error, left[0])
            if isinstance(event, Warned):
                notes.append(event.message)
            elif isinstance(event, Replanned):
                notes.append(f"{event.reason} The rest was made with less memory.")
    return found, notes


def _told(segment: Segment, trial: _Trial) -> str:
    kind = f"stream {segment.index} of {len(trial.orders) - 1}" if segment.index else "uncut stream"
    return f"{kind}: {segment.stop + segment.tail - segment.lead} frames"


def _one(line: Line, segment: Segment, trial: _Trial) -> Errors | None:
    """Make one stream: keep its frames if it is the uncut one, else compare them."""
    clips = decoded(line.film, [segment], trial.plan.placement.step)
    made: Any = computed(line, segment, clips)
    with closing(made):
        if segment.index == 0:
            with trial.uncut.open("wb") as file:
                for clip in made:
                    clip.pixels.tofile(file)
            return None
        weights = color.luma_weights(trial.plan.recipe.output.matrix)
        return compared(made, _uncut(trial), weights)


def _uncut(trial: _Trial) -> Pixels:
    """The frames of the uncut stream behind the seam, on the disk."""
    width, height = trial.plan.geometry.target
    size = trial.uncut.stat().st_size // (BEHIND * height * width * 3)
    dtype = np.uint8 if size == 1 else np.uint16
    return np.memmap(trial.uncut, dtype, "r", shape=(BEHIND, height, width, 3))


def compared(made: Iterator[Clip], whole: Pixels, weights: Sequence[float]) -> Errors:
    """Errors of the clips' frames against `whole` [T, H, W, 3], which begins with the same frame.
    `weights` are red's, green's and blue's parts in luma."""
    errors: list[tuple[float, float]] = []
    for clip in made:
        for picture in clip.pixels:
            errors.append(_error(picture, whole[len(errors)], np.array(weights, np.float32)))
    return np.array(errors)


def _error(a: Pixels, b: Pixels, weights: NDArray[np.float32]) -> tuple[float, float]:
    """Mean squared error of luma, as RGB gives it without rounding, and of RGB; full scale is 1."""
    luma = rgb = 0.0
    for row in range(0, len(a), _ROWS):
        off = a[row : row + _ROWS].astype(np.float32) - b[row : row + _ROWS]
        rgb += float(np.square(off).sum(dtype=np.float64))
        luma += float(np.square(off @ weights).sum(dtype=np.float64))
    full = float(np.iinfo(a.dtype).max) ** 2
    return 3 * luma / (a.size * full), rgb / (a.size * full)


# --- the report ----------------------------------------------------------------------------------


def likeness(errors: Errors) -> tuple[Likeness, ...]:
    """PSNR of the first frames, for each of WINDOWS."""
    found = []
    for frames in WINDOWS:
        luma, rgb = errors[:frames].T
        found.append(Likeness(
            frames=frames, luma=_psnr(luma.mean()), luma_worst=_psnr(luma.max()),
            rgb=_psnr(rgb.mean()), rgb_worst=_psnr(rgb.max()),
        ))  # fmt: skip
    return tuple(found)


def _psnr(error: float) -> float | None:
    return -10 * log10(error) if error else None


def enough(rows: Sequence[Row], bound: float) -> int | None:
    """The smallest lead from which on no frame lies below the bound, or None. `rows` by lead."""
    found = None
    for row in reversed(rows):
        if row.worst < bound:
            break
        found = row.lead
    return found


def _row(lead: int, grid: Grid, plan: Plan, engine: Engine, errors: Errors) -> Row:
    frames, length = lead * grid.align, plan.recipe.segment_frames
    knobs = plan.recipe.knobs
    if _chosen(grid, engine, knobs) and "segment_frames" not in plan.task.set:
        length = engine.grid({**knobs, KNOB: lead}).segment_frames
    return Row(
        lead=lead, frames=frames, segment_frames=length, work=frames / length,
        likeness=likeness(errors),
    )  # fmt: skip


def _report(
    wish: Wish, trial: _Trial, grid: Grid, rows: tuple[Row, ...], notes: list[str], seconds: float
) -> Report:
    plan = trial.plan
    return Report(
        film=str(plan.info.path), source=plan.geometry.source, target=plan.geometry.target,
        engine=plan.recipe.engine, given=dict(plan.task.set), dtype=plan.recipe.numerics.dtype,
        device=plan.placement.devices[0], first=trial.orders[0].lead, seam=trial.seam,
        stop=trial.seam + BEHIND, step=grid.align, own=-(-grid.lead // grid.align),
        chosen=_chosen(grid, trial.crafts.engine, plan.recipe.knobs), bound=wish.bound, rows=rows,
        enough=enough(rows, wish.bound), seconds=seconds, notes=tuple(dict.fromkeys(notes)),
    )  # fmt: skip
