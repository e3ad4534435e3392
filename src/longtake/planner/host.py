"""The host's memory: how much there is, what is left, and whether the system is short of it.

Of control groups, version 1 or 2, the one of this process and all above it count. Pages of files
that the kernel may drop are not counted as used: a group that reads or writes large files would
look full.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

GROUPS: Final = Path("/sys/fs/cgroup")
PROC: Final = Path("/proc")
# files of a control group: limit, use, and the lines of memory.stat that may be dropped
_V2 = "memory.max", "memory.current", ("inactive_file", "active_file")
_V1 = (
    "memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """As it is now."""

    ram: int  # bytes, physical or the control group's limit
    free: int  # bytes that can be had without swapping
    pressure: float = 0.0  # % of the last 10 s in which some task waited for memory
    swapped_in: int = 0  # bytes brought back from swap, since the start of the group or system
    throttled: int = 0  # times that the control group was slowed for passing its memory.high


def look(groups: Path = GROUPS, proc: Path = PROC) -> Host:
    """Some 0.2 ms."""
    total, free = ram(groups, proc)
    own = next((group for group, names in _groups(groups, proc) if names is _V2), None)
    pressure, stat, events = "", {}, {}
    if own is not None:
        pressure = read(own / "memory.pressure")
        stat, events = _pairs(own / "memory.stat"), _pairs(own / "memory.events")
    refaulted = stat.get("workingset_refault_anon")
    if refaulted is None:
        refaulted = _pairs(proc / "vmstat").get("pswpin", 0)
    return Host(
        ram=total, free=free, pressure=_waiting(pressure or read(proc / "pressure/memory")),
        swapped_in=refaulted * _page(), throttled=events.get("high", 0),
    )  # fmt: skip


def ram(groups: Path = GROUPS, proc: Path = PROC) -> tuple[int, int]:
    """Total and available bytes, the limits of control groups included."""
    if sys.platform == "win32":
        return _windows_ram()
    kib = _meminfo(proc)
    most_of_all = total = kib.get("MemTotal") or _page() * os.sysconf("SC_PHYS_PAGES")
    free = kib.get("MemAvailable", total)
    for group, (limit, used, files) in _groups(groups, proc):
        most, now = read(group / limit).strip(), read(group / used).strip()
        if most.isdigit() and now.isdigit() and int(most) < most_of_all:
            stat = _pairs(group / "memory.stat")
            held = max(int(now) - sum(stat.get(name, 0) for name in files), 0)
            total, free = min(total, int(most)), min(free, max(0, int(most) - held))
    return total, free


def physical(proc: Path = PROC) -> int:
    """Bytes of the machine, whatever control groups say."""
    if sys.platform == "win32":
        return _windows_ram()[0]
    return _meminfo(proc).get("MemTotal") or _page() * os.sysconf("SC_PHYS_PAGES")


def lockable() -> int | None:
    """Bytes that this process may lock in memory; None where there is no limit."""
    if sys.platform == "win32":
        return None
    import resource

    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def _meminfo(proc: Path) -> dict[str, int]:
    """Bytes by name."""
    fields = dict(line.split(":", 1) for line in read(proc / "meminfo").splitlines())
    return {name: int(value.split()[0]) << 10 for name, value in fields.items()}


def _groups(root: Path, proc: Path) -> Iterator[tuple[Path, tuple[str, str, tuple[str, str]]]]:
    """Folders of the control groups that hold this process, the innermost first."""
    own = {"0": "/", "memory": "/"}
    for line in read(proc / "self/cgroup").splitlines():
        number, kinds, path = line.split(":", 2)
        own |= {number: path} if not kinds else dict.fromkeys(kinds.split(","), path)
    for top, path, names in ((root, own["0"], _V2), (root / "memory", own["memory"], _V1)):
        inner = top / path.lstrip("/")
        for folder in (inner, *inner.parents):
            if (folder / names[0]).is_file():
                yield folder, names
            if folder == top:
                break


def _waiting(text: str) -> float:
    """avg10 of "some": https://docs.kernel.org/accounting/psi.html"""
    for line in text.splitlines():
        kind, *facts = line.split()
        if kind == "some":
            return float(dict(fact.split("=", 1) for fact in facts).get("avg10", 0.0))
    return 0.0


def _pairs(path: Path) -> dict[str, int]:
    """Lines of a name and a number."""
    found = (line.split() for line in read(path).splitlines())
    return {x[0]: int(x[1]) for x in found if len(x) == 2 and x[1].isdigit()}


def _page() -> int:
    return os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX: https://learn.microsoft.com/windows/win32/api/sysinfoapi"""

    _fields_ = [
        ("dwLength", ctypes.c_uint32),
        ("dwMemoryLoad", ctypes.c_uint32),
        ("ullTotalPhys", ctypes.c_uint64),
        ("ullAvailPhys", ctypes.c_uint64),
        ("ullTotalPageFile", ctypes.c_uint64),
        ("ullAvailPageFile", ctypes.c_uint64),
        ("ullTotalVirtual", ctypes.c_uint64),
        ("ullAvailVirtual", ctypes.c_uint64),
        ("ullAvailExtendedVirtual", ctypes.c_uint64),
    ]


def _windows_ram() -> tuple[int, int]:
    status = _MemoryStatus()
    status.dwLength = ctypes.sizeof(status)
    kernel: Any = getattr(ctypes, "windll").kernel32  # noqa: B009 - other systems have none
    if not kernel.GlobalMemoryStatusEx(ctypes.byref(status)):
        raise OSError("Windows does not say how much memory there is.")
    return int(status.ullTotalPhys), int(status.ullAvailPhys)


def read(path: Path) -> str:
    """Of a small file; "" where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
