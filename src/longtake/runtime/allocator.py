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
    long job's small blocks scatter between its large ones and resident memory creeps upwards: 12 %
    over 18,000 frames of 64x36. The price is page faults: a few per cent for resizing, a fifth of
    the speed of a neural engine, whose own buffers dwarf the creep. So jobs without torch begin
    with this, and others call it when their engine is done. Elsewhere than on glibc nothing
    happens. Figures: docs/lab.md.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _BLOCK)
