"""14B with 8-bit matrices from the disk: the reader alone against plain preadv, and a step at
1280x720x81 in 8 GiB of VRAM and 16 GiB of RAM.

    python -m benchmarks.generation.disk [FOLDER] [--matrices int8] [--size 1280x720] [--frames 81]

Block files are written into FOLDER straight from a seed where they are not there yet (13.1 GiB).
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Iterable
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
    peak_of_device,
    put_down,
    seconds,
    settings,
    watched,
)
from longtake.core.plugins import find
from longtake.generators import _wan_memory as memory
from longtake.generators._wan_job import Job, Where
from longtake.offload._host import Host
from longtake.offload._stalls import stalls
from longtake.weights.block_manifest import block_name
from longtake.weights.blocks import REQUEST, BlockFiles

MODEL = "t2v-14b"


def written(folder: Path, matrices: str, device: str) -> None:
    """Block files of the transformer as `longtake weights convert` leaves them."""
    conditioner, transformer = nets(MODEL, device, matrices=matrices)
    put_down(
        folder, f"wan-{MODEL}", "transformer", transformer.config, transformer.block_source,
        conditioner.state_dict(), matrices,
    )  # fmt: skip


def rates(folder: Path, workers: int) -> None:
    """Bytes per second of all blocks read once: by plain preadv with requests of the same size by
    as many threads, past the page cache, and by `BlockFiles`; in turns."""
    found: dict[str, list[float]] = {"preadv": [], "reader": []}
    with BlockFiles(folder) as source:
        hosts = [Host(source.slab.bytes) for _ in range(workers)]
        total = source.count * source.slab.bytes
        for _ in range(3):
            paths = [folder / block_name(i) for i in range(source.count)]
            found["preadv"].append(total / _timed(paths, hosts, _plain))
            numbers = range(source.count)
            found["reader"].append(total / _timed(numbers, hosts, lambda i, b: source.read(i, b)))
    best = {name: max(rates) for name, rates in found.items()}
    words = ", ".join(
        f"{name} {' '.join(f'{rate / 1e6:,.0f}' for rate in rates)}"
        for name, rates in found.items()
    )
    print(f"{workers} threads, MB/s: {words}; best against best "
          f"{best['reader'] / best['preadv']:.3f}", flush=True)  # fmt: skip


def _timed(items: Iterable[Any], hosts: list[Host], read: Any) -> float:
    waiting, lock = list(items)[::-1], threading.Lock()

    def work(host: Host) -> None:
        while True:
            with lock:
                if not waiting:
                    return
                item = waiting.pop()
            read(item, host.bytes)

    began = time.perf_counter()
    threads = [threading.Thread(target=work, args=(host,)) for host in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


def _plain(path: Path, into: memoryview) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECT)
    size, at = path.stat().st_size, 0
    while at < size:
        at += os.preadv(handle, [into[at : min(at + REQUEST, size)]], at)
    os.close(handle)


def step(given: argparse.Namespace, host_blocks: int, workers: int, ahead: int) -> None:
    """One step of both branches."""
    device = given.device
    width, height = map(int, given.size.split("x"))
    conditioner, transformer = nets(MODEL, device, matrices=given.matrices)
    samples = asked(conditioner, (width, height), given.frames, device, branches=2)
    del conditioner
    transformer.block_source = BlockFiles(Path(given.folder))
    before, how = held(), settings(transformer.config)
    job = Job(
        config=transformer.config, frames=given.frames, size=(width, height), steps=2,
        matrices=given.matrices,
    )  # fmt: skip
    where = Where(offload="disk", host_blocks=host_blocks, read_ahead=ahead)
    said = memory.of_stage(job, where, "denoise")
    strategy: Any = replace(
        find("offload", "disk"), host_blocks=host_blocks, disk_workers=workers, read_ahead=ahead
    )
    with watched() as peak, strategy.attach(transformer, device), torch.inference_mode():
        torch.cuda.empty_cache()
        capped(device, int(given.card * GiB))
        torch.cuda.reset_peak_memory_stats()
        transformer(samples, how)
        first = stalls(transformer)
        took = seconds(lambda: transformer(samples, how), given.times)
        now = stalls(transformer)
    total, slab = sum(took), transformer.block_source.slab.bytes
    read = (transformer.config.layers - host_blocks) * slab * given.times / total
    facts = [
        f"{given.matrices} {given.size}x{given.frames}",
        f"host {host_blocks}, workers {workers}, ahead {ahead}",
        f"{took[len(took) // 2]:.2f} s a step",
        f"stalled on disk {(now.on_reads - first.on_reads) / total:.2%}, "
        f"on copies {(now.on_copies - first.on_copies) / total:.2%}",
        f"VRAM {peak_of_device(device) / GiB:.2f} of {said.total / GiB:.2f} GiB",
        f"RAM over the baseline {(peak.host - before) / GiB:.2f} GiB, {held() / GiB:.2f} in all",
        f"{read / 1e9:.2f} GB/s read",
    ]
    print(f"| {' | '.join(facts)} |", flush=True)
    transformer.block_source.close()


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("folder", nargs="?", default="build/generation")
    words.add_argument("--device", default="cuda:0")
    words.add_argument("--matrices", default="int8")
    words.add_argument("--size", default="1280x720")
    words.add_argument("--frames", type=int, default=81)
    words.add_argument("--card", type=float, default=8.0)
    words.add_argument("--times", type=int, default=2)
    words.add_argument("--host", type=int, nargs="*", default=[0, 24])
    words.add_argument("--workers", type=int, default=2)
    words.add_argument("--ahead", type=int, default=3)
    words.add_argument("--readers", type=int, nargs="*", default=[1, 2, 4], help="threads")
    given = words.parse_args()
    if missing(given.device):
        return
    written(Path(given.folder), given.matrices, given.device)
    for workers in given.readers:
        rates(Path(given.folder), workers)
    for host in given.host:
        step(given, host, given.workers, given.ahead)


if __name__ == "__main__":
    main()
