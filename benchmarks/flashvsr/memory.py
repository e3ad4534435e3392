"""Predicted against measured peak VRAM of FlashVSR: full-size random weights, three chunks a cell.

    PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True \\
    python -m benchmarks.flashvsr.memory [--device cuda:0] [--modes tiny full] [--heights 540 1080]

The variable is what the command line sets for itself before torch is loaded.

The engine's own `open` and stream, one cell (size, mode, placement) after the other in one process.
A ballast leaves as much of the GPU free as a card of `--card` GiB has, and torch may reserve no
more than was predicted; where the stream cannot live with that it is run again with a little more:
`limit` says with how much it could. Measured is what torch reserved at most beside the ballast, and
what the driver counts for the process beyond torch. RAM is what the process has resident at the
end, page-locked memory included, and what of files is mapped. Writes a table to stdout; paste it
with machine and date into README.md beside this file.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.flashvsr.fits import MODES, SIZES, GiB, planned
from longtake.core.media import Clip
from longtake.core.plan import Placement, Plan
from longtake.engines.flashvsr import plugin
from longtake.planner import fit
from longtake.planner.survey import gpus, vram_of_this_process
from longtake.runtime.offloads import placed
from longtake.weights import catalog, manifest

MODEL, FRAMES = "flashvsr-v1.1", 21 + 8 + 8
DTYPE = torch.bfloat16
STEP = 0.01  # of the prediction


def make_weights(folder: Path, device: str) -> None:
    """Files of the official names and sizes with values of a net before its training."""
    folder.mkdir()
    for file in catalog.model(MODEL).files:
        path = folder / file.converted
        save_file({k: drawn(k, s, device).cpu() for k, s in file.table().items()}, path)
        entry = manifest.Entry(
            model=MODEL, role=file.role, sha256="0" * 64, bytes=0, mtime_ns=0, source="random",
            trusted="first use",
        )  # fmt: skip
        manifest.add(folder, path.name, manifest.stamped(entry, path))


def drawn(key: str, shape: tuple[int, ...], device: str) -> Tensor:
    made = torch.zeros(shape, dtype=DTYPE, device=device)
    if key.endswith("gamma") or ("norm" in key and key.endswith("weight")):
        return made.fill_(1)
    if len(shape) > 1:
        made.normal_(std=made[0].numel() ** -0.5)
    return made


def under(plan: Plan, placement: Placement, folder: Path, device: str) -> Plan:
    """The plan under a placement on the GPU that is here, with the weights of `folder`."""
    knobs = {**plan.recipe.knobs, "folder": str(folder)}
    recipe = replace(
        plan.recipe, knobs=knobs, numerics=replace(plan.recipe.numerics, dtype="bfloat16")
    )
    placement = replace(placement, devices=(device,))
    return fit.replaced(replace(plan, recipe=recipe), placement, plugin)


def clips(plan: Plan) -> Iterator[Clip]:
    width, height = plan.geometry.source
    rng = np.random.default_rng(0)
    for i in range(FRAMES):
        yield Clip(pixels=rng.integers(0, 256, (1, height, width, 3), dtype=np.uint8), start=i)


def measured(plan: Plan, device: str, card: int, uuid: str) -> list[str]:
    """The cells of a row behind its name."""
    total = torch.cuda.get_device_properties(device).total_memory
    said = plan.memory.engine
    ballast = torch.empty(max(total - card, 0), dtype=torch.uint8, device=device)
    allowed, share = said.total - said.context, 1.0
    while True:
        most = ballast.nbytes + int(allowed * share)
        torch.cuda.set_per_process_memory_fraction(min(most / total, 1.0), device)
        torch.cuda.reset_peak_memory_stats(device)
        try:
            ram = streamed(plan, device)
            break
        except torch.OutOfMemoryError:
            share += STEP
        gc.collect()
        torch.cuda.empty_cache()
    reserved = torch.cuda.max_memory_reserved(device)
    beyond = (vram_of_this_process(uuid) or 0) - torch.cuda.memory_reserved(device)
    peak = reserved - ballast.nbytes + beyond
    allocated = torch.cuda.max_memory_allocated(device) - ballast.nbytes
    del ballast
    gc.collect()
    torch.cuda.empty_cache()
    sizes = (said.total, peak, allocated, beyond, said.outside, *ram)
    return [*(f"{size / GiB:.2f}" for size in sizes), f"{said.total / peak:.3f}", f"{share:.3f}"]


def streamed(plan: Plan, device: str) -> tuple[int, int]:
    """Bytes of host memory at the end: of the process's own, and of files."""
    with plugin.open(plan, device, placed(plan.placement)) as model:
        deque(model.upscale(clips(plan)), maxlen=0)
        return resident()


def resident() -> tuple[int, int]:
    """Bytes of host memory that this process has now: its own, and of mapped files."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    sizes = {
        k: int(v.split()[0]) << 10
        for k, _, v in (x.partition(":") for x in lines)
        if k.startswith("Rss")
    }
    return sizes["RssAnon"] + sizes["RssShmem"], sizes["RssFile"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    parser.add_argument("--heights", nargs="+", type=int, default=list(SIZES), choices=SIZES)
    parser.add_argument("--tile", type=int, default=0, help="px")
    parser.add_argument("--card", type=int, default=0, help="GiB; default: all of the GPU")
    given = parser.parse_args()
    found = [g for g in gpus() if f"cuda:{g.index}" == given.device]
    if not found or not torch.cuda.is_available():
        print(f"no GPU {given.device} here: nothing to measure")
        return
    if "expandable" not in os.environ.get("PYTORCH_CUDA_ALLOC_CONF", ""):
        print("PYTORCH_CUDA_ALLOC_CONF is not set as the command line sets it")
        return
    card = given.card * GiB or torch.cuda.get_device_properties(given.device).total_memory
    print(f"{found[0].name}, torch {torch.__version__}, bfloat16, {FRAMES} frames, GiB\n")
    names = ("predicted", "measured", "allocated", "beyond torch", "RAM predicted", "RAM",
             "files", "predicted / measured", "limit")  # fmt: skip
    print(f"| cell | {' | '.join(names)} |\n{'|---' * (len(names) + 1)}|", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / MODEL
        make_weights(folder, given.device)
        for mode in given.modes:
            for height in given.heights:
                plan = planned(mode, height, vram=10_000, ram=10_000, tile=given.tile)
                for placement in dict.fromkeys(
                    replace(p, queue=1) for p in fit.rungs(plan, plugin)
                ):
                    cell = under(plan, placement, folder, given.device)
                    where = f"{placement.offload}, state on the {placement.state}"
                    if cell.memory.vram > card:
                        print(f"| {height} {mode}, {where} | too large for it |")
                        continue
                    row = measured(cell, given.device, card, found[0].uuid)
                    print(f"| {height} {mode}, {where} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
