"""Faults on demand, so that tests can prove what happens: `LONGTAKE_FAULT=oom:compute:3`.

A fault is KIND:PLACE[:COUNT], several are separated by commas. PLACE is a name that the code
passes to `strike`; COUNT is how many of the first strikes there fail (default 1). `slow` takes a
second instead. The variable is read at the first strike and never again.
"""

from __future__ import annotations

import errno
import os
import time
from functools import cache

from longtake.core.errors import OutOfMemory


@cache
def _armed() -> dict[str, list[str]]:
    armed: dict[str, list[str]] = {}
    for fault in filter(None, os.environ.get("LONGTAKE_FAULT", "").split(",")):
        kind, place, *count = fault.split(":")
        armed.setdefault(place, []).extend([kind] * (int(count[0]) if count else 1))
    return armed


def strike(place: str) -> str | None:
    """Fail here if a fault is armed for `place`; kinds that cannot be raised are returned."""
    waiting = _armed().get(place)
    if not waiting:
        return None
    kind = waiting.pop(0)
    if kind == "oom":
        raise OutOfMemory(f"(injected at {place})")
    if kind == "enospc":
        raise OSError(errno.ENOSPC, f"no space left on device (injected at {place})")
    if kind == "slow":
        time.sleep(1)
    return kind
