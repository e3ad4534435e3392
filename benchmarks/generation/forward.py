"""One forward of the 14B transformer: resident, and with its blocks coming from the host through a
ring, in the memory of a small card.

    python -m benchmarks.generation.forward [--model t2v-14b] [--card 8]

A fresh process a row. Values are drawn from a seed; nothing is read from files. `floor` is the
larger of what the resident forward takes and what the copies of non-resident blocks take at the
bandwidth measured in the same process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")

import torch

from benchmarks.generation._seeded import (
    GiB,
    asked,
    capped,
    held,
    missing,
    nets,
    onto,
    peak_of_device,
    seconds,
    settings,
    watched,
)
from longtake.core.plugins import find

ROWS = [
    ("resident", 0, 2, "block", 81), ("ring", 0, 2, "block", 81), ("ring", 0, 2, "phase", 81),
    ("ring", 5, 2, "block", 81), ("resident", 0, 2, "block", 17), ("ring", 0, 2, "block", 17),
    ("ring", 0, 3, "block", 17), ("ring", 0, 2, "phase", 17), ("ring", 4, 3, "block", 17),
    ("ring", 7, 2, "block", 17), ("ring", 0, 3, "phase", 17),
]  # fmt: skip
SIZE = (832, 480)


def bandwidth(device: str, size: int) -> float:
    """Bytes per second from page-locked memory."""
    host = torch.empty(size, dtype=torch.uint8, pin_memory=True)
    there = torch.empty(size, dtype=torch.uint8, device=device)
    took = seconds(lambda: there.copy_(host, non_blocking=True), 10)
    return size / statistics.median(took)


def row(model: str, card: int, kept: str, case: tuple[Any, ...], device: str) -> dict[str, Any]:
    way, resident, slots, granularity, frames = case
    torch.zeros(1, device=device)
    conditioner, transformer = nets(model, device)
    samples = asked(conditioner, SIZE, frames, device)
    del conditioner
    block = transformer.block_source.slab.bytes
    rate = bandwidth(device, block)
    torch.cuda.empty_cache()
    before = held()
    how = settings(transformer.config)
    with torch.inference_mode():
        if way == "resident":
            onto(transformer, device)
            torch.cuda.reset_peak_memory_stats()
            made = transformer(samples, how)[0]
            took = seconds(lambda: transformer(samples, how), 5 if frames < 50 else 3)
            host = 0
        else:
            strategy: Any = find("offload", "ring")
            change = {"resident_blocks": resident, "slots": slots}
            if granularity != "block":
                change["granularity"] = granularity
            strategy = replace(strategy, **change)
            with watched() as peak, strategy.attach(transformer, device):
                torch.cuda.empty_cache()
                capped(device, card)
                torch.cuda.reset_peak_memory_stats()
                made = transformer(samples, how)[0]
                took = seconds(lambda: transformer(samples, how), 5 if frames < 50 else 3)
            host = peak.host - before
    path = Path(kept) / f"{model}.{frames}.pt"
    if way == "resident":
        torch.save(made.cpu(), path)
    equal = torch.equal(torch.load(path), made.cpu()) if path.exists() else None
    layers = transformer.config.layers
    return {
        "way": way, "resident": resident, "slots": slots, "granularity": granularity,
        "frames": frames, "seconds": statistics.median(took), "spread": [took[0], took[-1]],
        "copies": 0.0 if way == "resident" else (layers - resident) * block / rate,
        "rate": rate / 1e9, "device": peak_of_device(device) / GiB, "host": host / GiB,
        "weights": layers * block / GiB, "equal": equal, "finite": bool(made.isfinite().all()),
        "std": float(made.std()),
    }  # fmt: skip


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--model", default="t2v-14b")
    words.add_argument("--card", type=float, default=8.0, help="GiB")
    words.add_argument("--device", default="cuda:0")
    words.add_argument("--rows", type=int, nargs="*")
    words.add_argument("--kept", default="/tmp", help="folder for what the resident net makes")
    words.add_argument("--row", type=int, help="only this one, as JSON")
    given = words.parse_args()
    if missing(given.device):
        return
    if given.row is not None:
        card = int(given.card * GiB)
        print(json.dumps(row(given.model, card, given.kept, ROWS[given.row], given.device)))
        return
    print("| frames | way | resident | slots | s | floor s | ratio | VRAM GiB | RAM GiB "
          "| weights GiB | GB/s | bits equal |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    best: dict[int, float] = {}
    for number in given.rows or range(len(ROWS)):
        command = [sys.executable, "-m", "benchmarks.generation.forward", *sys.argv[1:]]
        made = subprocess.run([*command, "--row", str(number)], capture_output=True, text=True)
        if made.returncode:
            print(f"| {ROWS[number]}: {made.stderr.strip().splitlines()[-1]} |", flush=True)
            continue
        r = json.loads(made.stdout.splitlines()[-1])
        if r["way"] == "resident":
            best[r["frames"]] = r["seconds"]
        floor = max(best.get(r["frames"], 0.0), r["copies"])
        print(
            f"| {r['frames']} | {r['way']} {r['granularity']} | {r['resident']} | {r['slots']} "
            f"| {r['seconds']:.3f} ({r['spread'][0]:.3f}-{r['spread'][1]:.3f}) | {floor:.3f} "
            f"| {r['seconds'] / floor:.3f} | {r['device']:.2f} | {r['host']:.2f} "
            f"| {r['weights']:.2f} | {r['rate']:.1f} | {r['equal']} {r['std']:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
