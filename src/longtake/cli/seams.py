"""`longtake seams IN`"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from fractions import Fraction
from math import isinf
from pathlib import Path

from rich.console import Console
from rich.table import Table

from longtake.cli.options import add_flags, add_json, limits_of, task_of
from longtake.cli.preview import moment
from longtake.cli.show import measured, rows
from longtake.planner.calibration import Calibration
from longtake.planner.explain import clock
from longtake.planner.survey import survey
from longtake.runtime.seams import BOUND, HISTORY, KNOB, LEADS, Report, Row, Wish, seams
from longtake.settings import Settings

STOPPED = "Stopped. Nothing is left behind."
_LONGEST = 1000  # steps
_LEVEL = 1.0  # dB by which a lead must be better to be worth naming
_UNUSED = ("frames", "codec", "crf", "effort")  # flags of `upscale` that decide nothing here


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Measure how near the frames behind a cut between two segments come to those of a stream "
        "that was never cut, for several leads (frames of warm-up)."
    )
    parser.epilog = (
        "Leads count the engine's steps: of one frame, of flashvsr's 8 frames, as its knob does."
    )
    parser.add_argument("source", type=Path, metavar="IN", help="a video or a folder of pictures")
    parser.add_argument(
        "--at", type=moment, default=Fraction(0), metavar="WHEN",
        help="the first shot that is long enough from there on is used: 41:10, 0:41:10.5, 70 "
        "(seconds), or a frame as f1680 (default 0)",
    )  # fmt: skip
    parser.add_argument(
        "--leads", type=leads, metavar="A,B,C",
        help=f"leads to try (default {','.join(map(str, LEADS))}; 0 for an engine without memory)",
    )  # fmt: skip
    parser.add_argument(
        "--history", type=steps, metavar="N",
        help="what the uncut stream has seen before the cut (default: twice the longest lead, and "
        f"at least {HISTORY})",
    )  # fmt: skip
    parser.add_argument(
        "--bound", type=bound, default=BOUND, metavar="DB",
        help=f"PSNR that every frame should have (default {BOUND:g})",
    )  # fmt: skip
    add_flags(parser, without=_UNUSED)
    add_json(parser, "one JSON value")
    parser.set_defaults(
        stopped=STOPPED, target=Path("out"), output=None, frames=(0, None), codec="auto", crf=None,
        effort="auto",
    )  # fmt: skip


def run(given: argparse.Namespace, settings: Settings) -> int:
    wish = Wish(
        task=task_of(given), limits=limits_of(given), at=given.at, leads=given.leads,
        history=given.history, bound=given.bound,
    )  # fmt: skip
    machine, known = survey(), Calibration(settings.calibration)
    with (
        tempfile.TemporaryDirectory(prefix="longtake-seams-") as scratch,
        closing(seams(wish, machine, known, Path(scratch))) as doing,
    ):
        measured(doing, show, given.json)
    return 0


def show(report: Report) -> None:
    """The report as a table."""
    console = Console(highlight=False)
    rows(console, _job(report))
    windows = [f"first {x.frames}" for x in report.rows[0].likeness]
    table = Table("lead", "frames", "work", "", *windows, box=None, padding=(0, 2))
    for row in report.rows:
        for line in lines(row):
            table.add_row(*line)
    console.print(table)
    rows(console, _rest(report))


def lines(row: Row) -> Iterator[Sequence[str]]:
    """The two lines of a lead, cell by cell."""
    luma = [_both(x.luma, x.luma_worst) for x in row.likeness]
    rgb = [_both(x.rgb, x.rgb_worst) for x in row.likeness]
    yield str(row.lead), str(row.frames), f"+{row.work:.1%}", "luma", *luma
    yield "", "", "", "RGB", *rgb


def _both(mean: float | None, worst: float | None) -> str:
    return "identical" if mean is None or worst is None else f"{mean:.1f} / {worst:.1f}"


def _job(report: Report) -> Iterator[tuple[str, str]]:
    (a, b), (c, d) = report.source, report.target
    knobs = "".join(f" {k}={v}" for k, v in report.given.items())
    yield "film", f"{report.film}: frames {report.first}:{report.stop}, cut at {report.seam}"
    yield (
        "job",
        f"{a}x{b} -> {c}x{d} px, {report.engine}{knobs} ({report.dtype}) on {report.device}",
    )
    step = f"{report.step} frame{'s' if report.step > 1 else ''}"
    yield "lead", f"counts steps of {step}; now {report.own}"
    yield "figures", "PSNR in dB of frames behind the cut against the uncut stream, all / worst"


def _rest(report: Report) -> Iterator[tuple[str, str]]:
    yield "enough", advice(report)
    yield "measured", f"in {clock(report.seconds)}"
    yield from (("note", note) for note in report.notes)


def advice(report: Report) -> str:
    """Which lead to take, in words."""
    if report.enough is None:
        best = max(row.worst for row in report.rows)
        level = next(row for row in report.rows if row.worst >= best - _LEVEL)
        return (
            f"no lead that was tried: none gets the worst frame to {report.bound:g} dB. "
            f"{level.lead} gives {level.worst:.1f}, and no other over {_LEVEL:g} dB more; if "
            f"longer ones do not help either (--leads), that is what rounding leaves apart"
        )
    row = next(r for r in report.rows if r.lead == report.enough)
    said = "frames are identical" if isinf(row.worst) else f"the worst frame has {row.worst:.1f} dB"
    if row.lead == 0:
        free = "a cut costs nothing" if isinf(row.worst) else "no warm-up is needed"
        return f"{free}: {said} with lead 0"
    if not report.chosen:
        return f"lead {row.lead}: {said}; {report.engine} has {report.own}, which is no knob of it"
    kept = " (as it is)" if row.lead == report.own else ""
    return f"--set {KNOB}={row.lead}{kept}: {said}, for {row.work:.1%} more work"


def leads(text: str) -> tuple[int, ...]:
    """ "0,1,3" -> (0, 1, 3)"""
    return tuple(steps(word) for word in text.split(","))


def steps(text: str) -> int:
    if not text.isdigit() or int(text) > _LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {_LONGEST}")
    return int(text)


def bound(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 200:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of dB between 0 and 200")
    return value
