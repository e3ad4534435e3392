"""`longtake generate --prompt TEXT OUT`"""

from __future__ import annotations

import argparse

from longtake.cli.options import (
    add_generation,
    add_running,
    generation_of,
    limits_of,
    noted,
)
from longtake.cli.show import follow
from longtake.planner.calibration import Calibration
from longtake.planner.survey import survey
from longtake.runtime.prepare import draft_generated
from longtake.runtime.run import Job
from longtake.settings import Settings


def add(parser: argparse.ArgumentParser) -> None:
    add_generation(parser)
    add_running(parser)


def run(given: argparse.Namespace, settings: Settings) -> int:
    machine, known, limits = survey(), Calibration(settings.calibration), limits_of(given)
    plan, crafts = draft_generated(generation_of(given), limits, machine, known)
    job = Job(
        plan=noted(plan, given), crafts=crafts, machine=machine, known=known, limits=limits,
        keep=given.keep, restart=given.restart,
    )  # fmt: skip
    return follow(job, given.json)
