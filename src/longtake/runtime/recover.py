"""What to do when a segment fails: the next rung where memory ran out, one more try for NaN."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass, field

from longtake.core.errors import HostMemoryShort, NotANumber, OutOfMemory
from longtake.core.events import Event, Replanned, Warned
from longtake.core.plan import Memory, Placement, Plan, Segment
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


_OF_EITHER = "CUDA error: out of memory"  # the GPU's own, or page-locked memory
_SAID = "can't allocate memory", _OF_EITHER


def disk_is_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


class Moved(Exception):
    """No error: work stops between two steps, to go on under another placement."""

    def __init__(self, plan: Plan, reason: str) -> None:
        super().__init__(reason)
        self.plan = plan


@dataclass(slots=True, kw_only=True)
class Recovery:
    """Decides what follows an error in a segment: another placement, one more try, or the end."""

    plan: Plan
    engine: Works
    doubted: int | None = None  # the segment that gave NaN once
    left: set[Placement] = field(default_factory=set)  # placements that are not gone back to

    def after(self, error: Exception, segment: Segment) -> Event:
        """What to tell; `plan` is then the one to go on with. Raises where nothing helps."""
        if isinstance(error, Moved):
            return self._moved(error.plan, error)
        if isinstance(error, NotANumber):
            if self.doubted == segment.index:
                raise NotANumber(f"{error.detail} Segment {segment.index}, twice.") from error
            self.doubted = segment.index
            return Warned(message=f"{error} Segment {segment.index} is made once more.")
        if not memory_ran_out(error):
            raise error
        return self._moved(downgraded(self.plan, self.engine, error), error)

    def _moved(self, plan: Plan, why: Exception) -> Replanned:
        self.left.add(self.plan.placement)
        self.plan = plan
        return Replanned(reason=str(why), placement=plan.placement)


def downgraded(plan: Plan, engine: Works, error: BaseException) -> Plan:
    """The plan on the next rung that needs less of what ran out, and no more of the GPU's memory if
    there is such a one. Raises OutOfMemory where none helps."""
    helping = [p for p in under(plan, engine) if _helps(p.memory, plan.memory, error)]
    modest = [p for p in helping if p.memory.vram <= plan.memory.vram]
    lower = next(iter(modest or helping), None)
    if lower is None:
        upscaled = isinstance(plan.task, Upscale)
        less = "a smaller --scale" if upscaled else "--set size= or frames= of less"
        raise OutOfMemory(
            f"{error} The most frugal placement was in use (frames per pass: "
            f"{plan.placement.step}, queues of {plan.placement.queue}). What is done is kept: "
            f"close other programs and run the same command again, or choose {less}."
        ) from error
    return lower


def under(plan: Plan, engine: Works) -> Iterator[Plan]:
    """The plan on each rung below its own, in order."""
    for placement in ladder.lower(fit.rungs(plan, engine), plan.placement):
        yield fit.replaced(plan, placement, engine)


def _helps(lower: Memory, now: Memory, error: BaseException) -> bool:
    """Whether a rung needs less of what ran out: of the GPU's memory where torch says that it was
    that, of the host's where the system says so, of either where nobody does."""
    if type(error).__name__ == "OutOfMemoryError":
        return lower.vram < now.vram
    either = isinstance(error, OutOfMemory) or _OF_EITHER in str(error)
    if either and not isinstance(error, HostMemoryShort):
        return lower.vram < now.vram or lower.ram < now.ram
    return lower.ram < now.ram
