"""`longtake preview IN [OUT]`"""

from __future__ import annotations

import argparse
import re
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from longtake.cli.options import add_flags, add_json, fraction, knobs_of, limits_of, task_of
from longtake.cli.show import draw
from longtake.core.errors import Usage
from longtake.core.media import Knobs
from longtake.core.task import Upscale
from longtake.media.excerpt import Span
from longtake.planner.calibration import Calibration
from longtake.planner.survey import survey
from longtake.runtime.preview import LONGEST, MOST, Preview, preview
from longtake.settings import Settings

_CLOCK = re.compile(r"(?:(?:(\d+):)?([0-5]?\d):)?(\d+(?:\.\d*)?|\.\d+)")


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="IN", help="a video or a folder of pictures")
    parser.add_argument(
        "target", type=Path, metavar="OUT", nargs="?",
        help="the folder of results (default: IN.preview)",
    )  # fmt: skip
    parser.add_argument(
        "--at", type=moment, default=Fraction(0), metavar="WHEN",
        help="where it begins: 41:10, 0:41:10.5, 70 (seconds), or a frame as f1680 (default 0)",
    )  # fmt: skip
    parser.add_argument(
        "--len", type=length, default=Fraction(3), metavar="S", help="seconds (default 3)"
    )
    parser.add_argument(
        "--variants", metavar="A,B,C",
        help="engines to try, knobs after colons: lite,lite:look=crisp (default: that of "
        "--engine and --set)",
    )  # fmt: skip
    add_flags(parser, without=("frames",))
    add_json(parser)
    parser.add_argument(
        "--restart", action="store_true", help="replaces the results of an earlier run"
    )


def run(given: argparse.Namespace, settings: Settings) -> int:
    target = given.target or given.source.with_name(given.source.name + ".preview")
    given.target, given.output, given.frames = target, None, (0, None)
    task = task_of(given)
    ask = Preview(
        task=replace(task, set={}), target=target, span=Span(at=given.at, length=given.len),
        ways=variants(given.variants, task), limits=limits_of(given), machine=survey(),
        known=Calibration(settings.calibration), restart=given.restart,
    )  # fmt: skip
    with closing(preview(ask)) as events:  # type: ignore[type-var]
        draw(events, (), given.json)
    return 0


def variants(text: str | None, task: Upscale) -> tuple[tuple[str, Knobs], ...]:
    """ "lite,lite:dtype=float32" -> each engine with its knobs, which come after those of --set.

    Raises Usage.
    """
    if text is None:
        return ((task.engine, dict(task.set)),)
    found: list[tuple[str, Knobs]] = []
    for word in text.split(","):
        engine, *own = word.strip().split(":")
        if not engine:
            raise Usage(f"--variants {text}: give names of engines with commas between them.")
        shared = task.set if engine == task.engine else {
            k: v for k, v in task.set.items() if k == "segment_frames"
        }  # fmt: skip
        found.append((engine, {**shared, **knobs_of(own)}))
    idle = [k for k in task.set if k != "segment_frames"]
    if idle and task.engine not in (engine for engine, _ in found):
        raise Usage(
            f"--set {idle[0]}={task.set[idle[0]]} is for --engine {task.engine}, which is not "
            f"among the variants: write it there, ENGINE:{idle[0]}={task.set[idle[0]]}."
        )
    if len(found) > MOST:
        raise Usage(f"--variants: {len(found)} are too many to look at; at most {MOST}.")
    return tuple(found)


def moment(text: str) -> int | Fraction:
    """ "41:10" -> seconds as a Fraction, "f1680" -> a frame number as an int."""
    if re.fullmatch(r"f\d{1,9}", text):
        return int(text[1:])
    match = _CLOCK.fullmatch(text)
    if not match:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time such as 0:41:10 or 70.5, and no frame such as f1680"
        )
    hours, minutes, seconds = match.groups()
    if minutes and Fraction(seconds) >= 60:
        raise argparse.ArgumentTypeError(f"{text!r}: a minute has 60 seconds")
    return Fraction(seconds) + 60 * int(minutes or 0) + 3600 * int(hours or 0)


def length(text: str) -> Fraction:
    value = fraction(text)
    if not 0 < value <= LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r} lies outside 0 .. {LONGEST} seconds")
    return value
