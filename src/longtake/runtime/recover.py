"""What to do when memory runs out: the next rung of the ladder, the same recipe."""

from __future__ import annotations

import errno

from longtake.core.errors import OutOfMemory
from longtake.core.plan import Plan
from longtake.core.ports import Engine
from longtake.planner import ladder, planner


def memory_ran_out(error: BaseException) -> bool:
    """True for every way in which Python, torch or libav say so."""
    if isinstance(error, MemoryError | OutOfMemory):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    # torch is not imported here: torch.OutOfMemoryError, and the CPU allocator's RuntimeError
    return type(error).__name__ == "OutOfMemoryError" or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def disk_is_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def downgraded(plan: Plan, engine: Engine, error: BaseException) -> Plan:
    """The plan on the next rung. Raises OutOfMemory where there is none."""
    lower = ladder.below(planner.rungs(plan, engine), plan.placement)
    if lower is None:
        raise OutOfMemory(
            f"{error} The most frugal placement was in use ({plan.placement.step} frame per pass, "
            f"queues of {plan.placement.queue}). What is done is kept: close other programs and "
            f"run the same command again, or choose a smaller --scale."
        ) from error
    return planner.replaced(plan, lower, engine)
