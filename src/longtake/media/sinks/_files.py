"""What every sink does to the file system: make it durable, and say plainly when it is full."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from longtake.core.errors import DiskFull, LongtakeError


class PartDamaged(LongtakeError):
    """A part is not what its segment says."""


@contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Turns "no space left" and "quota exceeded", also libav's, into DiskFull naming `path`."""
    try:
        yield
    except OSError as error:  # libav's errors are OSErrors with its errno
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"({path})") from error
        raise


def settle(path: Path) -> None:
    """Wait until a file or a folder (its list of names) is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
