"""A worker: claims steps of jobs and does them, one at a time, on one device.

The segment function is the command line's (`runtime.segment.render`); what fills the ledger is the
queue. While a step advances, its lease is renewed (`lease`); when it does not advance any more, the
lease ends by itself and somebody else takes over.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from longtake.core import steps
from longtake.core.errors import BadInput, DiskFull, DoesNotFit, LongtakeError, NotANumber, Usage
from longtake.core.machine import Machine
from longtake.core.plain import from_plain
from longtake.core.plan import Plan, Segment
from longtake.core.task import Generate, Limits, Task
from longtake.journal import weigh
from longtake.media.verify import part as check_part
from longtake.media.verify import verify
from longtake.planner.calibration import Calibration
from longtake.planner.choices import Crafts
from longtake.planner.survey import survey
from longtake.runtime import film as films
from longtake.runtime import recover
from longtake.runtime.prepare import draft, draft_generated, replay
from longtake.runtime.salvage import prefix
from longtake.runtime.segment import Advance, Noticed, Sampled
from longtake.runtime.watchdog import Watched
from longtake.service import claiming, logs, making, queue
from longtake.service.blobs import Blobs
from longtake.service.database import Database, DatabaseAway
from longtake.service.disk import Room
from longtake.service.job_log import JobLog
from longtake.service.jobs import identifier, source_of
from longtake.service.lease import Beating, Stopped
from longtake.service.ledger import StepLedger
from longtake.service.making import Opened
from longtake.service.transitions import MOST_ATTEMPTS, Claim, LeaseLost, Outcome

LEASE: Final = 30.0  # s
IDLE: Final = 0.25  # s between two looks at an empty queue
FULL: Final = 5.0  # s before a step is tried again that found the disk full
_BLOCK: Final = 16 << 20  # bytes hashed between two ticks
_FINAL: Final = (BadInput, Usage, DoesNotFit)  # another attempt would end alike
_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Worker:
    """One device's worker; `run` ends after `stop` is set and the step in hand is given back."""

    database: Database
    root: Path
    """Of blobs and work folders; the same for all workers and the API."""
    name: str
    device: str
    queues: tuple[str, ...]
    calibration: Path
    lease: float = LEASE
    stop: threading.Event = field(default_factory=threading.Event)
    machine: Machine = field(default_factory=survey)
    low_water: int = 0
    """Bytes of the disk of `root`; with less of it free nothing is begun."""
    doing: str | None = None  # job/step
    waits: str | None = None
    """Why it begins nothing though there may be work."""
    log: JobLog = field(init=False)
    _room: Room = field(init=False)
    _open: Opened | None = None
    _last: str | None = None

    def __post_init__(self) -> None:
        self._room = Room(self.root, self.low_water)
        self.log = JobLog(self.database, self.name)

    def run(self, *, until_empty: bool = False) -> None:
        """Do what there is to do. `until_empty`: return when nothing can be claimed."""
        with logs.about(worker=self.name), self.log:
            self._claims(until_empty)

    def _claims(self, until_empty: bool) -> None:
        try:
            while not self.stop.is_set():
                try:
                    if self._claims_one():
                        continue
                except DatabaseAway as error:  # also of a step that could not be given back
                    _log.warning("database: %s", error)
                    self.stop.wait(2.0)
                    continue
                if until_empty and self.waits is None:
                    return
                self._let_go()
                self.stop.wait(IDLE)
        finally:
            self._let_go()

    def _claims_one(self) -> bool:
        """Do one step; False where there is none, or no room for it."""
        lacks = self._room.lacks()
        if lacks is not None and self.waits is None:
            _log.warning("%s", lacks)
        self.waits = lacks
        if lacks is not None:
            return False
        held = claiming.claim(
            self.database, self.name, self.queues, self.lease, last=self._last,
            numerics=self.numerics,
        )  # fmt: skip
        if held is None:
            return False
        self._last = held.job
        self.do(held)
        return True

    @property
    def numerics(self) -> str:
        """What decides bits here, whatever the engine: workers with equal ones may share a job."""
        gpu = self.machine.gpu(self.device)
        return json.dumps({
            "gpu": gpu.capability if gpu else None, "torch": self.machine.torch,
            "flags": list(self.machine.flags),
        })  # fmt: skip

    def do(self, held: Claim) -> None:
        """One step, whatever becomes of it."""
        self.doing = f"{held.job}/{held.number}"
        about = {"job": held.job, "fence": held.fence}
        if held.kind == "segment":
            about["segment"] = held.number
        with logs.about(**about):
            try:
                self._done(held)
            finally:
                self.doing = None

    def _done(self, held: Claim) -> None:
        again = "" if held.attempts == 1 else f", attempt {held.attempts}"
        self.log.say(held, "info", f"{_named(held)}: begun{again}.")
        work = {"plan": self._plan, "segment": self._segment, "join": self._join}[held.kind]
        try:
            with Beating(
                database=self.database, held=held, lease=self.lease, draining=self.stop
            ) as beating:
                work(held, beating)
        except LeaseLost:
            words = "the lease is lost, somebody else has it; what was made is dropped."
            self.log.say(held, "warning", f"{_named(held)}: {words}")
        except Stopped:
            outcome: Outcome = "released" if self.stop.is_set() else "cancelled"
            why = "the worker stops" if self.stop.is_set() else "the job shall stop"
            self.log.say(held, "info", f"{_named(held)}: given back, {why}.")
            queue.release(self.database, held, outcome)
        except Exception as error:  # noqa: BLE001 -- the step failed, the worker goes on
            self._let_go()
            self._failed(held, error)

    def _failed(self, held: Claim, error: Exception) -> None:
        if recover.disk_is_full(error) or isinstance(error, DiskFull | DatabaseAway):
            words = f"{_named(held)}: {error}. It is tried again in {FULL:g} s."
            self.log.say(held, "warning", words)
            queue.release(self.database, held, "error", FULL)
            return
        outcome: Outcome = "error"
        if not isinstance(error, LongtakeError):
            _log.error("%s", _named(held), exc_info=error)
            error, outcome = LongtakeError(f"{type(error).__name__}: {error}"), "crash"
        elif recover.memory_ran_out(error):
            outcome = "oom"
        twice = isinstance(error, NotANumber) and held.attempts > 1
        final = isinstance(error, _FINAL) or outcome == "oom" or twice
        again = not final and held.attempts < MOST_ATTEMPTS
        words = f"attempt {held.attempts} failed{', it is tried again' if again else ''}: {error}"
        self.log.say(held, "warning" if again else "error", f"{_named(held)}: {words}")
        queue.fail(self.database, held, error, outcome, final=final)

    # --- the three kinds of steps --------------------------------------------------------------

    def _plan(self, held: Claim, beating: Beating) -> None:
        """Analyse the source and freeze the plan."""
        task = self._task(held)
        limits = self._limits(held)
        known = Calibration(self.calibration)
        folder = self._folder(held)
        if isinstance(task, Generate):
            plan, crafts = draft_generated(task, limits, self.machine, known)
        else:
            plan, crafts = draft(task, limits, self.machine, known)
        freezing = films.freeze(plan, folder, crafts, self.machine, known)
        plan = steps.done(steps.told(freezing, lambda _: beating.tick()))
        lengths = [segment.stop - segment.start for segment in plan.segments]
        queue.commit_plan(self.database, held, plan.to_json(), plan.identity, lengths)
        for note in plan.notes:
            self.log.say(held, "info", note)
        words = f"{sum(lengths)} frames in {len(lengths)} segments, identity {plan.identity}."
        self.log.say(held, "info", f"{_named(held)}: done, {words}")

    def _segment(self, held: Claim, beating: Beating) -> None:
        """Make a segment; where memory runs out, under the next placement."""
        while True:
            opened = self._opened(held)
            segment, before = opened.plan.segments[held.number], opened.plan
            try:
                opened.load(beating)
                self._rendered(opened, segment, held, beating)
                return
            except (LeaseLost, Stopped):
                if opened.generates:  # it was left in the middle of a step
                    self._let_go()
                raise
            except Exception as error:
                opened.close()
                recovery = opened.recovery
                recovery.doubted = segment.index if held.attempts > 1 else None
                self._ledger(held, opened.crafts).record(recovery.after(error, segment))
                if opened.plan is before:  # a number that is none: the next attempt
                    raise

    def _rendered(self, opened: Opened, segment: Segment, held: Claim, beating: Beating) -> None:
        ledger = self._ledger(held, opened.crafts)
        began, part = time.monotonic(), ledger.part(segment)
        frames, steps_ = segment.stop - segment.start, None
        folder = making.workplace(self.root, held) if opened.generates else self._folder(held)
        order = segment, part
        with _dropped(part), closing(opened.parts(order, folder, beating)) as made:
            for event in made:
                if isinstance(event, Sampled):
                    beating.sampled(event.step.done, event.step.of)
                    began, steps_ = time.monotonic(), event.step.of
                elif isinstance(event, Advance):
                    beating.tick(event.frames)
                elif isinstance(event, Noticed):
                    ledger.record(event.event)
        with _dropped(part):
            check_part(part, opened.plan.recipe.output, frames)
        seconds = time.monotonic() - began
        replace(ledger, steps=steps_).commit(segment, part, seconds)
        words = f"{frames} frames in {seconds:.1f} s, {frames / seconds:.1f} frames/s"
        words += "." if steps_ is None else f", behind {steps_} steps of the sampler."
        self.log.say(held, "info", f"{_named(held)}: done, {words}")

    def _join(self, held: Claim, beating: Beating) -> None:
        """Join the parts, verify the film, put it among the assets."""
        assert held.plan is not None
        plan, crafts = self._placed(held)
        film = films.open_film(plan, self._folder(held))
        whole = prefix(plan, self._ledger(held, crafts).committed())
        frames = plan.segments[len(whole) - 1].stop
        made = self._folder(held) / f"joined.{held.fence}{plan.task.target.suffix}"
        with _dropped(made):
            for done in beating.through(crafts.sink.join(whole, made, film, plan)):
                beating.frames = done // 10  # a copy: quick beside what follows
            for done in beating.through(verify(made, film, plan, frames)):
                beating.frames = (frames + 9 * done) // 10
        state = "succeeded" if len(whole) == len(plan.segments) else "partial"
        self._published(held, made, plan.task, state, beating)
        if state == "succeeded":
            shutil.rmtree(self.root / "jobs" / held.job, ignore_errors=True)

    def _published(self, held: Claim, made: Path, task: Task, state: str, beating: Beating) -> None:
        """Make the film an asset of the owner, and the job end. Raises LeaseLost; the film is gone
        then."""
        name, blobs = identifier(), Blobs(self.root)
        key = f"assets/{name}/content"
        film = {
            "id": name, "kind": "result" if state == "succeeded" else "partial", "state": "ready",
            "name": task.target.name, "key": key, "bytes": weigh(made),
            "sha256": _digest(made, beating),
        }  # fmt: skip
        blobs.put_atomic(key, made)
        try:
            queue.commit_join(self.database, held, film, state)
        except LeaseLost:
            blobs.delete(key)
            raise
        words = f"{task.target.name}, {film['bytes']:,} bytes, {state}."
        self.log.say(held, "info", f"{_named(held)}: done, {words}")

    def _ledger(self, held: Claim, crafts: Crafts) -> StepLedger:
        return StepLedger(
            database=self.database, held=held, root=self.root, numerics=self.numerics,
            suffix=crafts.sink.part, log=self.log,
        )  # fmt: skip

    # --- what a job needs ----------------------------------------------------------------------

    def _task(self, held: Claim) -> Task:
        task: Task = from_plain(Task, json.loads(held.task))  # type: ignore[arg-type]
        found = source_of(self.database, held.job)
        if found is not None:
            path = Path(found.path) if found.path else self.root / found.key
            if isinstance(task, Generate):
                task = replace(task, image=path)
            else:
                task = replace(task, source=path)
        return replace(task, target=self._folder(held) / task.target.name)

    def _limits(self, held: Claim) -> Limits:
        return replace(from_plain(Limits, json.loads(held.limits)), devices=self.device)

    def _folder(self, held: Claim) -> Path:
        # A planner who has lost its lease may still be writing: the next has a folder of its own.
        folder = self.root / "jobs" / held.job / f"plan.{held.planner}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _placed(self, held: Claim) -> tuple[Plan, Crafts]:
        """The frozen plan on this worker's device. Raises Usage where its bits would differ."""
        assert held.plan is not None
        plan = Plan.from_json(held.plan)
        limits = self._limits(held)
        plan = replace(plan, placement=replace(plan.placement, devices=(self.device,)))
        return replay(plan, limits, self.machine)

    def _opened(self, held: Claim) -> Opened:
        if self._open is None or self._open.job != held.job:
            self._let_go()
            plan, crafts = self._placed(held)
            known = Calibration(self.calibration)
            self._open = Opened(
                job=held.job, recovery=recover.Recovery(plan=plan, engine=crafts.works),
                crafts=crafts, film=films.open_film(plan, self._folder(held)), device=self.device,
                watched=Watched(machine=self.machine, known=known, limits=self._limits(held)),
            )  # fmt: skip
        return self._open

    def _let_go(self) -> None:
        """Close the engine that is open; its memory is free then."""
        if self._open is not None:
            opened, self._open = self._open, None
            opened.close()


def _named(held: Claim) -> str:
    return {"plan": "planning", "join": "joining"}.get(held.kind, f"segment {held.number}")


def _digest(path: Path, beating: Beating) -> str:
    """sha256 of a film, however long."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            total.update(block)
            beating.tick()
    return total.hexdigest()


@contextmanager
def _dropped(unfinished: Path) -> Iterator[None]:
    """Remove a file that does not get finished: on a full disk it would be in its own way."""
    try:
        yield
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
