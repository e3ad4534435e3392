"""The work folder beside the target, its lock, and the moment at which the target appears."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from longtake.core.errors import Usage, WorkFolderBusy
from longtake.core.ports import CHECKPOINT
from longtake.journal import rename, sync, weigh

SUFFIX = ".longtake"
LOCK = "lock"
_MAY_REPLACE = "may-replace-target"  # an empty file: --restart was given when this work began
_PUBLISHED = "published.json"  # the stamp of the film, written just before it gets its name
_KEPT = "kept"  # an empty file: --keep was given, and the job is done
_OLD = "replaced"  # a folder of pictures that stood in the target's place
_PATIENCE = 0.5  # s: `longtake jobs` looks at a lock for less than a millisecond
_OURS = {
    LOCK, _MAY_REPLACE, _PUBLISHED, _KEPT, _OLD, "plan.json", "plan.json.tmp", "journal.jsonl",
    "segments", "index.bin", "index.json", "index.json.new", "recovering", "restored.bin",
    CHECKPOINT,
}  # fmt: skip
_MADE = ("joined", "recovered")  # with the target's suffix
PICTURES = frozenset(
    {".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".webp", ".dpx", ".exr", ".gif", ".tga"}
)


def beside(target: Path) -> Path:
    """OUT.longtake for OUT."""
    return target.with_name(target.name + SUFFIX)


def longest_path(target: Path) -> Path:
    """The longest path that work on `target` needs."""
    return beside(target) / "segments" / f"000000.unfinished{target.suffix}" / "00000000.tiff"


def stamp(path: Path) -> dict[str, int]:
    """By what a finished film is known again: bytes and time of change; of a folder, its files."""
    if path.is_dir():
        return {"bytes": weigh(path), "files": sum(1 for _ in path.iterdir())}
    return {"bytes": path.stat().st_size, "mtime_ns": path.stat().st_mtime_ns}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the work folder; raises WorkFolderBusy where another process does.

    A folder that holds nothing but the lock in the end is removed, while the lock is still held:
    a process that waits for it then finds that its file has gone, and asks again.
    """
    lock = FileLock(folder / LOCK)
    try:
        _acquire(lock, folder)
    except Timeout:
        raise WorkFolderBusy(
            f"{folder} is locked. Wait for the other process, or stop it."
        ) from None
    try:
        yield
    finally:
        _dissolve(folder)
        lock.release()
        if os.name == "nt":  # where what is open cannot be removed
            _dissolve(folder)


def _acquire(lock: FileLock, folder: Path) -> None:
    for left in (2, 1, 0):
        folder.mkdir(exist_ok=True)
        try:
            lock.acquire(timeout=_PATIENCE, poll_interval=0.01)
            return
        except FileNotFoundError:  # its last holder has just removed the folder
            if not left:
                raise
            time.sleep(0.01)


def _dissolve(folder: Path) -> None:
    with contextlib.suppress(OSError):
        if {e.name for e in folder.iterdir()} <= {LOCK}:
            (folder / LOCK).unlink(missing_ok=True)
            folder.rmdir()


def held(folder: Path) -> bool:
    """Whether a process works in this folder now. Nothing is written, and no job is disturbed: the
    look at the lock takes less time than `locked` waits."""
    lock = folder / LOCK
    if not lock.exists():
        return False
    if os.name == "nt":
        try:
            with FileLock(lock).acquire(timeout=0):
                return False
        except Timeout:
            return True
    import fcntl

    try:
        handle = os.open(lock, os.O_RDONLY)
    except OSError:  # gone, or another user's: cannot be told
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(handle)  # which also lets go of the lock
    return False


def begin(folder: Path, target: Path, restart: bool) -> None:
    """Refuse to touch a target that is there, unless the work began with `--restart`."""
    if restart:
        if target.is_dir():
            _replaceable(target)
        _give_back(folder, target)
        for entry in folder.iterdir():
            if entry.name != LOCK:
                _remove(entry)
        if target.exists():
            (folder / _MAY_REPLACE).touch()
            sync(folder)
    elif target.exists() and not may_replace(folder):
        if target.is_dir():
            _replaceable(target)
            raise Usage(
                f"{target} is a folder that is there already; --restart makes all of it anew, as a "
                f"folder of pictures. For a film in it give the film's name: {target / 'NAME.mp4'}"
            )
        raise Usage(f"{target} exists already; --restart makes it anew.")


def may_replace(folder: Path) -> bool:
    """Whether the work in this folder began with `--restart`, to replace a target."""
    return (folder / _MAY_REPLACE).exists()


def _replaceable(target: Path) -> None:
    """Raises Usage for a folder that holds anything but pictures: nobody meant to lose that."""
    for entry in target.iterdir():
        if entry.suffix.lower() not in PICTURES or entry.is_dir():
            raise Usage(
                f"{target} is a folder that holds more than pictures ({entry.name}). OUT without a "
                f"suffix is a folder of pictures, made anew as a whole. For a film in that folder "
                f"give its name too: {target / 'NAME.mp4'}"
            )


def publish(folder: Path, made: Path, target: Path) -> None:
    """Put the verified film in its place by one rename."""
    sync(made)
    note = folder / _PUBLISHED
    note.write_text(json.dumps(stamp(made)), encoding="utf-8")
    sync(note)
    if target.is_dir():  # a folder cannot be replaced by a rename: step it aside first
        old = folder / _OLD
        _remove(old)
        rename(target, old)
    rename(made, target)
    sync(target.parent)


def published(folder: Path, target: Path) -> bool:
    """Whether `target` is what the work in this folder has made and verified; also after a kill
    between the two last steps."""
    try:
        noted = json.loads((folder / _PUBLISHED).read_text(encoding="utf-8"))
        return bool(noted == stamp(target))
    except (OSError, ValueError):
        return False


def keep(folder: Path) -> None:
    """Say that the work folder of a job that is done stays because it was asked for."""
    (folder / _KEPT).touch()


def kept(folder: Path) -> bool:
    return (folder / _KEPT).exists()


def clear(folder: Path) -> None:
    """Remove all of the work folder of a job that is done but its lock, which `locked` removes."""
    with contextlib.suppress(OSError):
        for entry in folder.iterdir():
            if entry.name != LOCK:
                _remove(entry)


def discard(folder: Path) -> int:
    """Remove a work folder that nobody will go on with; returns the bytes that it took.

    Raises Usage for anything that is not a work folder of ours, WorkFolderBusy for one in use. A
    folder of pictures that was about to be replaced is put back.
    """
    if folder.is_symlink() or not folder.is_dir() or folder.suffix != SUFFIX:
        raise Usage(f"{folder} is no work folder: those are folders named OUT{SUFFIX}.")
    strange = [e.name for e in folder.iterdir() if not _is_ours(e)]
    if strange:
        raise Usage(f"{folder} holds what longtake has not made ({strange[0]}): look at it first.")
    size, _ = taken(folder)
    with locked(folder):
        _give_back(folder, folder.with_suffix(""))
        clear(folder)
        left = [e.name for e in folder.iterdir() if e.name != LOCK]
        if left:
            raise OSError(f"{folder / left[0]} cannot be removed")
    return size


def taken(folder: Path) -> tuple[int, float]:
    """Bytes of all files below a folder, and when the last of them changed (s since 1970)."""
    total, last = 0, folder.stat().st_mtime
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # a running job removes and renames
                about = os.lstat(os.path.join(place, name))
                total += about.st_size
                last = max(last, about.st_mtime)
    return total, last


def _is_ours(entry: Path) -> bool:
    named = entry.name in _OURS or entry.stem in _MADE or entry.name in _MADE
    return named or entry.name.startswith(f"{CHECKPOINT}.")  # a kill came while it was written


def _give_back(folder: Path, target: Path) -> None:
    """A kill may have come when the old pictures were aside and the new ones not yet in place."""
    old = folder / _OLD
    if old.is_dir() and not target.exists():
        rename(old, target)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
