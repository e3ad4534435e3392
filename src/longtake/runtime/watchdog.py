"""Watches a job between its steps: slow for a reason, or about to run out of the host's memory.

What is slow is told with numbers and the likeliest cause. Where another placement can help, the job
goes on under it with the same recipe, so with the same bytes: for each cause once, never to a
placement that was left, and never against what the user fixed by `--place`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from longtake.core import faults
from longtake.core.events import Slowed, Warned
from longtake.core.machine import Machine
from longtake.core.plan import Outlook, Placement, Plan, Script, Segment
from longtake.core.ports import Step
from longtake.core.task import Limits
from longtake.offload._stalls import stalls
from longtake.planner import blocks, fit, host
from longtake.planner.calibration import Calibration, key
from longtake.planner.wishes import held
from longtake.runtime import measure, sight
from longtake.runtime.pace import LATE, ROUGH, Expected, Late, Pace
from longtake.runtime.recover import Moved, Recovery, under
from longtake.runtime.sight import Cause, Sight

FRAMES: Final = 16
"""Frames of a lap, at least: engines that make several at a time give the first of them late."""
_LOOKS: Final = 1.0  # s between two looks at the host's memory
_WORTH: Final = 64 << 20  # bytes: a rung that saves less is passed over where others save more


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What a watch knows of the machine and of the user's wishes; goes to worker processes."""

    machine: Machine
    known: Calibration
    limits: Limits = field(default_factory=Limits)

    def over(self, recovery: Recovery, device: str) -> Watch:
        return Watch(self, recovery, device)


class Watch:
    """Of a job on one device; `recovery` has its plan."""

    def __init__(self, about: Watched, recovery: Recovery, device: str) -> None:
        self._about, self._recovery, self._device = about, recovery, device
        self._acted: set[Cause | Literal["short"]] = set()
        self._pace = Pace()
        self._laps: list[tuple[float, int, Sight]] = []  # s of work, units; the last two
        self._look: Outlook | None = None
        self._start = sight.Sight(host=host.look())
        self._busy, self._looked = 0.0, float("-inf")
        self._nets: Any = None
        self._segment: int | None = None
        self._done = 0  # units

    def opened(self, busy: float, nets: Any = None) -> None:
        """An engine is open under the plan's placement: nothing of before counts. `busy`: s that
        engines have been at work in this job; `nets`: the container of those that are placed."""
        self._nets = nets
        context = self._plan.memory.engine.context
        measure.keep_within(self._device, self._about.limits.vram, context)
        least = 1 if self._generates else FRAMES
        self._look = blocks.outlook(self._plan, self._recovery.engine, self._about.machine)
        self._pace = Pace(least=least, expected=self._expected())
        self._start = self._sight()
        self._laps, self._busy, self._segment = [(busy, 0, self._start)], busy, None
        self._done = 0

    def after(
        self, segment: Segment, found: Step | range, busy: float
    ) -> Iterator[Slowed | Warned]:
        """Behind a step, or frames [start, stop) of the film. Gives what to tell; raises Moved
        where the work is to go on elsewhere."""
        yield from self._memory()
        seconds, self._busy = busy - self._busy, busy
        if self._generates and not isinstance(found, Step):
            return  # decoded at last: there is no pace to compare it with
        if segment.index != self._segment or _begins(found, segment):
            self._segment = segment.index
            self._pace.begun()  # what warming up took is not its pace
            return
        laps, units = self._pace.laps, 1 if isinstance(found, Step) else len(found)
        late = self._pace.took(units, seconds)
        self._done += units
        if self._pace.laps == laps:
            return
        now = busy, self._done, self._sight()
        late = late or self._starved(now)
        if late is not None:
            yield from self._slow(segment, late)
        self._laps = [self._laps[-1], now]

    @property
    def _plan(self) -> Plan:
        return self._recovery.plan

    @property
    def _generates(self) -> bool:
        return isinstance(self._plan.recipe.reading, Script)

    def _expected(self) -> Expected | None:
        """Seconds of a step or a frame, as measured here; of a step on a GPU else by arithmetic;
        else what the first ones will take."""
        plan, machine = self._plan, self._about.machine
        took = self._about.known.time(key(plan.recipe, plan.placement, machine), plan.geometry)
        if not self._generates:
            seconds = took.compute / plan.geometry.frames if took else 0.0
            return Expected(seconds=seconds) if seconds else None
        look = self._look
        stage, steps = look and look.stage("denoise"), int(plan.recipe.knobs.get("steps", 0))
        if not look or not stage or not stage.seconds or not steps or not plan.memory.on_gpu:
            return None
        each, whole = stage.seconds / steps, sum(x.seconds or 0.0 for x in look.stages)
        if took is None:
            return Expected(seconds=each, most=ROUGH)
        return Expected(seconds=each * took.compute / whole)

    def _sight(self, *, card: bool = False) -> Sight:
        gpu = self._about.machine.gpu(self._device) if card else None
        waited = 0.0 if self._nets is None else stalls(self._nets).on_reads
        return sight.look(None if gpu is None else gpu.uuid, waited=waited)

    # --- what is wrong -------------------------------------------------------------------------

    def _memory(self) -> Iterator[Warned]:
        now = faults.now()
        if now < self._looked + _LOOKS or "short" in self._acted:
            return
        self._looked, seen = now, sight.look_host()
        words = sight.short_of_ram(self._start.host, seen)
        if words is None:
            return
        self._acted.add("short")
        why_not = self._elsewhere("ram", words, max(sight.reserve(seen.ram) - seen.free, 0))
        yield Warned(
            message=f"{words} {why_not} Close other programs: if the system ends this process, "
            f"what is done is kept."
        )

    def _starved(self, now: tuple[float, int, Sight]) -> Late | None:
        """Whether steps wait for a disk that gives less than was planned. Of itself that need not
        make them half as long again."""
        there = self._look.blocks if self._look and self._generates else None
        if there is None or not there.disk or not there.read or self._pace.laps <= len(self._laps):
            return None
        seconds, steps = (a - b for a, b in zip(now[:2], self._laps[0][:2], strict=True))
        waited = now[2].waited - self._laps[0][2].waited
        slower = seconds / steps > LATE * there.disk * there.read
        if waited < sight.WAITED * seconds or not slower:
            return None
        planned = max(there.disk * there.read, there.blocks * (there.compute or 0.0))
        return Late(seconds=seconds / steps, expected=Expected(seconds=planned))

    def _slow(self, segment: Segment, late: Late) -> Iterator[Slowed]:
        then, _, before = self._laps[0]
        cause, words = sight.cause(before, self._sight(card=True), self._busy - then)
        if cause in self._acted:
            return
        if cause == "disk":
            words += self._rates(late.seconds)
        self._acted.add(cause)
        unit: Literal["step", "frame"] = "step" if self._generates else "frame"
        expected = late.expected
        than = "planned" if expected.of == "plan" else "of the first ones"
        message = (
            f"A {unit} takes {late.seconds:.3g} s, {late.seconds / expected.seconds:.1f} times the "
            f"{expected.seconds:.3g} s {than}: {words}."
        )

        def told(more: str) -> Slowed:
            return Slowed(
                segment=segment.index, unit=unit, seconds=late.seconds, cause=cause,
                expected=expected.seconds, of=expected.of, message=f"{message} {more}".strip(),
            )  # fmt: skip

        if cause in ("heat", "unknown"):
            yield told("")
            return
        why = f"{words[:1].upper()}{words[1:]}."
        try:
            why_not = (
                self._off_the_disk(why) if cause == "disk"
                else self._elsewhere("ram" if cause == "RAM" else "vram", why)
            )  # fmt: skip
        except Moved:
            yield told("")
            raise
        yield told(why_not)

    def _rates(self, seconds: float) -> str:
        """What the disk gives in a step of so many seconds, and what it was planned to give."""
        there = self._look.blocks if self._look and self._generates else None
        if there is None or not there.disk:
            return ""
        gave = there.disk * there.block / seconds
        planned = f" of {there.block / there.read / 1e6:,.0f} planned" if there.read else ""
        return f", at {gave / 1e6:,.0f} MB/s{planned}"

    # --- elsewhere -----------------------------------------------------------------------------

    def _elsewhere(self, short: Literal["ram", "vram"], reason: str, missing: int = 0) -> str:
        """Raises Moved to the first rung below that needs less of what is short by `missing` bytes,
        or else the least; says why where there is none."""
        helping = [
            p for p in under(self._plan, self._recovery.engine)
            if p.placement not in self._recovery.left and self._helps(p, short)
        ]  # fmt: skip
        free = [p for p in helping if self._as_wished(p.placement)]
        if not helping:
            return "No placement needs less."
        if not free:
            return self._in_the_way(helping[0].placement)

        def need(plan: Plan) -> int:
            return plan.memory.ram if short == "ram" else plan.memory.vram

        most = need(self._plan) - max(missing, _WORTH)
        enough = [p for p in free if need(p) <= most]
        raise Moved(enough[0] if enough else min(free, key=need), reason)

    def _off_the_disk(self, reason: str) -> str:
        """Raises Moved to a placement that keeps more on the host, where that fits now; else says
        why there is none."""
        plan, engine = self._plan, self._recovery.engine
        grid, wishes = engine.grid(plan.recipe.knobs), self._about.limits.place
        ways = [
            p for p in held(fit.rungs(plan, engine), grid, wishes)
            if p not in self._recovery.left
        ]  # fmt: skip
        machine = self._machine_without_us()
        more = [fit.settled(plan, p, engine, machine, self._about.limits) for p in ways]
        fits = [
            p for p in more
            if p.memory.ram > plan.memory.ram and fit.fits(p, machine, self._about.limits)
        ]  # fmt: skip
        if fits:  # the fastest that reads nothing, else what reads the least
            whole = [p for p in fits if p.placement.offload != "disk"]
            raise Moved(whole[0] if whole else max(fits, key=lambda p: p.memory.ram), reason)
        return (
            "Nothing that keeps more of the weights in RAM fits: a faster disk, more RAM (--ram) "
            "or smaller weights (`longtake weights convert --quant`) would help."
        )

    def _helps(self, lower: Plan, short: Literal["ram", "vram"]) -> bool:
        """Whether it needs less of what is short, and the other memory is there."""
        needs, now = lower.memory, self._plan.memory
        if short == "ram":
            return needs.ram < now.ram and needs.vram <= now.vram
        room = fit.budget(lower, self._machine_without_us(), self._about.limits)["RAM"]
        return needs.vram < now.vram and room[0] <= room[1]

    def _as_wished(self, placement: Placement) -> bool:
        """Whether all that `--place` fixes is as it is in the plan."""
        now = self._plan.placement
        names = (name for name in self._about.limits.place if hasattr(now, name))
        return all(getattr(placement, name) == getattr(now, name) for name in names)

    def _in_the_way(self, placement: Placement) -> str:
        fixed = " ".join(f"{name}={value}" for name, value in self._about.limits.place.items())
        steps = f"step={placement.step} queue={placement.queue}"
        return (
            f"--place {' '.join(blocks.placed(placement))} {steps} would help, but --place {fixed} "
            f"stands."
        )

    def _machine_without_us(self) -> Machine:
        """The machine as it would be if this job let go of what it holds."""
        machine, now = self._about.machine, host.look()
        card, held_there = self._sight(card=True).card, self._plan.memory.vram
        gpus = tuple(
            replace(g, free=min(card.free + held_there, card.total))
            if card and self._device == f"cuda:{g.index}" else g
            for g in machine.gpus
        )  # fmt: skip
        free = min(now.free + measure.ram_now(), now.ram)
        return replace(machine, free_ram=free, gpus=gpus)


def _begins(found: Step | range, segment: Segment) -> bool:
    """Whether a shot begins within these frames."""
    if isinstance(found, Step):
        return False
    return any(found.start <= cut <= found.stop for cut in segment.cuts)
