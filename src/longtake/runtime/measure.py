"""What this process has used, as the operating system counts it."""

from __future__ import annotations

import contextlib
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


@dataclass(slots=True)
class _Before:
    """Peaks of this process up to the last time that they were counted afresh."""

    ram: int = 0
    vram: int = 0


_before = _Before()


def peak_ram() -> int:
    """Peak resident bytes of this process since its start."""
    peak = _status("VmHWM:")
    return max(_before.ram, _rusage() if peak is None else peak)


def afresh(device: str) -> None:
    """Count the peaks of what comes now; those up to now are kept for `peak_ram`, `peak_vram`. What
    torch holds of a GPU and does not use is given back. Where the system cannot, peaks go on."""
    _before.ram, _before.vram = peak_ram(), peak_vram(device) or 0
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    torch = sys.modules.get("torch")
    if torch is not None and device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peaks(device: str) -> tuple[int, int | None]:
    """Peak bytes since `afresh`: of the process, and on its GPU where it uses one."""
    peak = _status("VmHWM:")
    return _rusage() if peak is None else peak, _vram(device)


def keep_within(device: str, most: int | None, context: int) -> None:
    """Let torch reserve no more of a GPU than `most` bytes less those of its context; None: what
    the card has. On an empty card it would keep a quarter more than it needs."""
    torch = sys.modules.get("torch")
    if torch is None or not device.startswith("cuda") or not torch.cuda.is_available():
        return
    total = torch.cuda.get_device_properties(device).total_memory
    share = 1.0 if most is None else min(max(most - context, 0) / total, 1.0)
    torch.cuda.set_per_process_memory_fraction(share, device)


def ram_now() -> int:
    """Resident bytes of this process; its peak where the system does not say."""
    now = _status("VmRSS:")
    return _rusage() if now is None else now


def _status(name: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(x.split()[1]) << 10 for x in lines if x.startswith(name)), 0)


def _rusage() -> int:
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def peak_vram(device: str) -> int | None:
    """Peak bytes of this process on a GPU; None where it was not used."""
    found = _vram(device)
    return None if found is None else max(found, _before.vram)


def _vram(device: str) -> int | None:
    """What torch reserved at most, and what the driver counts beside it: context and modules."""
    torch = sys.modules.get("torch")
    if torch is None or not device.startswith("cuda"):
        return None
    gpu = next((g for g in gpus() if device == f"cuda:{g.index}"), None)
    counted = vram_of_this_process(gpu.uuid) if gpu else None
    beside = max(0, counted - torch.cuda.memory_reserved(device)) if counted else 0
    return int(torch.cuda.max_memory_reserved(device)) + beside
