"""What this process has used, as the operating system counts it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from longtake.planner.survey import gpus, vram_of_this_process


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a worker process has used when it gives a segment back."""

    busy: dict[str, float]  # seconds by stage, of this segment
    ram: int  # peak bytes so far
    vram: int | None


def peak_ram() -> int:
    """Peak resident bytes of this process since its start (VmHWM)."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return _rusage()
    return next((int(x.split()[1]) << 10 for x in lines if x.startswith("VmHWM:")), 0)


def _rusage() -> int:
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def peak_vram(device: str) -> int | None:
    """Peak bytes of this process on a GPU; None where it was not used.

    What torch reserved at most, and what the driver counts beside it: context and modules.
    """
    torch = sys.modules.get("torch")
    if torch is None or not device.startswith("cuda"):
        return None
    gpu = next((g for g in gpus() if device == f"cuda:{g.index}"), None)
    counted = vram_of_this_process(gpu.uuid) if gpu else None
    beside = max(0, counted - torch.cuda.memory_reserved(device)) if counted else 0
    return int(torch.cuda.max_memory_reserved(device)) + beside
