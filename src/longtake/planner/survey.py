"""What this machine has, without torch: /proc, control groups, NVML."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from longtake.core.machine import CPU_FLAGS, Gpu, Machine
from longtake.planner import host

_CGROUP = host.GROUPS


def survey() -> Machine:
    """The machine as this process may use it."""
    name, flags = _cpu()
    total, free = host.ram(_CGROUP)
    return Machine(
        cores=_cores(), ram=total, free_ram=free, cpu=name, flags=flags, gpus=gpus(), torch=torch()
    )


def torch() -> str | None:
    """Version of the installed torch, or None; nothing is imported."""
    try:
        return version("torch")
    except PackageNotFoundError:
        return None


def gpus() -> tuple[Gpu, ...]:
    """NVIDIA GPUs by NVML, numbered as CUDA will number them; empty without a driver.

    CUDA must count in the order of the bus for that: CUDA_DEVICE_ORDER=PCI_BUS_ID, set by `launch`.
    """
    return tuple(replace(g, index=i) for i, g in enumerate(_visible(installed())))


def installed() -> list[Gpu]:
    """The same, those included that CUDA_VISIBLE_DEVICES hides, numbered by NVML."""
    with nvml() as ask:
        if ask is None:
            return []
        driver = _text(ask.nvmlSystemGetDriverVersion())
        return [_gpu(ask, i, driver) for i in range(ask.nvmlDeviceGetCount())]


def launch() -> None:
    """Set what torch reads from the environment when it is first imported.

    Its threads sleep while they wait for each other: by default they spin, on cores that the
    encoder needs (docs/lab.md). One process compiles kernels, of which there are few: by default
    there are as many as cores, each with all of torch in its memory.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    names = "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"  # since torch 2.9, and before
    if not any(name in os.environ for name in names):
        os.environ |= dict.fromkeys(names, "expandable_segments:True")


def vram_of_this_process(uuid: str) -> int | None:
    """Bytes that the driver counts for this process on a GPU: tensors, context and modules."""
    with nvml() as ask:
        if ask is None:
            return None
        handle = ask.nvmlDeviceGetHandleByUUID(uuid)
        running = ask.nvmlDeviceGetComputeRunningProcesses(handle)
        used = [p.usedGpuMemory for p in running if p.pid == os.getpid()]
        return int(used[0]) if used and used[0] is not None else None


@contextmanager
def nvml() -> Iterator[Any]:
    """The library, ready to be asked; None where there is no driver."""
    try:
        import pynvml
    except ImportError:
        yield None
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield None
        return
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def _visible(found: list[Gpu]) -> list[Gpu]:
    """Those that CUDA_VISIBLE_DEVICES names, by number or UUID, in its order; CUDA stops at the
    first name that it does not know."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return found
    kept = []
    for name in filter(None, (n.strip() for n in named.split(","))):
        match = [g for g in found if name == str(g.index) or g.uuid.startswith(name)]
        if not match:
            break
        kept.append(match[0])
    return kept


def _gpu(ask: Any, index: int, driver: str) -> Gpu:
    handle = ask.nvmlDeviceGetHandleByIndex(index)
    memory = ask.nvmlDeviceGetMemoryInfo(handle)
    return Gpu(
        index=index,
        uuid=_text(ask.nvmlDeviceGetUUID(handle)),
        name=_text(ask.nvmlDeviceGetName(handle)),
        vram=int(memory.total),
        free=int(memory.free),
        capability=tuple(ask.nvmlDeviceGetCudaComputeCapability(handle)),
        driver=driver,
    )


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _cpu() -> tuple[str, tuple[str, ...]]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor(), ()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    fields = {k.strip(): v.strip() for k, v in fields.items()}
    have = set(fields.get("flags", "").split())
    return fields.get("model name", ""), tuple(f for f in CPU_FLAGS if f in have)


def _cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = host.read(_CGROUP / "cpu.max").split()
    if len(quota) == 2 and quota[0] != "max":
        return max(1, min(cores or 1, int(quota[0]) // int(quota[1])))
    return cores or 1
