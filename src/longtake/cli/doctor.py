"""`longtake doctor`"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from longtake.cli.options import add_json
from longtake.cli.show import print_json, say
from longtake.core.plain import to_plain
from longtake.planner.calibration import Calibration
from longtake.planner.survey import survey
from longtake.runtime import checkdisk
from longtake.runtime.check import Check
from longtake.runtime.checkup import checks, measure, torch_check
from longtake.settings import Settings
from longtake.weights.home import home

_COLORS = {"good": "green", "note": "yellow", "bad": "red"}


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--short", action="store_true", help="do not run torch, measure nothing")
    add_json(parser)


def run(given: argparse.Namespace, settings: Settings) -> int:
    console = Console(highlight=False)
    bad = 0
    for check in _all(given.short, settings):
        bad += check.state == "bad"
        if given.json:
            print_json({"event": "check", **to_plain(check)})
        else:
            words = f"{check.name:14} {check.says}"
            say(console, f"{check.state:4}", words, _COLORS[check.state])
    return 1 if bad else 0


def _all(short: bool, settings: Settings) -> Iterator[Check]:
    machine, folder = survey(), Path.cwd()
    yield from checks(machine, folder)
    if not short:
        yield from checkdisk.checks(machine, home(), folder)
        yield torch_check(machine)
        yield from measure(machine, Calibration(settings.calibration))
