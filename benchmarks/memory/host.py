"""Predicted against measured peak RAM, one fresh process a row.

    python -m benchmarks.memory.host [--engine lite] [--quick]

Writes a table to stdout; paste it with machine and date into README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from longtake.runtime.sample import film

SIZES = {"180p": (320, 180), "360p": (640, 360), "480p": (854, 480), "720p": (1280, 720),
         "1080p": (1920, 1080)}  # fmt: skip
FRAMES = 72


def peak(source: Path, target: Path, *flags: str) -> dict[str, float]:
    """The `finished` event of one job."""
    words = [sys.executable, "-m", "longtake", "upscale", source, target, "--json", *flags]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, env=os.environ)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    if not events or events[-1]["event"] != "finished":
        raise SystemExit(f"{' '.join(map(str, words))}: {done.stdout[-500:]} {done.stderr[-500:]}")
    finished: dict[str, float] = events[-1]
    return finished


def rows(engine: str, quick: bool) -> list[tuple[str, str, tuple[str, ...]]]:
    """(size, what differs, flags)"""
    scales = ("2",) if quick else ("2", "4")
    plain: list[tuple[str, str, tuple[str, ...]]] = [
        (size, f"x{s}", ("--engine", engine, "--scale", s))
        for size in SIZES
        for s in scales
        if not (size == "1080p" and s == "4" and engine != "resize")
    ]
    if quick:
        return plain
    base = ("--engine", engine, "--scale", "2")
    return [
        *plain,
        ("480p", "x2 medium", (*base, "--effort", "medium")),
        ("480p", "x2 10 bit", (*base, "--bits", "10")),
        ("480p", "x2 ffv1", (*base, "--codec", "ffv1")),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", default="resize")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    print(f"| input | job ({given.engine}) | predicted MiB | measured MiB | predicted / measured |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        films = {name: film(Path(scratch) / f"{name}.mp4", size, FRAMES)
                 for name, size in SIZES.items()}  # fmt: skip
        for i, (size, what, flags) in enumerate(rows(given.engine, given.quick)):
            done = peak(films[size], Path(scratch) / f"{i}.mkv", *flags)
            predicted, measured = done["predicted_ram"] / 2**20, done["peak_ram"] / 2**20
            print(f"| {size} | {what} | {predicted:.0f} | {measured:.0f} | "
                  f"{predicted / measured:.3f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
