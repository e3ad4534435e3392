"""`longtake upscale IN OUT`"""

from __future__ import annotations

import argparse

from longtake.cli import batch
from longtake.cli.options import add_running, add_task, folder_of, limits_of, noted, task_of
from longtake.cli.show import follow
from longtake.planner.calibration import Calibration
from longtake.planner.survey import survey
from longtake.runtime.prepare import draft
from longtake.runtime.run import Job
from longtake.settings import Settings


def add(parser: argparse.ArgumentParser) -> None:
    add_task(parser)
    add_running(parser)


def run(given: argparse.Namespace, settings: Settings) -> int:
    folder = folder_of(given)
    if folder is not None:
        return batch.upscale(given, folder, settings)
    machine, known, limits = survey(), Calibration(settings.calibration), limits_of(given)
    plan, crafts = draft(task_of(given), limits, machine, known)
    job = Job(
        plan=noted(plan, given), crafts=crafts, machine=machine, known=known, limits=limits,
        keep=given.keep, restart=given.restart,
    )  # fmt: skip
    return follow(job, given.json)
