"""`longtake plan upscale IN OUT`"""

from __future__ import annotations

import argparse

from longtake.cli import batch
from longtake.cli.options import Help, add_json, add_task, folder_of, limits_of, task_of
from longtake.cli.show import show_plan
from longtake.core.errors import Usage
from longtake.planner import machines
from longtake.planner.calibration import Calibration
from longtake.planner.survey import survey
from longtake.runtime.prepare import draft
from longtake.settings import Settings


def add(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", metavar="JOB", required=True)
    upscale = kinds.add_parser("upscale", help="plan `longtake upscale`", formatter_class=Help)
    add_task(upscale)
    add_json(upscale, "the plan as JSON, for `longtake run`")
    upscale.add_argument(
        "--machine", metavar="NAME|FILE",
        help=f"plan for another machine: a TOML file, or {', '.join(machines.names())}",
    )  # fmt: skip


def run(given: argparse.Namespace, settings: Settings) -> int:
    folder = folder_of(given)
    if folder is not None:
        if given.machine:
            raise Usage("--machine plans one film, not a folder of them.")
        return batch.plan(given, folder, settings)
    machine = machines.described(given.machine) if given.machine else survey()
    known = Calibration(settings.calibration)
    plan, _ = draft(task_of(given), limits_of(given), machine, known, only_plan=True)
    if given.json:
        print(plan.to_json())
    else:
        show_plan(plan)
    return 0
