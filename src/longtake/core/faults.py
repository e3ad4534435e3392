"""Faults on demand, so that tests can prove what happens: `LONGTAKE_FAULT=oom:compute:3`.

A fault is KIND:PLACE[:COUNT], several are separated by commas and come in this order. PLACE is a
name that the code passes to `strike`; COUNT is how many strikes there fail (default 1). `slow`
takes a second instead. The variable is read at the first strike and never again.

Where a `tick` is armed, work is measured by a clock that only faults move (`now`): a strike that
finds a `tick` takes 1 s of it, one that finds a `slow` 10 s, and nobody waits.
"""

from __future__ import annotations

import errno
import os
import time
from functools import cache
from typing import Final

from longtake.core.errors import OutOfMemory

_SECONDS: Final = {"tick": 1.0, "slow": 10.0}
_passed = [0.0]  # s of the clock that faults move


@cache
def _armed() -> dict[str, list[str]]:
    armed: dict[str, list[str]] = {}
    for fault in filter(None, os.environ.get("LONGTAKE_FAULT", "").split(",")):
        kind, place, *count = fault.split(":")
        armed.setdefault(place, []).extend([kind] * (int(count[0]) if count else 1))
    return armed


@cache
def _ticking() -> bool:
    return any("tick" in kinds for kinds in _armed().values())


def now() -> float:
    """Seconds, to measure work by."""
    return _passed[0] if _ticking() else time.perf_counter()


def strike(place: str) -> str | None:
    """Fail here if a fault is armed for `place`; kinds that cannot be raised are returned."""
    ticking, waiting = _ticking(), _armed().get(place)
    if not waiting:
        return None
    kind = waiting.pop(0)
    if kind == "oom":
        raise OutOfMemory(f"(injected at {place})")
    if kind == "enospc":
        raise OSError(errno.ENOSPC, f"no space left on device (injected at {place})")
    if ticking:
        _passed[0] += _SECONDS.get(kind, 0.0)
    elif kind == "slow":
        time.sleep(1)
    return kind
