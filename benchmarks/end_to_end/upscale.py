"""Speed from end to end against each stage alone, by `longtake bench`; and what a resume costs.

    python -m benchmarks.end_to_end.upscale [--devices cpu|cuda:0] [--seconds S] [--long]

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

from longtake.runtime.sample import film

Events = list[dict[str, Any]]
SIZES = {"180p": (320, 180), "360p": (640, 360), "540p": (960, 540), "720p": (1280, 720),
         "1080p": (1920, 1080)}  # fmt: skip
ON_CPU = [
    ("180p", "4", "resize"), ("180p", "4", "lite"), ("180p", "4", "lite dtype=float32"),
    ("360p", "2", "resize"), ("360p", "2", "lite"), ("720p", "2", "resize"),
]  # fmt: skip
ON_GPU = [
    ("180p", "4", "lite"), ("180p", "4", "lite dtype=float32"), ("540p", "2", "lite"),
    ("1080p", "2", "lite"),
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


def speeds(devices: str, seconds: float, repeats: int, most: int) -> None:
    rows = ON_GPU if devices.startswith("cuda") else ON_CPU
    print("| input | job | frames | decode alone | model alone | encode alone | job, steady "
          "| of the slowest alone | of all cores | job, command | start "
          "| RAM MiB, predicted / peak | VRAM MiB, predicted / peak |")  # fmt: skip
    print("|" + "---|" * 13, flush=True)
    for size, scale, engine in rows[:most]:
        name, *knobs = engine.split()
        width, height = SIZES[size]
        words = [sys.executable, "-m", "longtake", "bench", "--json", "--size", f"{width}x{height}"]
        words += ["--engine", name, "--scale", scale, "--devices", devices]
        words += ["--seconds", str(seconds), "--repeats", str(repeats)]
        words += ["--set", *knobs] if knobs else []
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        if done.returncode:
            print(f"| {size} | x{scale} {engine} | {found['message']} |", flush=True)
            continue
        cells = [size, f"x{scale} {engine}", str(found["frames"])]
        cells += [_fps(found["stages"][stage]) for stage in ("decode", "compute", "encode")]
        cells += [_fps(found["steady"]), f"{found['slowest']} {found['share']:.0%}"]
        cells += [f"{found['steady']['fps'] / found['cores_fps']:.0%}", _fps(found["command"])]
        cells += [f"{found['starting']:.1f} s"]
        cells += [_against(found[f"predicted_{m}"], found[f"peak_{m}"]) for m in ("ram", "vram")]
        print(f"| {' | '.join(cells)} |", flush=True)


def _fps(speed: dict[str, Any]) -> str:
    """The median, and the spread of the runs around it."""
    spread = (max(speed["runs"]) - min(speed["runs"])) / 2 / speed["fps"]
    return f"{speed['fps']:.1f} ±{spread:.0%}"


def _against(predicted: int | None, peak: int | None) -> str:
    if predicted is None or peak is None:
        return "-"
    return f"{predicted / 2**20:.0f} / {peak / 2**20:.0f} = {predicted / peak:.3f}"


def resume(scratch: Path, frames: int) -> None:
    """One kill in the middle: wall time of both runs against a straight run, and frames redone."""
    source = film(scratch / "resume.mp4", (320, 180), frames)
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
        source = film(scratch / f"flat{frames}.mp4", (1280, 720), frames)
        events, _ = job(source, scratch / f"flat{frames}.mkv", "--engine", "resize", "--scale", "2")
        peaks.append(events[-1]["peak_ram"])
    long, short = peaks[1] / 2**20, peaks[0] / 2**20
    print(f"\nflatness: 720p x2 resize, peak RAM of 1,800 frames {long:.0f} MiB, of 240 frames "
          f"{short:.0f} MiB: ratio {long / short:.3f}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", default="cpu")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of one job")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--most", type=int, default=99, help="rows, from the top")
    parser.add_argument("--long", action="store_true", help="also resume and flatness")
    given = parser.parse_args()
    speeds(given.devices, given.seconds, given.repeats, given.most)
    if given.long:
        with tempfile.TemporaryDirectory() as scratch:
            resume(Path(scratch), 600)
            flat(Path(scratch))


if __name__ == "__main__":
    main()
