"""An engine of numbers: what it needs on a GPU and beside it, by where its weights lie."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from longtake.core.plan import BlocksOutlook, Footprint, Outlook, Plan
from longtake.core.ports import Grid
from longtake.planner import fit
from tests.plans import GiB, a_gpu, a_machine, a_plan

MACHINE = a_machine(gpus=(a_gpu(free=30 * GiB, vram=32 * GiB),))
NEEDS = {  # VRAM, RAM beside it
    "resident": (20 * GiB, 0), "swap": (12 * GiB, 20 * GiB), "ring": (6 * GiB, 16 * GiB),
    "disk": (6 * GiB, 4 * GiB),
}  # fmt: skip


class Toy:
    def grid(self, knobs: Any) -> Grid:
        return Grid(steps=(4,), placements=tuple((way, "device") for way in NEEDS))

    def footprint(self, geometry: Any, recipe: Any, placement: Any) -> Footprint:
        vram, ram = NEEDS[placement.offload]
        return Footprint(weights=vram, parked=ram)

    def outlook(self, plan: Plan, machine: Any) -> Outlook:
        blocks = BlocksOutlook(
            blocks=40, device=0, host=10, disk=30, block=500_000_000, compute=0.5, copy=0.1,
            read=0.25,
        )  # fmt: skip
        return Outlook(blocks=blocks)


def on_a_gpu(offload: str) -> tuple[Plan, Any]:
    """A plan with the weights there, and its engine."""
    plan, engine = a_plan(machine=MACHINE), Toy()
    plan = replace(plan, placement=replace(plan.placement, devices=("cuda:0",)))
    placement = replace(fit.rungs(plan, engine)[0], offload=offload)  # type: ignore[arg-type]
    return fit.replaced(plan, placement, engine), engine  # type: ignore[arg-type]
