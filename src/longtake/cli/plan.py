"""`longtake plan upscale IN OUT`, `longtake plan generate --prompt TEXT OUT`"""

from __future__ import annotations

import argparse
import json
import shutil

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
from longtake.core.plain import to_plain
from longtake.core.plan import Plan
from longtake.core.task import Limits
from longtake.planner import machines
from longtake.planner.balance import balance, told
from longtake.planner.calibration import Calibration
from longtake.planner.choices import Crafts
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
        kind.add_argument(
            "--explain", action="store_true",
            help="the balance of VRAM, RAM and disk, where blocks lie, and what each stage takes",
        )  # fmt: skip


def run(given: argparse.Namespace, settings: Settings) -> int:
    known = Calibration(settings.calibration)
    if given.kind == "generate":
        asked, limits, machine = generation_of(given), limits_of(given), _machine(given)
        plan, crafts = draft_generated(asked, limits, machine, known, only_plan=True)
        return _shown(plan, given, crafts, machine, limits)
    folder = folder_of(given)
    if folder is not None:
        if given.machine or given.explain:
            raise Usage("--machine and --explain are of one film, not of a folder of them.")
        return batch.plan(given, folder, settings)
    limits, machine = limits_of(given), _machine(given)
    plan, crafts = draft(task_of(given), limits, machine, known, only_plan=True)
    return _shown(plan, given, crafts, machine, limits)


def _machine(given: argparse.Namespace) -> Machine:
    return machines.described(given.machine) if given.machine else survey()


def _shown(
    plan: Plan, given: argparse.Namespace, crafts: Crafts, machine: Machine, limits: Limits
) -> int:
    plan = noted(plan, given)
    found = None
    if given.explain:
        found = balance(plan, crafts.works, machine, limits, _disk(plan) if machine.here else None)
    if given.json:
        body = plan.to_json()
        if found is not None:
            body = json.dumps({**json.loads(body), "balance": to_plain(found)}, indent=1)
        print(body)
    else:
        show_plan(plan, {} if found is None else told(found))
    return 0


def _disk(plan: Plan) -> tuple[int, int]:
    """Total and free bytes of the target's file system."""
    about = shutil.disk_usage(plan.task.target.absolute().parent)
    return about.total, about.free
