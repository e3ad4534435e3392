"""Predicted against measured peak VRAM of Wan, stage by stage, over sizes and placements.

    python -m benchmarks.generation.fits [--device cuda:0] [--long]

Full-size nets with values from a seed; one process. A stage runs with torch allowed to reserve
what was predicted and no more; where it cannot live with that, with a little more: `limit`.
"""

from __future__ import annotations

import argparse
import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")

import torch

from benchmarks.generation._seeded import CONFIGS, asked, missing, nets, peak_of_device, settings
from longtake.core.plugins import find
from longtake.engines._parts import Parts
from longtake.generators import _wan_memory as memory
from longtake.generators._wan_decode import Decoding, decode
from longtake.generators._wan_image import look
from longtake.generators._wan_job import Job, Stage, Where, chunk_tokens
from longtake.nets.samplers import SAMPLERS, State
from longtake.nets.schedules import official
from longtake.nets.wan.causal import arrange
from longtake.nets.wan.tiles import Tiling
from longtake.nets.wan.vae import VaeConfig, WanVae
from longtake.nets.wan.vae_needs import Tiles

S, M, L = (832, 480), (960, 544), (1280, 720)


@dataclass(frozen=True)
class Cell:
    model: str
    stage: Stage
    size: tuple[int, int]
    frames: int
    offload: Any = "ring"
    resident: int = 0
    matrices: str | None = None
    vae_dtype: str = "float32"
    tile: int = 0

    def job(self) -> Job:
        tiles = None
        if self.tile:
            sides = [min(self.tile, length) // 8 for length in reversed(self.size)]
            stride = (sides[0] * 3 // 4, sides[1] * 3 // 4)
            tiles = Tiles(size=(sides[0], sides[1]), stride=stride, parked=True)
        return Job(
            config=CONFIGS[self.model], frames=self.frames, size=self.size, steps=2,
            chunk_tokens=chunk_tokens(CONFIGS[self.model]), matrices=self.matrices,
            vae_dtype=self.vae_dtype, tiles=tiles,
        )  # fmt: skip

    def where(self) -> Where:
        return Where(offload=self.offload, resident_blocks=self.resident)


DENOISE = [
    *(Cell("t2v-1.3b", "denoise", size, frames) for size in (S, L) for frames in (17, 33, 49, 81)),
    *(Cell("t2v-1.3b", "denoise", S, 49, "ring", n) for n in (4, 12)),
    *(Cell("t2v-14b", "denoise", size, frames) for size in (S, M) for frames in (17, 33, 49)),
    Cell("t2v-14b", "denoise", S, 81),
    Cell("t2v-14b", "denoise", L, 17),
    Cell("t2v-14b", "denoise", L, 49),
    *(Cell("t2v-14b", "denoise", S, 33, "ring", n) for n in (4, 12, 20)),
    *(Cell("t2v-14b", "denoise", S, frames, "ring", 0, "int8") for frames in (17, 49)),
    Cell("t2v-14b", "denoise", S, 17, "ring", 10, "float8_e4m3fn"),
    Cell("i2v-14b", "denoise", S, 17),
    Cell("i2v-14b", "denoise", S, 49, "ring", 5),
]
DECODE = [
    *(Cell("t2v-1.3b", "decode", size, 17) for size in (S, M, L)),
    *(Cell("t2v-1.3b", "decode", size, 17, vae_dtype="bfloat16") for size in (S, L)),
    *(Cell("t2v-1.3b", "decode", L, 13, tile=tile) for tile in (256, 512)),
    Cell("t2v-1.3b", "decode", L, 13, tile=512, vae_dtype="bfloat16"),
    Cell("t2v-1.3b", "decode", S, 81),
    *(Cell("i2v-14b", "encode", S, 17, vae_dtype=kind) for kind in ("float32", "bfloat16")),
    Cell("i2v-14b", "encode", L, 17, tile=256),
]


@contextmanager
def transformer_of(cell: Cell, device: str) -> Iterator[Callable[[], None]]:
    """What a step of a sampler does."""
    conditioner, transformer = nets(cell.model, device, matrices=cell.matrices)
    samples = asked(conditioner, cell.size, cell.frames, device, branches=2)
    del conditioner
    parts = Parts({"transformer": transformer})
    strategy: Any = replace(find("offload", cell.offload), resident_blocks=cell.resident)
    with strategy.attach(parts, device) as attached:
        schedule = official(3, 5.0)

        def work() -> None:
            x, state = samples[0].latents[:16].clone(), State()
            for _ in range(1 if cell.frames * cell.size[0] > 60_000 else 2):
                net = attached.turn("transformer")
                both = net(samples, settings(transformer.config))
                velocity = both[1] + 5.0 * (both[0] - both[1])
                x, state = SAMPLERS["unipc"](schedule.sigmas, x, velocity, state)

        yield work


@contextmanager
def decoder_of(cell: Cell, device: str) -> Iterator[Callable[[], None]]:
    kept = getattr(torch, cell.vae_dtype)
    torch.manual_seed(0)
    vae = WanVae(VaeConfig(encoder=cell.stage == "encode")).to(kept).eval()
    arrange(vae)
    parts = Parts({"vae": vae})
    strategy: Any = find("offload", cell.offload)
    job = cell.job()
    with strategy.attach(parts, device) as attached:
        latents = torch.randn(16, *job.latents)
        cut = job.tiles
        tiling = None if cut is None else Tiling(size=cut.size, stride=cut.stride)
        parked = torch.device("cpu") if tiling else None
        how = Decoding(tiling=tiling, parked=parked)

        def work() -> None:
            if cell.stage == "encode":
                image = torch.zeros(cell.size[1], cell.size[0], 3, dtype=torch.uint8).numpy()
                look(attached, image, cell.frames, torch.device(device), tiling)
                return
            for _ in decode(attached, latents, how, torch.device(device)):
                pass

        yield work


def measured(cell: Cell, device: str) -> str:
    said = memory.of_stage(cell.job(), cell.where(), cell.stage)
    make = transformer_of if cell.stage == "denoise" else decoder_of
    _, total = torch.cuda.mem_get_info(device)
    torch.cuda.set_per_process_memory_fraction(1.0, device)
    with make(cell, device) as work, torch.inference_mode():
        for more in (1.0, 1.02, 1.05, 1.1, 1.2, 1.5, 99.0):
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            most = (said.total - said.context) * more
            torch.cuda.set_per_process_memory_fraction(min(most / total, 1.0), device)
            try:
                work()
                torch.cuda.synchronize()
                break
            except torch.cuda.OutOfMemoryError:
                continue
        found, reserved = peak_of_device(device), torch.cuda.max_memory_reserved(device)
        allocated = torch.cuda.max_memory_allocated(device)
    size = f"{cell.size[0]}x{cell.size[1]}x{cell.frames}"
    kind = f"{cell.model} {cell.matrices or ''} {cell.vae_dtype if cell.stage == 'decode' else ''}"
    causes = (said.weights, said.state, said.activations, said.workspace, said.context)
    facts = [
        kind, cell.stage, size, f"{cell.offload} {cell.resident} {cell.tile or ''}",
        _mib(said.total), _mib(found), f"{said.total / found - 1:+.1%}", f"{more:.2f}",
        _mib(reserved, allocated), _mib(*causes),
    ]  # fmt: skip
    return f"| {' | '.join(facts)} |"


def _mib(*sizes: int) -> str:
    return " ".join(f"{size / 2**20:,.0f}" for size in sizes)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--device", default="cuda:0")
    words.add_argument("--long", action="store_true", help="14B at 1280x720x81, too")
    words.add_argument("--only", default="", help="cells with this word in them")
    given = words.parse_args()
    if missing(given.device):
        return
    cells = [cell for cell in (*DECODE, *DENOISE) if given.only in repr(cell)]
    if given.long:
        cells.append(Cell("t2v-14b", "denoise", L, 81))
    print(
        "| model | stage | size | placement | predicted MiB | measured | over | limit "
        "| reserved, allocated | weights state activations workspace context |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for cell in cells:
        try:
            print(measured(cell, given.device), flush=True)
        except Exception as error:  # noqa: BLE001 -- the others are worth having
            print(f"| {cell} | {type(error).__name__}: {str(error)[:300]} |", flush=True)
        gc.collect()
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
