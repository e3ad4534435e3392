"""Wan's transformers with values from a seed, of full size and without a file: blocks are drawn on
the GPU when they are asked for, the same ones each time. And what a process holds."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from longtake.core.blocks import Slab, slab
from longtake.generators._wan_job import chunk_tokens
from longtake.nets.linear import kinds_of, quantized
from longtake.nets.wan import sizes
from longtake.nets.wan.block import Settings
from longtake.nets.wan.dit import DiT, Sample
from longtake.nets.wan.sizes import DiTConfig
from longtake.weights import block_manifest
from longtake.weights.block_manifest import REST, Description, block_name

CONFIGS: Final = {"t2v-1.3b": sizes.T2V_1_3B, "t2v-14b": sizes.T2V_14B, "i2v-14b": sizes.I2V_14B}

GiB: Final = 1 << 30
SPREAD: Final = 0.02  # of the values of matrices
RATE: Final = {"float8_e4m3fn": 448.0, "int8": 127.0}


def fields(config: DiTConfig, dtype: str, matrices: str | None) -> Slab:
    """The layout of a block."""
    found: list[tuple[str, str, tuple[int, ...]]] = []
    for key, shape in sizes.block_tensors(config).items():
        if matrices and sizes.matrix(key, shape):
            found += [(key, matrices, shape), (f"{key}_scale", "float32", shape[:1])]
        else:
            found.append((key, "float32" if sizes.exact(key) else dtype, shape))
    return slab(found)


def draw(
    key: str, shape: tuple[int, ...], dtype: str, device: str, seed: torch.Generator
) -> Tensor:
    """Values of a tensor as of a net before its training."""
    kind = getattr(torch, dtype)
    if key.endswith("_scale"):
        return torch.full(shape, SPREAD * 3 / 127, device=device)
    if dtype in RATE:
        wide = torch.randn(shape, device=device, generator=seed, dtype=torch.float16)
        return (wide * (RATE[dtype] / 3)).clamp_(-RATE[dtype], RATE[dtype]).to(kind)
    if "norm" in key and key.endswith("weight"):
        return torch.ones(shape, dtype=kind, device=device)
    if key.endswith("bias"):
        return torch.zeros(shape, dtype=kind, device=device)
    return torch.randn(shape, device=device, generator=seed, dtype=kind) * SPREAD


class SeededBlocks:
    """Fills `core.blocks.BlockSource`."""

    def __init__(self, layout: Slab, count: int, device: str) -> None:
        self.slab, self.count, self.device = layout, count, device
        self._lock = threading.Lock()

    def read(self, index: int, into: memoryview) -> None:
        with self._lock:
            torch.frombuffer(into, dtype=torch.uint8).copy_(self.drawn(index))

    @torch.inference_mode(False)
    @torch.no_grad()
    def drawn(self, index: int) -> Tensor:
        """A block's bytes, on the device."""
        seed = torch.Generator(self.device).manual_seed(1000 + index)
        memory = torch.zeros(self.slab.bytes, dtype=torch.uint8, device=self.device)
        for field in self.slab.fields:
            made = draw(field.name, field.shape, field.dtype, self.device, seed)
            view = memory[field.offset : field.offset + field.bytes]
            view.copy_(made.contiguous().view(-1).view(torch.uint8))
            del made
        return memory

    def close(self) -> None: ...


@torch.no_grad()
def nets(
    name: str, device: str, dtype: str = "bfloat16", matrices: str | None = None
) -> tuple[DiT, Any]:
    """The conditioner on the host, and the transformer with its blocks on meta and a source."""
    config = CONFIGS[name]
    transformer: Any
    with torch.device("meta"):
        conditioner, transformer = DiT(replace(config, layers=0)), DiT(config)
    transformer.release()
    source = SeededBlocks(fields(config, dtype, matrices), config.layers, device)
    kinds = kinds_of((f.name, f.dtype) for f in source.slab.fields)
    quantized(
        transformer,
        {f"blocks.{i}.{key}": kind for i in range(config.layers) for key, kind in kinds.items()},
    )
    layout = {field.name: field for field in source.slab.fields}
    seed = torch.Generator(device).manual_seed(7)
    for net in (conditioner, transformer):
        state = {}
        for key, value in net.state_dict().items():
            kept = "float32" if sizes.exact(key) else dtype
            if key.startswith("blocks."):
                field = layout[key.split(".", 2)[2]]
                state[key] = value.to(getattr(torch, field.dtype))
            else:
                state[key] = draw(key, value.shape, kept, device, seed).cpu()
        net.load_state_dict(state, assign=True)
    transformer.block_source = source
    return conditioner.eval(), transformer.eval()


@torch.no_grad()
def onto(net: nn.Module, device: str) -> nn.Module:
    """A net of `nets` with all of it on the device, for good."""
    net_: Any = net
    source = net_.block_source
    state = {key: value.to(device) for key, value in net.state_dict().items() if not value.is_meta}
    for index in range(source.count):
        memory = source.drawn(index)
        for f in source.slab.fields:
            view = memory[f.offset : f.offset + f.bytes].view(getattr(torch, f.dtype))
            state[f"blocks.{index}.{f.name}"] = view.view(f.shape)
    net.load_state_dict(state, assign=True)
    del net_.block_source
    return net


def asked(
    conditioner: DiT, size: tuple[int, int], frames: int, device: str, branches: int = 1
) -> list[Sample]:
    """What a step asks for, on the device; what the conditioner takes is given back."""
    config = conditioner.config
    seed = torch.Generator(device).manual_seed(11)
    shape = (config.enter, 1 + frames // 4, size[1] // 8, size[0] // 8)
    latents = torch.randn(shape, device=device, generator=seed)
    conditioner.to(device)
    with torch.inference_mode():
        moment = conditioner.moment(900.0)
        found = []
        for _ in range(branches):
            text = torch.randn(512, config.text_dim, device=device, generator=seed)
            image = None
            if config.image_dim is not None:
                image = torch.randn(257, config.image_dim, device=device, generator=seed)
            found.append(Sample(latents, moment, conditioner.give(text, image)))
    conditioner.cpu()
    return found


def settings(config: DiTConfig) -> Settings:
    return Settings(chunk_tokens=chunk_tokens(config))


def put_down(  # noqa: PLR0913
    folder: Path,
    model: str,
    role: str,
    config: Any,
    source: SeededBlocks,
    rest: Mapping[str, Tensor],
    matrices: str,
) -> None:
    """Block files of a net as `longtake weights convert` leaves them, unless they are there."""
    if (folder / "blocks.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in rest.items()}, folder / REST, {"format": "pt"})
    names = [block_name(index) for index in range(source.count)]
    began = time.perf_counter()

    def write(index: int) -> None:
        with (folder / names[index]).open("wb") as file:
            file.write(source.drawn(index).cpu().numpy().data)
            os.fsync(file.fileno())

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, range(source.count)))
    took = time.perf_counter() - began
    with ThreadPoolExecutor(8) as pool:
        *blocks, last = pool.map(block_manifest.sealed, [folder / n for n in [*names, REST]])
    described = Description(
        model=model, role=role, config=asdict(config), dtype="bfloat16",
        quant={"float8_e4m3fn": "fp8"}.get(matrices, matrices), slab=source.slab,
        blocks=tuple(blocks), rest=last, made_from=(),
    )  # fmt: skip
    block_manifest.write(folder, described)
    block_manifest.note_all(folder, described)
    size = source.count * source.slab.bytes
    print(
        f"{size / GiB:.2f} GiB of the {role} written at {size / took / 1e6:,.0f} MB/s", flush=True
    )


# --- what a process holds -------------------------------------------------------------------------


def held() -> int:
    """Bytes of the host that are this process's own: anonymous and shared memory, page-locked or
    not, without mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kinds = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines if "kB" in line}
    return kinds["RssAnon"] + kinds["RssShmem"]


@dataclass(slots=True)
class Peak:
    host: int = 0


@contextmanager
def watched(every: float = 0.02) -> Iterator[Peak]:
    """The most that `held` said meanwhile."""
    peak, ended = Peak(held()), threading.Event()

    def look() -> None:
        while not ended.wait(every):
            peak.host = max(peak.host, held())

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        peak.host = max(peak.host, held())
        ended.set()
        thread.join()


def missing(device: str) -> bool:
    """Says so where there is no such GPU."""
    if torch.cuda.is_available():
        return False
    print(f"no GPU {device} here: nothing to measure")
    return True


def peak_of_device(device: str) -> int:
    """Bytes: what torch reserved at most, and what the device has taken beyond that now."""
    free, total = torch.cuda.mem_get_info(device)
    beyond = total - free - torch.cuda.memory_reserved(device)
    return torch.cuda.max_memory_reserved(device) + beyond


def capped(device: str, most: int) -> None:
    """Let torch reserve no more than a card of `most` bytes would give it."""
    torch.zeros(1, device=device)
    free, total = torch.cuda.mem_get_info(device)
    beyond = total - free - torch.cuda.memory_reserved(device)
    torch.cuda.set_per_process_memory_fraction((most - beyond) / total, device)


def seconds(work: Any, times: int) -> list[float]:
    """Of each run, to its end on the device."""
    found = []
    for _ in range(times):
        torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        torch.cuda.synchronize()
        found.append(time.perf_counter() - began)
    return sorted(found)
