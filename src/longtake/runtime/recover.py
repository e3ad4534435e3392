"""What to do when a segment fails: the next rung where memory ran out, one more try for NaN."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from longtake.core.errors import NotANumber, OutOfMemory
from longtake.core.events import Event, Replanned, Warned
from longtake.core.plan import Memory, Plan, Segment
from longtake.core.ports import Works
from longtake.core.task import Upscale
from longtake.planner import fit, ladder


def memory_ran_out(error: BaseException) -> bool:
    """True for every way in which Python, torch or libav say so."""
    if isinstance(error, MemoryError | OutOfMemory):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    # torch is not imported here: torch.OutOfMemoryError, and the CPU allocator's RuntimeError
    return type(error).__name__ == "OutOfMemoryError" or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _SAID)
    )


_SAID = "can't allocate memory", "CUDA error: out of memory"  # the latter: page-locked memory too


def disk_is_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


@dataclass(slots=True, kw_only=True)
class Recovery:
    """Decides what follows an error in a segment: another placement, one more try, or the end."""

    plan: Plan
    engine: Works
    doubted: int | None = None  # the segment that gave NaN once

    def after(self, error: Exception, segment: Segment) -> Event:
        """What to tell; `plan` is then the one to go on with. Raises where nothing helps."""
        if isinstance(error, NotANumber):
            if self.doubted == segment.index:
                raise NotANumber(f"{error.detail} Segment {segment.index}, twice.") from error
            self.doubted = segment.index
            return Warned(message=f"{error} Segment {segment.index} is made once more.")
        if not memory_ran_out(error):
            raise error
        self.plan = downgraded(self.plan, self.engine, error)
        return Replanned(reason=str(error), placement=self.plan.placement)


def downgraded(plan: Plan, engine: Works, error: BaseException) -> Plan:
    """The plan on the next rung. Raises OutOfMemory where there is none."""
    under = ladder.lower(fit.rungs(plan, engine), plan.placement)
    plans = [fit.replaced(plan, placement, engine) for placement in under]
    helping = [p for p in plans if _helps(p.memory, plan.memory, error)]
    lower = next(iter(helping or plans), None)
    if lower is None:
        upscaled = isinstance(plan.task, Upscale)
        less = "a smaller --scale" if upscaled else "--set size= or frames= of less"
        raise OutOfMemory(
            f"{error} The most frugal placement was in use (frames per pass: "
            f"{plan.placement.step}, queues of {plan.placement.queue}). What is done is kept: "
            f"close other programs and run the same command again, or choose {less}."
        ) from error
    return lower


def _helps(lower: Memory, now: Memory, error: BaseException) -> bool:
    """Whether a rung needs less of what ran out: of the GPU's memory where torch says that it was
    that, of the host's where the system says so, of either where nobody does."""
    if type(error).__name__ == "OutOfMemoryError":
        return lower.vram < now.vram
    if isinstance(error, OutOfMemory):
        return lower.vram < now.vram or lower.ram < now.ram
    return lower.ram < now.ram
