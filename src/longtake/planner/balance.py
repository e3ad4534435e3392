"""What there is, what others use, what a plan takes and what has no room: VRAM, RAM and disk."""

from __future__ import annotations

from dataclasses import dataclass, replace

from longtake.core.machine import Machine
from longtake.core.plan import BlocksOutlook, Memory, Placement, Plan, StageOutlook
from longtake.core.ports import Works
from longtake.core.task import Limits
from longtake.planner import fit
from longtake.planner.explain import Rows, bytes_, clock
from longtake.planner.wishes import STREAMED

Causes = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """One kind of memory, in bytes."""

    name: str  # "VRAM", "RAM" or "disk"
    total: int
    used: int  # by others, now
    allowed: int  # that the job may take
    why: str  # what `allowed` comes from
    needed: int
    causes: Causes
    overflow: int  # that a job with everything in its fastest place would lack


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    pools: tuple[Pool, ...]
    blocks: BlocksOutlook | None  # None: no block is brought in turn
    stages: tuple[StageOutlook, ...]


def balance(
    plan: Plan, engine: Works, machine: Machine, limits: Limits, disk: tuple[int, int] | None
) -> Balance:
    """`disk`: total and free bytes of the target's file system; None: it is another machine's."""
    budget = fit.budget(plan, machine, limits)
    fastest = fit.replaced(plan, _fastest(plan), engine)
    pools = [_ram(plan, machine, budget["RAM"], engine)]
    if "VRAM" in budget:
        pools.insert(0, _vram(plan, machine, budget["VRAM"], fastest.memory))
    if disk is not None:
        pools.append(_disk(plan, *disk))
    streams = plan.placement.offload in STREAMED and plan.outlook is not None
    return Balance(
        pools=tuple(pools),
        blocks=plan.outlook.blocks if streams and plan.outlook else None,
        stages=plan.outlook.stages if plan.outlook else (),
    )


def _fastest(plan: Plan) -> Placement:
    return replace(plan.placement, offload="resident", state="device")


def _vram(plan: Plan, machine: Machine, budget: tuple[int, int, str], fastest: Memory) -> Pool:
    need, allowed, why = budget
    gpu = min(
        (g for g in machine.gpus if f"cuda:{g.index}" in plan.placement.devices),
        key=lambda g: g.free,
    )
    return Pool(
        name="VRAM", total=gpu.vram, used=gpu.vram - gpu.free, allowed=allowed, why=why,
        needed=need, causes=_engine(plan), overflow=max(0, fastest.vram - allowed),
    )  # fmt: skip


def _ram(plan: Plan, machine: Machine, budget: tuple[int, int, str], engine: Works) -> Pool:
    """What has no room lies on the disk."""
    need, allowed, why = budget
    host, own = plan.memory.host, plan.memory.engine
    workers = len(plan.placement.devices)
    parts = [("process", host.process), ("decoder", host.decode), ("frames in hand", host.frames),
             ("encoder", host.encode)]  # fmt: skip
    if plan.memory.on_gpu:
        parts += [("libraries", own.beside), ("page-locked", own.parked)]
    else:
        parts += _engine(plan)
    whole = need
    if plan.placement.offload == "disk":
        kept = replace(plan.placement, host_blocks=engine.grid(plan.recipe.knobs).blocks)
        whole = fit.replaced(plan, kept, engine).memory.ram * workers
    return Pool(
        name="RAM", total=machine.ram, used=max(machine.ram - machine.free_ram, 0),
        allowed=allowed, why=why, needed=need,
        causes=tuple((name, size * workers) for name, size in parts if size),
        overflow=max(0, whole - allowed),
    )  # fmt: skip


def _engine(plan: Plan) -> Causes:
    own = plan.memory.engine
    names = ("context", "weights", "state", "activations", "workspace")
    return tuple((name, getattr(own, name)) for name in names if getattr(own, name))


def _disk(plan: Plan, total: int, free: int) -> Pool:
    disk = plan.disk
    return Pool(
        name="disk", total=total, used=total - free, allowed=free, why="free now",
        needed=disk.total, causes=(("parts", disk.parts), ("while joining", disk.target)),
        overflow=max(0, disk.total - free),
    )  # fmt: skip


# --- in words ------------------------------------------------------------------------------------


def told(found: Balance) -> dict[str, Rows]:
    """Sections of (name, value)."""
    sections = {f"balance of {pool.name}": _pool(pool) for pool in found.pools}
    if found.blocks is not None:
        sections["blocks of the transformer"] = _blocks(found.blocks)
    if found.stages:
        sections["stages (predicted)"] = [_stage(stage) for stage in found.stages]
    return sections


def _pool(pool: Pool) -> Rows:
    return [
        ("total", bytes_(pool.total)),
        ("used by others", bytes_(pool.used)),
        ("available", f"{bytes_(pool.allowed)} ({pool.why})"),
        ("needed", bytes_(pool.needed)),
        *((f"  {name}", bytes_(size)) for name, size in pool.causes),
        ("overflow", _overflow(pool)),
    ]


def _overflow(pool: Pool) -> str:
    where = {"VRAM": "comes from the host when it is needed", "RAM": "is read from the disk"}
    if not pool.overflow:
        return "none"
    return f"{bytes_(pool.overflow)} {where.get(pool.name, 'has no room')}"


def _blocks(found: BlocksOutlook) -> Rows:
    rows = [
        ("where", f"{found.blocks} blocks of {bytes_(found.block)}: {found.device} on the device, "
                  f"{found.host} come from the host, {found.disk} from the disk"),
    ]  # fmt: skip
    if found.compute is None or found.copy is None:
        return [*rows, ("speed", "not known: as many blocks lie on the device as fit")]
    ways = [f"compute {_ms(found.compute)}", f"copy {_ms(found.copy)}"]
    if found.read is not None:
        ways.append(f"read {_ms(found.read)}")
    hidden = [("copies", found.copies_hidden, found.host + found.disk)]
    if found.disk:
        hidden.append(("reads", found.reads_hidden, found.disk))
    if found.seconds is not None:
        alone = found.blocks * found.compute
        rows.append(("a pass", f"{_ms(found.seconds)}, of computing alone {_ms(alone)}"))
    return [
        *rows,
        ("a block", ", ".join(ways)),
        *((name, _hidden(is_hidden)) for name, is_hidden, count in hidden if count),
    ]


def _hidden(hidden: bool | None) -> str:
    return "hidden behind computing" if hidden else "slower than computing: they set the pace"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms" if seconds < 10 else f"{seconds:.1f} s"


def _stage(stage: StageOutlook) -> tuple[str, str]:
    took = "time not known" if stage.seconds is None else clock(stage.seconds)
    vram = f", {bytes_(stage.vram)} of VRAM" if stage.vram else ""
    return stage.name, f"{took}{vram}, {bytes_(stage.ram)} of RAM"
