"""`longtake run plan.json`"""

from __future__ import annotations

import argparse
from pathlib import Path

from longtake.cli.options import add_running
from longtake.cli.show import follow
from longtake.core.errors import BadInput
from longtake.core.plan import Plan
from longtake.core.task import Limits
from longtake.planner.calibration import Calibration
from longtake.planner.survey import survey
from longtake.runtime.prepare import replay
from longtake.runtime.run import Job
from longtake.settings import Settings


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("plan", type=Path, metavar="plan.json", help="from `longtake plan --json`")
    add_running(parser)


def run(given: argparse.Namespace, settings: Settings) -> int:
    machine, known = survey(), Calibration(settings.calibration)
    plan, crafts = replay(stored_plan(given.plan), Limits(), machine)
    job = Job(
        plan=plan, crafts=crafts, machine=machine, known=known, keep=given.keep,
        restart=given.restart,
    )  # fmt: skip
    return follow(job, given.json)


def stored_plan(path: Path) -> Plan:
    """The plan in a file. Raises BadInput with the field at fault."""
    try:
        return Plan.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise BadInput(f"{path}: {error}") from None
