"""Predicted against measured peak VRAM of `lite`, one fresh process a row, several at once.

    python -m benchmarks.memory.device [--device cuda:0] [--at-once 4] [--look faithful]

Each row is a real job of a few frames. Measured is what torch reserved at most and what the driver
counts for the process beside it (context and library modules); the last columns take it apart.
Writes a table to stdout; paste it with machine and date into README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from longtake.core.events import Finished
from longtake.core.task import Limits, Upscale
from longtake.planner.calibration import Calibration
from longtake.planner.fit import replaced
from longtake.planner.survey import launch, survey
from longtake.runtime import sample
from longtake.runtime.prepare import draft
from longtake.runtime.run import Job, run

SIZES = {"180p": (320, 180), "360p": (640, 360), "540p": (960, 540), "720p": (1280, 720),
         "1080p": (1920, 1080)}  # fmt: skip
SCALES = ("2", "3", "4")
DTYPES = ("bfloat16", "float16", "float32")
STEPS = ("1", "4")  # frames per pass at the smallest and the largest size, beside the plan's own
Case = tuple[str, str, str, str]  # size, scale, dtype, frames per pass ("": as planned)
FRAMES = 10
MiB = 1 << 20


def cases() -> list[Case]:
    plain = [(n, s, d, "") for n in SIZES for s in SCALES for d in DTYPES]
    return plain + [(n, "2", DTYPES[0], step) for n in ("180p", "1080p") for step in STEPS]


def one(
    source: Path, target: Path, scale: str, step: str, knobs: dict[str, Any], device: str
) -> None:
    """One job in this process; prints its figures in bytes as JSON."""
    launch()
    machine, known = survey(), Calibration(target.with_suffix(".json"))
    task = Upscale(
        source=source, target=target, scale=Fraction(scale), set=knobs, effort="ultrafast", crf=30
    )
    plan, crafts = draft(task, Limits(devices=device), machine, known)
    if step:
        placement = replace(plan.placement, step=int(step))
        plan = replaced(plan, placement, crafts.engine)
    job = Job(plan=plan, crafts=crafts, machine=machine, known=known)
    *_, done = (e for e in run(job) if isinstance(e, Finished))
    torch = sys.modules["torch"]
    reserved = torch.cuda.max_memory_reserved(device)
    print(json.dumps({
        "predicted": done.predicted_vram,
        "measured": done.peak_vram,
        "ram_predicted": done.predicted_ram,
        "ram": done.peak_ram,
        "step": plan.placement.step,
        "allocated": torch.cuda.max_memory_allocated(device),
        "reserved": reserved,
        "beside": (done.peak_vram or 0) - reserved,
        "causes": {k: getattr(plan.memory.engine, k)
                   for k in ("context", "weights", "activations", "workspace")},
    }))  # fmt: skip


def row(
    case: Case, films: dict[str, Path], scratch: Path, device: str, look: str
) -> tuple[Case, dict[str, Any]]:
    """The figures of a case, made in a fresh process."""
    size, scale, dtype, step = case
    target = scratch / f"{'-'.join(case)}.mp4"
    knobs = json.dumps({"dtype": dtype, "look": look})
    words = ["--one", str(films[size]), str(target), scale, step, knobs]
    command = [sys.executable, "-m", "benchmarks.memory.device", "--device", device, *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return case, {"failed": done.stderr.strip().splitlines()[-1:]}
    return case, json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--look", default="faithful")
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        source, target, scale, step, knobs = given.one
        one(Path(source), Path(target), scale, step, json.loads(knobs), given.device)
        return
    if not any(given.device == f"cuda:{g.index}" for g in survey().gpus):
        print(f"no GPU {given.device} here: nothing to measure")
        return
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(given.at_once) as several:
        scratch = Path(name)
        films = {n: sample.film(scratch / f"{n}.mp4", s, FRAMES) for n, s in SIZES.items()}
        print("| input | job | predicted MiB | measured MiB | predicted / measured | allocated "
              "| reserved | beside | RAM predicted / measured |")  # fmt: skip
        print("|---|---|---|---|---|---|---|---|---|", flush=True)
        for (size, scale, dtype, step), found in several.map(
            lambda case: row(case, films, scratch, given.device, given.look), cases()
        ):
            job = f"x{scale} {dtype}, {found.get('step', step)} per pass"
            if "failed" in found:
                print(f"| {size} | {job} | {found['failed']} |", flush=True)
                continue
            shown = [f"{found[k] / MiB:.0f}" for k in ("predicted", "measured")]
            parts = [f"{found[k] / MiB:.1f}" for k in ("allocated", "reserved", "beside")]
            ratios = [found["predicted"] / found["measured"], found["ram_predicted"] / found["ram"]]
            cells = [size, job, *shown, f"{ratios[0]:.3f}", *parts, f"{ratios[1]:.3f}"]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
