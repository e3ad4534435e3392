"""How many blocks of a net lie where, where a strategy brings them in turn.

A pass takes as long as the slowest of computing, copying and reading. So the device keeps no more
blocks than it takes to hide the copies behind computing, and where even that does not fit, as many
as fit. Of a net that is read from the disk the host keeps as many as fit. Where the machine's speed
is not known, nothing counts as hidden. Bytes only grow with each number, so that each is found by
halving. The arithmetic: offload/_partition.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Set
from dataclasses import replace
from fractions import Fraction
from typing import Any, Final

from longtake.core.machine import Machine
from longtake.core.plan import BlocksOutlook, Outlook, Placement, Plan
from longtake.core.ports import Works
from longtake.planner.ladder import LEAST_SLOTS
from longtake.planner.wishes import STREAMED

Fits = Callable[[Plan], bool]
Replaced = Callable[[Plan, Placement, Works], Plan]
"""The same plan under another placement, with its footprint."""
_SMOOTH: Final = 3
"""Slots that make up for uneven distances between blocks that come, and for uneven phases."""


def outlook(plan: Plan, engine: Works, machine: Machine) -> Outlook | None:
    """The engine's, where it has one."""
    look = getattr(engine, "outlook", None)
    return None if look is None else look(plan, machine)


def settled(
    plan: Plan, engine: Works, machine: Machine, fixed: Set[str], fits: Fits, replaced: Replaced
) -> Plan:
    """The plan with the numbers of its placement chosen, but for those that are `fixed`; where it
    does not fit, under the fewest bytes."""
    most = engine.grid(plan.recipe.knobs).blocks
    if plan.placement.offload not in STREAMED or not most:
        return plan

    def at(plan: Plan, **numbers: Any) -> Plan:
        chosen = {name: value for name, value in numbers.items() if name not in fixed}
        return replaced(plan, replace(plan.placement, **chosen), engine) if chosen else plan

    plan = at(plan, resident_blocks=0, host_blocks=0, slots=LEAST_SLOTS)
    if not fits(plan):
        return plan
    looked = outlook(plan, engine, machine)
    pace = looked.blocks if looked else None
    disk = plan.placement.offload == "disk"
    on_host = _most(lambda n: fits(at(plan, host_blocks=n)), most) if disk else most
    if "host_blocks" in fixed:
        on_host = plan.placement.host_blocks
    there = _most(lambda n: fits(at(plan, resident_blocks=n)), most)
    there = min(there, _needed(most, on_host if disk else most, pace))
    plan = at(plan, resident_blocks=there)
    if disk:
        kept = _most(lambda n: fits(at(plan, host_blocks=n)), most)
        plan = at(plan, host_blocks=kept)
    if 0 < plan.placement.resident_blocks < most or plan.placement.granularity == "phase":
        smooth = at(plan, slots=_SMOOTH)
        plan = smooth if fits(smooth) else plan
    return plan


def placed(placement: Placement) -> tuple[str, ...]:
    """What of a placement says where weights and state lie, as `--place` takes it."""
    found = [f"offload={placement.offload}"]
    if placement.offload in STREAMED:
        names = ["resident_blocks", *(["host_blocks"] if placement.offload == "disk" else [])]
        found += [f"{name}={getattr(placement, name)}" for name in [*names, "slots"]]
        if placement.granularity != "block":
            found.append(f"granularity={placement.granularity}")
    if placement.state != "device":
        found.append(f"state={placement.state}")
    return tuple(found)


def _most(fits: Callable[[int], bool], most: int) -> int:
    """The largest n of [0, most] that fits, where 0 does and all below one that does do too."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _needed(blocks: int, on_host: int, pace: BlocksOutlook | None) -> int:
    """Blocks on the device, at least, so that computing hides copies, and reads of what the host
    has no room for. `on_host`: blocks it has room for; one less where some lie on the device, as
    those are read through it."""
    if pace is None or pace.compute is None or pace.copy is None:
        return blocks
    compute = Fraction(pace.compute) * blocks
    copied = math.floor(compute / Fraction(pace.copy)) if pace.copy else blocks
    read = math.floor(compute / Fraction(pace.read)) if pace.read else blocks
    reading = blocks - on_host - read
    return max(0, blocks - copied, reading + 1 if reading > 0 else 0)
