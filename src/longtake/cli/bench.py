"""`longtake bench [IN]`"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.table import Table

from longtake.cli.options import add_flags, add_json, limits_of, task_of
from longtake.cli.show import measured, rows
from longtake.planner.calibration import Calibration
from longtake.planner.explain import bytes_, clock
from longtake.planner.survey import survey
from longtake.runtime.bench import Report, Wish, bench
from longtake.settings import Settings

STOPPED = "Stopped. Nothing is left behind."
_NAMES = {"decode": "decoding alone", "compute": "model alone", "encode": "encoding alone"}
_DEFAULT = Wish.__dataclass_fields__


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Measure each stage alone and the whole job from decoding to the finished file."
    )
    parser.epilog = (
        "With the defaults this takes a minute or two: three jobs, and three runs of each stage "
        "alone. Let nothing else run meanwhile."
    )
    parser.add_argument(
        "source", type=Path, metavar="IN", nargs="?",
        help="a video or a folder of pictures; its beginning is used (default: a film is made)",
    )  # fmt: skip
    parser.add_argument(
        "--size", type=size, default=_DEFAULT["size"].default, metavar="WxH",
        help="size in px of a film that is made (default 320x180)",
    )  # fmt: skip
    parser.add_argument(
        "--frames", type=int, metavar="N",
        help="frames of each job (default: as many as take about --seconds)",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=float, default=_DEFAULT["seconds"].default, metavar="S",
        help="length of a job without its start; a stage alone takes half of it (default 8)",
    )  # fmt: skip
    parser.add_argument(
        "--repeats", type=int, default=_DEFAULT["repeats"].default, metavar="N",
        help="runs of each kind; the median is told (default 3)",
    )  # fmt: skip
    add_flags(parser, without=("frames",))
    add_json(parser, "one JSON value")
    parser.set_defaults(stopped=STOPPED)


def run(given: argparse.Namespace, settings: Settings) -> int:
    asked = given.frames
    given.target, given.output, given.frames = Path("out"), None, (0, None)
    wish = Wish(
        task=task_of(given), limits=limits_of(given), source=given.source, size=given.size,
        frames=asked, seconds=given.seconds, repeats=given.repeats,
    )  # fmt: skip
    machine, known = survey(), Calibration(settings.calibration)
    with (
        tempfile.TemporaryDirectory(prefix="longtake-bench-") as scratch,
        closing(bench(wish, machine, known, Path(scratch))) as steps,
    ):
        measured(steps, show, given.json)
    return 0


def show(report: Report) -> None:
    """The report as a table."""
    console = Console(highlight=False)
    rows(console, _job(report))
    table = Table("", "fps", "each run", "processor time of a frame", box=None, padding=(0, 2))
    for row in _speeds(report):
        table.add_row(*row)
    console.print(table)
    rows(console, _rest(report))


def _job(report: Report) -> Iterator[tuple[str, str]]:
    (a, b), (c, d) = report.source, report.target
    film = "a film made for this" if report.film == "made" else report.film
    yield "film", f"{film}: {report.frames:,} frames, segments: {report.segments}"
    yield (
        "job",
        f"{a}x{b} -> {c}x{d} px, {report.engine} ({report.dtype}) on " + ", ".join(report.devices),
    )
    yield "encoder", report.encoder
    yield "machine", report.machine
    yield "versions", ", ".join(f"{k} {v}" for k, v in report.versions.items())


def _speeds(report: Report) -> Iterator[tuple[str, ...]]:
    alone = {_NAMES[k]: v for k, v in report.stages.items()}
    whole = {"job, steady": report.steady, "job, command": report.command}
    for name, speed in {**alone, **whole}.items():
        runs = " ".join(f"{r:.1f}" for r in speed.runs)
        core = f"{speed.core_ms:.1f} ms" if speed.core_ms is not None else ""
        yield name, f"{speed.fps:.1f}", runs, core


def _rest(report: Report) -> Iterator[tuple[str, str]]:
    slowest = _NAMES[report.slowest]
    workers = len(report.devices)
    each = f" of {workers} workers" if workers > 1 else ""
    yield "share", f"the job is steady at {report.share:.0%} of {slowest}{each}, the slowest stage"
    core = sum(s.core_ms or 0.0 for s in report.stages.values())
    yield "cores", f"{core:.1f} ms a frame for all stages: at most {report.cores_fps:.1f} fps here"
    yield "start", f"{report.starting:.1f} s from the command to the first frames"
    yield "RAM", _against(report.predicted_ram, report.peak_ram)
    if report.peak_vram is not None and report.predicted_vram is not None:
        yield "VRAM", _against(report.predicted_vram, report.peak_vram)
    yield "measured", f"in {clock(report.seconds)}"
    yield from (("note", note) for note in report.notes)


def _against(predicted: int, peak: int) -> str:
    return f"predicted {bytes_(predicted)}, peak {bytes_(peak)} ({predicted / peak:.3f})"


def size(text: str) -> tuple[int, int]:
    """ "320x180" -> (320, 180)"""
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 320x180")
    return int(match[1]), int(match[2])
