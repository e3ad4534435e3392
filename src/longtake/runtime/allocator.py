"""Keep glibc from hoarding: freed memory goes back to the system instead of fraying the heap."""

from __future__ import annotations

import contextlib
import ctypes
import sys

_M_MMAP_THRESHOLD = -3  # malloc.h
_BLOCK = 64 << 10  # bytes


def steady() -> None:
    """From here on, blocks of 64 KiB or more are mapped one by one.

    By default glibc raises that threshold to the largest block ever freed, up to 32 MiB; then a
    long job's small blocks scatter between its large ones and resident memory creeps upwards. The
    price is page faults, a fifth of the speed of a neural engine, so this is for the stages that
    run for long and work little. Elsewhere than on glibc nothing happens.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _BLOCK)
