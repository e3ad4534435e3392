"""FlashVSR's stream by stage, model alone, and a job from end to end; random weights of full size.

    python -m benchmarks.flashvsr.stream [--device cuda:0] [--size 704x384] [--scale 2]
                                         [--modes tiny] [--place offload=swap] [--no-job]

The engine's own `open` and stream, frames out of memory, nothing encoded. `GPU ms` of a stage are
those between its first and its last operation on the GPU for a chunk of 8 frames, medians over the
steady chunks; `fps` is what comes out per second of wall time. The job is `longtake bench`, whose
film goes through decoder and encoder. Writes tables to stdout; paste them with machine and date
into README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from benchmarks.flashvsr.memory import MODEL, make_weights, resident
from longtake.core.media import Clip
from longtake.core.plan import Plan
from longtake.core.task import Limits, Upscale
from longtake.engines._flashvsr_stream import Model
from longtake.engines.flashvsr import plugin
from longtake.planner.calibration import Calibration
from longtake.planner.survey import survey
from longtake.runtime import sample
from longtake.runtime.offloads import placed
from longtake.runtime.prepare import draft

GiB = 1 << 30
SKIPPED = 6  # clips: the first chunk makes six latents, and kernels are still being loaded
STAGES = {"_tokens": "projection", "_denoised": "transformer", "_images": "decoder"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed(Model):
    """A model that notes when its stages begin and end on the GPU."""

    events: dict[str, list[tuple[Any, Any]]] = field(default_factory=lambda: defaultdict(list))

    def __getattribute__(self, name: str) -> Any:
        found = object.__getattribute__(self, name)  # super() knows the class without slots
        if name not in STAGES:
            return found

        def timed(*given: Any) -> Any:
            event: Any = torch.cuda.Event
            began, ended = event(enable_timing=True), event(enable_timing=True)
            began.record()
            made = found(*given)
            ended.record()
            self.events[name].append((began, ended))
            return made

        return timed


def planned(folder: Path, given: argparse.Namespace, mode: str) -> Plan:
    """Of a film of that size."""
    width, height = map(int, given.size.split("x"))
    film = sample.film(folder / "film.mp4", (width, height), 16)
    knobs: dict[str, Any] = {
        "mode": mode,
        "folder": str(folder / MODEL),
        "attention": given.attention,
    }
    task = Upscale(
        source=film, target=folder / "out.mp4", scale=Fraction(given.scale), engine="flashvsr",
        set=knobs,
    )  # fmt: skip
    place = dict(pair.split("=") for pair in given.place)
    plan, _ = draft(
        task,
        Limits(devices=given.device, place=place),
        survey(),
        Calibration(folder / "known.json"),
    )
    return plan


def clips(plan: Plan, frames: int) -> Iterator[Clip]:
    for i, picture in enumerate(sample.pictures(plan.geometry.source, frames)):
        yield Clip(pixels=picture[None], start=i)


def alone(plan: Plan, device: str, frames: int) -> None:
    held = list(clips(plan, frames))
    torch.cuda.reset_peak_memory_stats(device)
    with plugin.open(plan, device, placed(plan.placement)) as model:
        timed = Timed(**{f.name: getattr(model, f.name) for f in fields(Model)})
        made, began, done = 0, 0.0, 0
        for number, clip in enumerate(timed.upscale(held)):
            if number == SKIPPED:
                began, done = time.perf_counter(), made + len(clip.pixels)
            made += len(clip.pixels)
        torch.cuda.synchronize(device)
        seconds = time.perf_counter() - began
    width, height = plan.geometry.target
    place, knobs = plan.placement, plan.recipe.knobs
    taken = torch.cuda.max_memory_reserved(device)
    print(
        f"\n{width}x{height} {knobs['mode']}, attention {knobs['attention']}, weights "
        f"{place.offload}, state on the {place.state}: {(made - done) / seconds:.1f} fps; VRAM "
        f"predicted {plan.memory.vram / GiB:.2f}, torch at most {taken / GiB:.2f} GiB; RAM now "
        f"{sum(resident()) / GiB:.1f} GiB\n"
    )
    print("| stage | GPU ms a chunk | least - most |\n|---|---|---|")
    for name, called in STAGES.items():
        times = [a.elapsed_time(b) for a, b in timed.events[name]]
        each, before = (2, 8) if name == "_images" else (1, 2)  # latents of a chunk, and not steady
        steady = [sum(times[i : i + each]) for i in range(before, len(times), each)]
        spread = f"{min(steady):.1f} - {max(steady):.1f}"
        print(f"| {called} | {statistics.median(steady):.1f} | {spread} |")
    print(flush=True)


def job(plan: Plan, given: argparse.Namespace) -> None:
    """`longtake bench` of the same."""
    width, height = plan.geometry.source
    knobs = [f"{k}={plan.recipe.knobs[k]}" for k in ("mode", "attention", "folder")]
    words = [sys.executable, "-m", "longtake", "bench", "--json", "--size", f"{width}x{height}",
             "--engine", "flashvsr", "--scale", given.scale, "--devices", given.device,
             "--seconds", str(given.seconds), "--repeats", "1", "--set", *knobs]  # fmt: skip
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    found = json.loads(done.stdout.splitlines()[-1])
    if done.returncode:
        print(f"job: {found['message']}")
        return
    stages = ", ".join(
        f"{name} alone {found['stages'][name]['fps']:.1f}" for name in found["stages"]
    )
    print(f"job of {found['frames']} frames: {stages}; steady {found['steady']['fps']:.1f} fps, "
          f"{found['share']:.0%} of {found['slowest']}; command {found['command']['fps']:.1f} fps, "
          f"start {found['starting']:.1f} s; VRAM {found['predicted_vram'] / GiB:.2f} predicted, "
          f"{found['peak_vram'] / GiB:.2f} GiB at most", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--size", nargs="+", default=["704x384"], help="WxH px of the film")
    parser.add_argument("--scale", default="2")
    parser.add_argument("--modes", nargs="+", default=["tiny"], choices=("tiny", "full"))
    parser.add_argument("--attention", default="auto")
    parser.add_argument("--place", nargs="+", default=[])
    parser.add_argument("--frames", type=int, default=141)
    parser.add_argument("--seconds", type=float, default=10, help="of the job")
    parser.add_argument("--no-job", action="store_true")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device here: nothing to measure")
        return
    print(f"{torch.cuda.get_device_name(given.device)}, torch {torch.__version__}, bfloat16")
    sizes = given.size
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_weights(folder / MODEL, given.device)
        for given.size in sizes:
            for mode in given.modes:
                plan = planned(folder, given, mode)
                alone(plan, given.device, given.frames)
                torch.cuda.empty_cache()
                if not given.no_job:
                    job(plan, given)


if __name__ == "__main__":
    main()
