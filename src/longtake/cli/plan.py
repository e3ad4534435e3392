"""`longtake plan upscale IN OUT`, `longtake plan generate --prompt TEXT OUT`"""

from __future__ import annotations

import argparse

from longtake.cli import batch
from longtake.cli.options import (
    Help,
    add_generation,
    add_json,
    add_task,
    folder_of,
    generation_of,
    limits_of,
    noted,
    task_of,
)
from longtake.cli.show import show_plan
from longtake.core.errors import Usage
from longtake.core.machine import Machine
from longtake.core.plan import Plan
from longtake.planner import machines
from longtake.planner.calibration import Calibration
from longtake.planner.survey import survey
from longtake.runtime.prepare import draft, draft_generated
from longtake.settings import Settings


def add(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", metavar="JOB", required=True)
    for name, flags in (("upscale", add_task), ("generate", add_generation)):
        kind = kinds.add_parser(name, help=f"plan `longtake {name}`", formatter_class=Help)
        flags(kind)
        add_json(kind, "the plan as JSON, for `longtake run`")
        kind.add_argument(
            "--machine", metavar="NAME|FILE",
            help=f"plan for another machine: a TOML file, or {', '.join(machines.names())}",
        )  # fmt: skip


def run(given: argparse.Namespace, settings: Settings) -> int:
    known = Calibration(settings.calibration)
    if given.kind == "generate":
        asked, limits = generation_of(given), limits_of(given)
        plan, _ = draft_generated(asked, limits, _machine(given), known, only_plan=True)
        return _shown(plan, given)
    folder = folder_of(given)
    if folder is not None:
        if given.machine:
            raise Usage("--machine plans one film, not a folder of them.")
        return batch.plan(given, folder, settings)
    plan, _ = draft(task_of(given), limits_of(given), _machine(given), known, only_plan=True)
    return _shown(plan, given)


def _machine(given: argparse.Namespace) -> Machine:
    return machines.described(given.machine) if given.machine else survey()


def _shown(plan: Plan, given: argparse.Namespace) -> int:
    plan = noted(plan, given)
    if given.json:
        print(plan.to_json())
    else:
        show_plan(plan)
    return 0
