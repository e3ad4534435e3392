"""What each stage of the work takes, beside what the plan said: seconds and peak bytes.

An engine says which stage it turns to (`Entered`). Peaks are those of the whole process while the
stage is at work, so that what others hold beside it counts, too.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass, field

from longtake.core import faults
from longtake.core.events import StageReport
from longtake.core.media import Clip
from longtake.core.plan import Plan
from longtake.core.ports import Entered, Step
from longtake.runtime import measure

Made = Generator[Clip | Step]


@dataclass(slots=True)
class _Spent:
    share: float  # of the stage that was left to do
    seconds: float = 0.0
    ram: int = 0
    vram: int | None = None


@dataclass(slots=True)
class Observed:
    """Of one process; a stage that is entered again goes on where it was."""

    stages: dict[str, _Spent] = field(default_factory=dict)

    def through(self, items: Iterable[Clip | Step | Entered], device: str) -> Made:
        """The items without the marks. Only the time in which they are made counts."""
        source, now = iter(items), None
        try:
            while True:
                began = faults.now()
                item = next(source, None)
                if now is not None:
                    now.seconds += faults.now() - began
                if isinstance(item, Entered):
                    _leave(now, device)
                    now = self.stages.setdefault(item.stage, _Spent(item.share))
                    measure.afresh(device)
                    continue
                if item is None:
                    return
                yield item
                del item  # clips are large: not held while the next is made
        finally:
            _leave(now, device)
            close = getattr(source, "close", None)
            if close is not None:
                close()


def _leave(stage: _Spent | None, device: str) -> None:
    if stage is None:
        return
    ram, vram = measure.peaks(device)
    stage.ram = max(stage.ram, ram)
    stage.vram = vram if stage.vram is None else max(stage.vram, vram or 0)


def report(plan: Plan, observed: Observed, busy: dict[str, float]) -> tuple[StageReport, ...]:
    """Predicted against observed: of the stages that an engine told of, or else of decoding,
    computing and encoding, which overlap. `busy`: seconds of these three."""
    if not observed.stages:
        said = {} if plan.time is None else {
            "decode": plan.time.decode, "compute": plan.time.compute, "encode": plan.time.encode
        }  # fmt: skip
        return tuple(
            StageReport(name=name, seconds=spent, predicted_seconds=said.get(name))
            for name, spent in busy.items()
        )
    return tuple(_told(plan, name, spent) for name, spent in observed.stages.items())


def _told(plan: Plan, name: str, spent: _Spent) -> StageReport:
    said = plan.outlook.stage(name) if plan.outlook else None
    seconds = None if said is None or said.seconds is None else said.seconds * spent.share
    return StageReport(
        name=name, seconds=spent.seconds, predicted_seconds=seconds,
        ram=spent.ram, predicted_ram=said.ram if said else None,
        vram=spent.vram, predicted_vram=(said.vram or None) if said else None,
    )  # fmt: skip
