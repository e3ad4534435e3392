"""`longtake compare A B [OUT]`"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

from longtake.cli.options import add_json, fraction, rate
from longtake.cli.show import draw
from longtake.media.sheet import LAYOUTS
from longtake.runtime.compare import Comparison, compare
from longtake.settings import Settings

_COLOURS = (
    "bt601-limited", "bt601-full", "bt709-limited", "bt709-full", "bt2020-limited", "bt2020-full",
)  # fmt: skip
STOPPED = "Stopped. Nothing was made: a comparison is not gone on with, it begins anew."


def add(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(stopped=STOPPED)
    parser.add_argument("a", type=Path, metavar="A", help="a video or a folder of pictures")
    parser.add_argument("b", type=Path, metavar="B", help="the one that is compared with it")
    parser.add_argument(
        "target", type=Path, metavar="OUT", nargs="?",
        help="the folder of results (default: B.compare)",
    )  # fmt: skip
    parser.add_argument(
        "--layout", type=layouts, default=("side", "difference"), metavar="WHICH",
        help="films to make: side, stack, split, difference; several with commas, all or none "
        "(default: side,difference)",
    )  # fmt: skip
    parser.add_argument(
        "--gain", type=gain, default=8, metavar="N", help="times differences are amplified (8)"
    )
    parser.add_argument(
        "--at", choices=("a", "b", "larger"), default="a", metavar="a|b|larger",
        help="the size at which it is measured (default: that of A)",
    )  # fmt: skip
    parser.add_argument(
        "--align", choices=("clock", "first"), default="clock", metavar="clock|first",
        help="frames meet by the films' own clocks, or counted from their first frames",
    )  # fmt: skip
    parser.add_argument(
        "--shift", type=fraction, default=Fraction(0), metavar="S",
        help="seconds by which B is shown later",
    )  # fmt: skip
    parser.add_argument(
        "--rate",
        type=rate,
        metavar="N/D",
        help="frames per second of image folders (default: the other film's, else 24)",
    )
    parser.add_argument(
        "--assume-color", choices=_COLOURS, metavar="WHICH",
        help="how to read what is untagged: bt601-limited, bt709-full ...",
    )  # fmt: skip
    add_json(parser)
    parser.add_argument(
        "--restart", action="store_true", help="replaces the results of an earlier run"
    )


def run(given: argparse.Namespace, settings: Settings) -> int:
    target = given.target or given.b.with_name(given.b.name + ".compare")
    ask = Comparison(
        a=given.a, b=given.b, target=target, layouts=given.layout, gain=given.gain, at=given.at,
        align=given.align, shift=given.shift, rate=given.rate, assume=given.assume_color,
        restart=given.restart,
    )  # fmt: skip
    with closing(compare(ask)) as events:  # type: ignore[type-var]
        draw(events, (), given.json)
    return 0


def layouts(text: str) -> Sequence[Any]:
    """ "side,split" -> ("side", "split"); "all" and "none" too."""
    if text in ("all", "none"):
        return LAYOUTS if text == "all" else ()
    words = tuple(dict.fromkeys(text.split(",")))
    for word in words:
        if word not in LAYOUTS:
            raise argparse.ArgumentTypeError(
                f"{word!r}: choose from {', '.join(LAYOUTS)}, all and none"
            )
    return words


def gain(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 255:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 255")
    return int(text)
