"""Whether a plan fits, and under which placement it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from longtake.core.errors import DoesNotFit
from longtake.core.machine import Machine
from longtake.core.media import VideoInfo
from longtake.core.plan import Geometry, Memory, Placement, Plan, Recipe
from longtake.core.ports import Works
from longtake.core.task import Limits
from longtake.planner import blocks, footprint, ladder, wishes
from longtake.planner.explain import bytes_, clock

HEADROOM = 0.05  # of free memory that a plan leaves alone
ABOUT = 1.1  # times as many bytes are about as few


def rungs(plan: Plan, engine: Works) -> list[Placement]:
    """Every placement this plan may fall back on, the fastest first."""
    made = plan.geometry.target
    per_frame = made[0] * made[1] * 3 * (1 if plan.recipe.output.bits <= 8 else 2)
    return ladder.rungs(engine.grid(plan.recipe.knobs), plan.geometry, plan.placement, per_frame)


def replaced(plan: Plan, placement: Placement, engine: Works) -> Plan:
    """The same recipe under another placement, with its footprint."""
    needed = memory(plan.info, plan.geometry, plan.recipe, placement, engine)
    return replace(plan, placement=placement, memory=needed)


def memory(
    info: VideoInfo, geometry: Geometry, recipe: Recipe, placement: Placement, engine: Works
) -> Memory:
    """Peak bytes of one process under that placement."""
    return Memory(
        host=footprint.host(info, geometry, recipe, placement),
        engine=engine.footprint(geometry, recipe, placement),
        on_gpu=placement.devices[0].startswith("cuda"),
    )


def budget(plan: Plan, machine: Machine, limits: Limits) -> dict[str, tuple[int, int, str]]:
    """Need and allowance in bytes of RAM and VRAM, and the words for the allowance."""
    workers = len(plan.placement.devices)
    ram = (
        (limits.ram, "--ram")
        if limits.ram is not None
        else (int(machine.free_ram * (1 - HEADROOM)), "free now")
    )
    budget = {"RAM": (plan.memory.ram * workers, *ram)}
    if plan.memory.on_gpu:
        used = [g for g in machine.gpus if f"cuda:{g.index}" in plan.placement.devices]
        vram = (
            (limits.vram, "--vram")
            if limits.vram is not None
            else (int(min(g.free for g in used) * (1 - HEADROOM)), "free now")
        )
        share = wishes.share(limits.place)
        if share is not None and share * min(g.vram for g in used) < vram[0]:
            vram = int(share * min(g.vram for g in used)), "--place vram_threshold_percent"
        budget["VRAM"] = (plan.memory.vram, *vram)
    return budget


def fitted(plan: Plan, engine: Works, machine: Machine, limits: Limits) -> Plan:
    """A stored plan on the first rung that fits this machine, not above its own placement.

    Raises DoesNotFit.
    """
    placements = [plan.placement, *ladder.lower(rungs(plan, engine), plan.placement)]
    found = first(plan, placements, engine, machine, limits)
    if found is None:
        closest = nearest(plan, placements, engine, machine, limits)
        raise DoesNotFit(lacking(closest, machine, limits))
    return replace(found, outlook=blocks.outlook(found, engine, machine))


def chosen(
    plan: Plan, placements: Sequence[Placement], engine: Works, machine: Machine, limits: Limits
) -> Plan | None:
    """The plan under the placement that fits and takes the least time, in three digits; of those
    that take the same the first that needs about as few bytes as any. Where the time is not known,
    under the first that fits. None where none does."""
    found: dict[float, list[Plan]] = {}
    for placement in placements:
        candidate = settled(plan, placement, engine, machine, limits)
        if not fits(candidate, machine, limits):
            continue
        looked = blocks.outlook(candidate, engine, machine)
        if looked is None or looked.seconds is None:
            return candidate
        found.setdefault(float(f"{looked.seconds:.3g}"), []).append(candidate)
    if not found:
        return None
    alike = found[min(found)]
    fewest = min(p.memory.ram + p.memory.vram for p in alike)
    return next(p for p in alike if p.memory.ram + p.memory.vram <= fewest * ABOUT)


def settled(
    plan: Plan, placement: Placement, engine: Works, machine: Machine, limits: Limits
) -> Plan:
    """The plan under a placement whose numbers of blocks are those that suit the machine."""
    return blocks.settled(
        replaced(plan, placement, engine), engine, machine, set(limits.place),
        partial(fits, machine=machine, limits=limits), replaced,
    )  # fmt: skip


def wished(plan: Plan, own: Plan | None, engine: Works, machine: Machine, limits: Limits) -> Plan:
    """The plan with a word on what `--place` costs against `own`, the planner's choice (None:
    nothing fits)."""
    said = wishes.notes(plan.placement)
    if not limits.place:
        return plan
    words = f"--place {wishes.words(limits.place)}"
    if own is None:
        return replace(plan, notes=(*plan.notes, *said, f"{words}: nothing else fits."))
    if own.placement != plan.placement:
        costs = [
            f"{bytes_(abs(needs))} {'more' if needs > 0 else 'less'} of {kind}"
            for kind, needs in (
                ("VRAM", plan.memory.vram - own.memory.vram),
                ("RAM", plan.memory.ram - own.memory.ram),
            )
            if needs
        ]
        took = [blocks.outlook(p, engine, machine) for p in (plan, own)]
        seconds = [looked.seconds for looked in took if looked is not None]
        if len(seconds) == 2 and seconds[0] is not None and seconds[1] is not None:
            later = seconds[0] - seconds[1]
            costs.append(f"{clock(abs(later))} {'longer' if later > 0 else 'shorter'}")
        where = " ".join(blocks.placed(own.placement))
        said = (*said, f"{words}: {', '.join(costs) or 'no more'} than what the planner would "
                       f"choose ({where}).")  # fmt: skip
    return replace(plan, notes=(*plan.notes, *said))


def first(
    plan: Plan, placements: Sequence[Placement], engine: Works, machine: Machine, limits: Limits
) -> Plan | None:
    """The plan under the first placement that fits as it is, or None."""
    for placement in placements:
        candidate = replaced(plan, placement, engine)
        if fits(candidate, machine, limits):
            return candidate
    return None


def nearest(
    plan: Plan, placements: Sequence[Placement], engine: Works, machine: Machine, limits: Limits
) -> Plan:
    """The plan under the placement that lacks the fewest bytes; of several the most frugal."""
    candidates = [replaced(plan, p, engine) for p in reversed(placements)]
    return min(candidates, key=lambda p: _excess(p, machine, limits))


def fits(plan: Plan, machine: Machine, limits: Limits) -> bool:
    return _excess(plan, machine, limits) == 0


def _excess(plan: Plan, machine: Machine, limits: Limits) -> int:
    """Bytes of RAM and VRAM above what is allowed."""
    return sum(max(need - have, 0) for need, have, _ in budget(plan, machine, limits).values())


def lacking(plan: Plan, machine: Machine, limits: Limits) -> str:
    """What is needed and what is allowed, in words."""
    return " ".join(
        f"{kind}: at least {bytes_(need)} are needed, {bytes_(have)} are allowed ({why})."
        for kind, (need, have, why) in budget(plan, machine, limits).items()
        if need > have
    )


def disk_check(plan: Plan, free: int, folder: Path) -> None:
    """Raises DoesNotFit where the target's file system has too little room for what is left."""
    if plan.disk.total > free:
        raise DoesNotFit(
            f"Disk: about {bytes_(plan.disk.total)} are needed in {folder} "
            f"({bytes_(plan.disk.parts)} of parts, {bytes_(plan.disk.target)} of the joined film), "
            f"{bytes_(free)} are free."
        )
