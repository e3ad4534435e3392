"""What every sink does to the file system: make it durable, and say plainly when it is full."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av

from longtake.core.errors import DiskFull, LongtakeError

_WINDOWS = os.name == "nt"


class PartDamaged(LongtakeError):
    """A part is not what its segment says."""


class NotWritten(LongtakeError):
    """The file could not be written. What is done is kept."""


@contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Errors of libav and of the system while `path` is written, as our own.

    Raises DiskFull for "no space left" and "quota exceeded", NotWritten for what libav says.
    """
    try:
        yield
    except (OSError, av.FFmpegError) as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"({path})") from error
        if isinstance(error, av.FFmpegError):
            raise NotWritten(f"({path}: {error})") from error
        raise


def settle(path: Path) -> None:
    """Wait until a file or a folder (its list of names) is on the disk."""
    if _WINDOWS and path.is_dir():
        return  # cannot be opened there; its renames are durable by themselves
    handle = os.open(path, os.O_RDWR if _WINDOWS else os.O_RDONLY)  # flushed only if writable
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
