"""The work folder beside the target, its lock, and the moment at which the target appears."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from longtake.core.errors import Usage, WorkFolderBusy
from longtake.journal import sync

SUFFIX = ".longtake"
_MAY_REPLACE = "may-replace-target"  # an empty file: --restart was given when this work began


def beside(target: Path) -> Path:
    """OUT.longtake for OUT."""
    return target.with_name(target.name + SUFFIX)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the work folder; raises WorkFolderBusy where another process does."""
    folder.mkdir(exist_ok=True)
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise WorkFolderBusy(
            f"{folder} is locked. Wait for the other process, or stop it."
        ) from None
    try:
        yield
    finally:
        lock.release()


def begin(folder: Path, target: Path, restart: bool) -> None:
    """Refuse to touch a target that is there, unless the work began with `--restart`."""
    if restart:
        for entry in folder.iterdir():
            if entry.name != "lock":
                _remove(entry)
        if target.exists():
            (folder / _MAY_REPLACE).touch()
            sync(folder)
    elif target.exists() and not (folder / _MAY_REPLACE).exists():
        with contextlib.suppress(OSError):  # leave no empty work folder behind a refusal
            if {e.name for e in folder.iterdir()} <= {"lock"}:
                shutil.rmtree(folder)
        raise Usage(f"{target} exists already; --restart makes it anew.")


def publish(folder: Path, made: Path, target: Path) -> None:
    """Put the verified film in its place by one rename."""
    sync(made)
    if target.is_dir():  # a folder cannot be replaced by a rename: step it aside first
        old = folder / "replaced"
        _remove(old)
        target.replace(old)
    os.replace(made, target)
    sync(target.parent)


def clear(folder: Path) -> None:
    """Remove the work folder of a job that is done."""
    shutil.rmtree(folder, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
