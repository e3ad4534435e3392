"""How fast a disk is read, past the page cache where that can be: a second, and nothing is left."""

from __future__ import annotations

import mmap
import os
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MOST: Final = 256 << 20
"""Bytes that are read, and written where there is no file to read."""
SECONDS: Final = 0.8
"""Of reading at most; of writing as much again."""
_REQUEST: Final = 16 << 20  # as weights/blocks.py asks
_READERS: Final = 2  # threads, as a placement has by default
_LEAST: Final = 64 << 20  # bytes of a file that is worth reading
_LOOKING: Final = 0.2  # s for such a file
_DIRECT: Final = getattr(os, "O_DIRECT", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    bytes: int
    seconds: float
    direct: bool  # past the page cache
    of: Path  # what was read

    @property
    def rate(self) -> float:
        """Bytes/s."""
        return self.bytes / self.seconds


def measure(folder: Path) -> Speed:
    """Of the disk of `folder`, which need not exist: of the largest file below it, else of one that
    is made for it and removed. Raises OSError where nothing can be read or written there."""
    largest = _largest(folder)
    if largest is not None:
        return _read(largest, largest)
    place = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    with tempfile.NamedTemporaryFile(prefix=".longtake-doctor-", dir=place) as scratch:
        _fill(scratch.fileno())
        return _read(Path(scratch.name), place)


def _largest(folder: Path) -> Path | None:
    """Of those that are found in a moment."""
    found: tuple[int, Path] | None = None
    began = time.perf_counter()
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            with suppress(OSError):
                found = max(found or (0, path), (path.stat().st_size, path))
        if time.perf_counter() - began > _LOOKING or (found and found[0] >= MOST):
            break
    return found[1] if found and found[0] >= _LEAST else None


def _fill(handle: int) -> None:
    """With what no file system makes smaller, to the disk."""
    block, began = os.urandom(_REQUEST), time.perf_counter()
    for number in range(MOST // _REQUEST):
        os.write(handle, number.to_bytes(8, "little") + block[8:])
        os.fsync(handle)
        if time.perf_counter() - began > SECONDS:
            return


def _read(path: Path, of: Path) -> Speed:
    size = min(path.stat().st_size, MOST) // _REQUEST * _REQUEST
    plain = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    direct = _opened_direct(path)
    try:
        if direct is None and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(plain, 0, size, os.POSIX_FADV_DONTNEED)
        began = time.perf_counter()
        handle = plain if direct is None else direct
        with ThreadPoolExecutor(_READERS, thread_name_prefix="longtake-disk") as pool:
            starts = [range(i * _REQUEST, size, _READERS * _REQUEST) for i in range(_READERS)]
            got = sum(pool.map(lambda at: _through(handle, at, began), starts))
        taken = time.perf_counter() - began
        return Speed(bytes=got, seconds=taken, direct=direct is not None, of=of)
    finally:
        os.close(plain)
        if direct is not None:
            os.close(direct)


def _through(handle: int, offsets: Iterable[int], began: float) -> int:
    """Bytes read from these on, until the time is over."""
    got = 0
    with mmap.mmap(-1, _REQUEST) as room:  # at a page's address, as direct reads want
        for at in offsets:
            if time.perf_counter() - began > SECONDS:
                break
            got += _into(handle, room, at)
    return got


def _into(handle: int, room: mmap.mmap, at: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(handle, [room], at)
    with os.fdopen(os.dup(handle), "rb", buffering=0) as own:  # its place is shared: one reader
        own.seek(at)
        return own.readinto(room) or 0


def _opened_direct(path: Path) -> int | None:
    """None where the file system has no direct reads, or takes them and then refuses."""
    if not _DIRECT:
        return None
    try:
        handle = os.open(path, os.O_RDONLY | _DIRECT)
    except OSError:
        return None
    with mmap.mmap(-1, mmap.PAGESIZE) as room:
        try:
            os.preadv(handle, [room], 0)
        except OSError:
            os.close(handle)
            return None
    return handle
