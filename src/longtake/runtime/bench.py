"""How fast is this machine at a job: each stage alone, and the whole from decoding to the finished
file.

The whole is the command itself in a process of its own (`longtake run`), so that start-up and
memory are those of a job. The stages alone are the job's own functions (`runtime/segment.py`), with
its plan, its film and its engine, one at a time, fed from memory. Every run is of bounded length;
of each kind the median is told, and every single run.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from longtake import __version__
from longtake.core.errors import LongtakeError, Usage
from longtake.core.machine import Machine
from longtake.core.plan import Plan
from longtake.core.plugins import find
from longtake.core.task import Limits, Upscale
from longtake.journal import load_plan
from longtake.media.beginning import beginning
from longtake.media.probe import probe
from longtake.planner.calibration import Calibration
from longtake.planner.choices import Crafts
from longtake.planner.explain import explain
from longtake.runtime import allocator, alone, offloads, sample, workfolder
from longtake.runtime.alone import Speed, remove
from longtake.runtime.film import open_film
from longtake.runtime.prepare import draft
from longtake.runtime.segment import Line
from longtake.runtime.stages import Meter

PILOT = 32  # frames of the job that finds how many frames the others need
FEWEST, MOST = 24, 1200  # frames of a job
TURN = 0.5  # length of a stage's run, as a part of a job's
BUSY = 0.25  # load of each core by others from which the figures are doubtful


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What to measure. `task` says how the film is made; its own source and target do not count."""

    task: Upscale
    limits: Limits
    source: Path | None = None  # None: a film is made
    size: tuple[int, int] = (320, 180)  # px, of a film that is made
    frames: int | None = None  # of each job; None: as many as take about `seconds`
    seconds: float = 8.0  # that one job should take, without its start
    repeats: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    film: str
    source: tuple[int, int]  # px
    target: tuple[int, int]  # px
    frames: int
    segments: int
    engine: str
    dtype: str
    devices: tuple[str, ...]
    encoder: str
    stages: dict[str, Speed]  # decode, compute, encode: each alone
    slowest: str
    steady: Speed  # the job, from its first frames to its last part
    command: Speed  # the job, from the start of the process to its end
    starting: float  # s until the first frames came out of the engine, median
    share: float  # steady / (slowest stage alone x number of devices)
    cores_fps: float  # that all stages together could reach, if all cores worked all the time
    busy: dict[str, float]  # s in each stage during the last job
    predicted_ram: int
    peak_ram: int  # bytes, the most of all jobs
    predicted_vram: int | None
    peak_vram: int | None
    machine: str
    versions: dict[str, str]
    seconds: float  # that all this took
    notes: tuple[str, ...] = ()  # what makes the figures differ from what was asked or could be


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One job: its last event, and when things happened, s from the start of its process."""

    finished: dict[str, Any]
    first: float  # the first frames came out of the engine
    given: int  # so many
    last: float  # the last part was committed
    wall: float

    @property
    def steady(self) -> float:
        frames = self.finished["frames"]
        if frames == self.given:  # a single clip: nothing flows
            return float(self.finished["fps"])
        return float((frames - self.given) / (self.last - self.first))


class JobFailed(LongtakeError):
    """The job that was to be measured failed."""


def bench(
    wish: Wish, machine: Machine, known: Calibration, scratch: Path
) -> Generator[str | Report]:
    """Measure; yields what is being done, in words, and the report last. All files lie in
    `scratch`.

    Raises what planning the job raises, and JobFailed with the exit code of the job.
    """
    began, load = time.monotonic(), _load()
    _checked(wish)
    frames = wish.frames
    if frames is None:
        yield "a short job, to see how long others should be"
        plan, _ = _planned(wish, PILOT, machine, known, scratch)
        pilot = _job(plan, scratch, 0)
        _forget(plan)
        frames = int(min(max(pilot.steady * wish.seconds, FEWEST), MOST))
    plan, crafts = _planned(wish, frames, machine, known, scratch)
    runs: list[_Run] = []
    for turn in range(wish.repeats):
        yield f"job {turn + 1} of {wish.repeats}, {frames} frames"
        if runs:
            _forget(plan)
        runs.append(_job(plan, scratch, turn))
    stages = yield from _stages(plan, crafts, scratch, wish)
    report = _report(wish, plan, machine, runs, stages, time.monotonic() - began)
    yield replace(report, notes=tuple(_notes(wish, report.frames, machine, load)))


def _load() -> float:
    """Processes that wanted a core in the last minute, on average; 0 where nobody counts them."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def _notes(wish: Wish, frames: int, machine: Machine, load: float) -> Iterator[str]:
    if wish.frames is not None and frames < wish.frames:
        yield f"The film has {frames:,} frames; {wish.frames:,} were asked for."
    if load > BUSY * machine.cores:
        yield (
            f"Others kept {load:.1f} of {machine.cores} cores busy in the minute before: the "
            "figures may be too low. Run it again when the machine is idle."
        )


def _checked(wish: Wish) -> None:
    if not 1 <= wish.repeats <= 100:
        raise Usage(f"--repeats {wish.repeats}: outside 1 .. 100.")
    if not 0.1 <= wish.seconds <= 3600:
        raise Usage(f"--seconds {wish.seconds:g}: outside 0.1 .. 3600.")
    if wish.frames is not None and wish.frames < 1:
        raise Usage(f"--frames {wish.frames}: at least 1.")
    if wish.source is None and not all(16 <= n <= 8192 and n % 2 == 0 for n in wish.size):
        width, height = wish.size
        raise Usage(f"--size {width}x{height}: give even numbers from 16 to 8192.")


def _planned(
    wish: Wish, frames: int, machine: Machine, known: Calibration, scratch: Path
) -> tuple[Plan, Crafts]:
    """The plan of a job over the first `frames` frames of the film."""
    if wish.source is None:
        source = sample.film(scratch / "film.mp4", wish.size, frames)
    else:
        if not wish.source.exists():
            raise Usage(f"{wish.source}: no such file or folder.")
        source = beginning(probe(wish.source, wish.task.rate), scratch, frames)
    task = replace(
        wish.task, source=source, target=scratch / f"out{_suffix(wish.task)}", frames=(0, frames)
    )
    return draft(task, wish.limits, machine, known)


def _suffix(task: Upscale) -> str:
    """A target that holds the codec: mp4 where it can."""
    for name in ("mp4", "mkv", "mov"):
        with suppress(Usage):
            if task.codec in ("auto", *find("media.sinks", name).codecs):
                return f".{name}"
    return ""


def _job(plan: Plan, scratch: Path, turn: int) -> _Run:
    """Carry the plan out in a fresh process; its work folder stays. Raises JobFailed."""
    stored = scratch / f"plan{turn}.json"
    stored.write_text(plan.to_json(), encoding="utf-8")
    words = [sys.executable, "-m", "longtake", "run", str(stored), "--json", "--keep"]
    began = time.monotonic()
    last: dict[str, Any] = {}
    first = given = done = 0.0
    with (scratch / "errors").open("w+", encoding="utf-8") as errors:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        try:
            assert process.stdout is not None
            for line in process.stdout:
                now, last = time.monotonic() - began, json.loads(line)
                if last["event"] == "advanced" and last["frames"] and not given:
                    first, given = now, last["frames"]
                elif last["event"] == "segment_done":
                    done = now
            process.wait()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        wall = time.monotonic() - began
        if last.get("event") != "finished":
            errors.seek(0)
            raise _failure(last, process.returncode, errors.read())
    return _Run(finished=last, first=first, given=int(given), last=done, wall=wall)


def _failure(last: dict[str, Any], code: int, words: str) -> JobFailed:
    told = words.strip().splitlines()[-1:] or [f"exit code {code}"]
    error = JobFailed(last.get("message") or told[0])
    error.exit_code = last.get("exit_code") or 1
    return error


def _forget(plan: Plan) -> None:
    """Remove what a job has made, so that the next begins from nothing."""
    target = plan.task.target
    for made in (workfolder.beside(target), target):
        remove(made)


def _stages(
    plan: Plan, crafts: Crafts, scratch: Path, wish: Wish
) -> Generator[str, None, dict[str, Speed]]:
    """Each stage alone, with the plan that the jobs have frozen and the index that they made."""
    if plan.recipe.numerics.torch is None:
        allocator.steady()  # as the job does
    folder = workfolder.beside(plan.task.target)
    frozen = load_plan(folder)
    assert frozen is not None
    film = open_film(frozen, folder)
    seconds = wish.seconds * TURN
    found = {}
    yield "decoding alone"
    found["decode"] = alone.speed(wish.repeats, lambda: alone.decode(frozen, film, seconds))
    device, offload = plan.placement.devices[0], offloads.placed(plan.placement)
    with crafts.engine.open(frozen, device, offload) as upscaler:
        yield "the model alone"
        found["compute"] = alone.speed(
            wish.repeats, lambda: alone.compute(frozen, film, upscaler, seconds)
        )
        made = alone.held(frozen, film, upscaler)
        line = Line(film=film, upscaler=upscaler, sink=crafts.sink, meter=Meter())
    yield "encoding alone"
    part = scratch / f"alone{crafts.sink.part}"
    found["encode"] = alone.speed(
        wish.repeats, lambda: alone.encode(frozen, line, made, part, seconds)
    )
    return found


def _report(
    wish: Wish, plan: Plan, machine: Machine, runs: Sequence[_Run], stages: dict[str, Speed],
    seconds: float,
) -> Report:  # fmt: skip
    last = runs[-1].finished
    steady = _of([r.steady for r in runs])
    slowest = min(stages, key=lambda name: stages[name].fps)
    devices = plan.placement.devices
    recipe = dict(explain(plan)["recipe (decides the bytes)"])
    frozen = load_plan(workfolder.beside(plan.task.target)) or plan
    return Report(
        film=str(wish.source) if wish.source else "made",
        source=plan.geometry.source,
        target=plan.geometry.target,
        frames=last["frames"],
        segments=len(frozen.segments),
        engine=recipe["engine"],
        dtype=plan.recipe.numerics.dtype,
        devices=devices,
        encoder=recipe["encoder"],
        stages=stages,
        slowest=slowest,
        steady=steady,
        command=_of([r.finished["frames"] / r.wall for r in runs]),
        starting=statistics.median(r.first for r in runs),
        share=steady.fps / (stages[slowest].fps * len(devices)),
        cores_fps=machine.cores * 1000 / sum(s.core_ms or 0.0 for s in stages.values()),
        busy=last["stages"],
        predicted_ram=last["predicted_ram"],
        peak_ram=max(r.finished["peak_ram"] for r in runs),
        predicted_vram=last["predicted_vram"],
        peak_vram=max((r.finished["peak_vram"] or 0 for r in runs), default=0) or None,
        machine=_machine(machine),
        versions=_versions(),
        seconds=seconds,
    )


def _of(rates: Sequence[float]) -> Speed:
    return Speed(fps=statistics.median(rates), runs=tuple(rates))


def _machine(machine: Machine) -> str:
    gpus = [f"{g.name} ({g.vram / 2**30:.1f} GiB, driver {g.driver})" for g in machine.gpus]
    ram = f"{machine.ram / 2**30:.1f} GiB"
    return "; ".join([f"{machine.cpu}, {machine.cores} cores, {ram}", *gpus])


def _versions() -> dict[str, str]:
    found = {"longtake": __version__, "python": platform.python_version()}
    for name in ("av", "numpy", "torch"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
