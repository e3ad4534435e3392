"""End-to-end speed, decode to mux, with the busy time of each stage; and what a resume costs.

    python -m benchmarks.end_to_end.upscale [--devices auto|cpu|cuda:0] [--long]

Writes tables to stdout; paste them with machine and date into README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.films import film

Events = list[dict[str, Any]]
SIZES = {"180p": (320, 180), "360p": (640, 360), "720p": (1280, 720)}
JOBS = [
    ("180p", "4", "resize"), ("180p", "4", "lite"), ("180p", "4", "lite dtype=float32"),
    ("360p", "2", "resize"), ("360p", "2", "lite"), ("720p", "2", "resize"),
]  # fmt: skip


def job(
    source: Path, target: Path, *flags: str, stop: Callable[[dict[str, Any]], bool] | None = None
) -> tuple[Events, float]:
    """The events of one run in a fresh process, and its wall time in s."""
    began = time.monotonic()
    words = [sys.executable, "-m", "longtake", "upscale", str(source), str(target), "--json"]
    process = subprocess.Popen([*words, *flags], stdout=subprocess.PIPE, text=True, env=os.environ)
    assert process.stdout is not None
    events: Events = []
    for line in process.stdout:
        events.append(json.loads(line))
        if stop is not None and stop(events[-1]):
            process.send_signal(signal.SIGKILL)
            break
    process.stdout.read()
    process.wait()
    return events, time.monotonic() - began


def speeds(scratch: Path, devices: str, frames: int) -> None:
    print("| input | job | fps of the segments | fps of the whole command | decode | compute "
          "| encode | busiest stage / segments | peak RAM MiB |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|")
    films = {n: film(scratch / f"{n}.mp4", *s, frames) for n, s in SIZES.items()}
    for i, (size, scale, engine) in enumerate(JOBS):
        name, *knobs = engine.split()
        flags = ["--engine", name, "--scale", scale, "--devices", devices]
        if name == "resize":
            flags[-1] = "cpu"
        flags += ["--set", *knobs] if knobs else []
        events, wall = job(films[size], scratch / f"{i}.mp4", *flags)
        done = events[-1]
        if done["event"] != "finished":
            print(f"| {size} | x{scale} {engine} | {done} |")
            continue
        spent = done["frames"] / done["fps"]
        busy = done["stages"]
        per_frame = [f"{busy[s] / done['frames'] * 1e3:.1f} ms" for s in busy]
        name, most = max(busy.items(), key=lambda item: item[1])
        print(f"| {size} | x{scale} {engine} | {done['fps']:.1f} | {done['frames'] / wall:.1f} | "
              f"{' | '.join(per_frame)} | {name} {most / spent:.0%} | "
              f"{done['peak_ram'] / 2**20:.0f} |", flush=True)  # fmt: skip


def resume(scratch: Path, frames: int) -> None:
    """One kill in the middle: wall time of both runs against a straight run, and frames redone."""
    source = film(scratch / "resume.mp4", 320, 180, frames)
    flags = ("--engine", "lite", "--scale", "4", "--devices", "cpu")
    _, straight = job(source, scratch / "straight.mp4", *flags)
    half = frames * 5 // 8
    first, before = job(
        source, scratch / "killed.mp4", *flags,
        stop=lambda e: e["event"] == "advanced" and e["frames"] >= half,
    )  # fmt: skip
    again, after = job(source, scratch / "killed.mp4", *flags)
    reached = max(e["frames"] for e in first if e["event"] == "advanced")
    kept = next(e["frames"] for e in again if e["event"] == "advanced")
    same = (scratch / "straight.mp4").read_bytes() == (scratch / "killed.mp4").read_bytes()
    print(f"\nresume: {frames} frames 180p x4 lite; straight {straight:.1f} s; killed at frame "
          f"{reached} after {before:.1f} s, resumed at {kept} and finished in {after:.1f} s; sum / "
          f"straight {(before + after) / straight:.3f}; {reached - kept} frames made twice; bytes "
          f"equal: {same}")  # fmt: skip


def flat(scratch: Path) -> None:
    """N1 at 720p: the peak of 1,800 frames against that of 240."""
    peaks = []
    for frames in (240, 1800):
        source = film(scratch / f"flat{frames}.mp4", 1280, 720, frames)
        events, _ = job(source, scratch / f"flat{frames}.mkv", "--engine", "resize", "--scale", "2")
        peaks.append(events[-1]["peak_ram"])
    long, short = peaks[1] / 2**20, peaks[0] / 2**20
    print(f"\nflatness: 720p x2 resize, peak RAM of 1,800 frames {long:.0f} MiB, of 240 frames "
          f"{short:.0f} MiB: ratio {long / short:.3f}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", default="auto")
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--long", action="store_true", help="also resume and flatness")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        speeds(Path(scratch), given.devices, given.frames)
        if given.long:
            resume(Path(scratch), 600)
            flat(Path(scratch))


if __name__ == "__main__":
    main()
