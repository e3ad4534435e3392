"""Files that the service holds, and files elsewhere that a user names by path.

Keys are made by us, never by a user: `assets/ID/content`. Every folder below the root is private.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from longtake.core.errors import BadInput
from longtake.journal import rename, sync

_KEY: Final = re.compile(r"[a-z0-9._-]{1,200}(/[a-z0-9._-]{1,200}){0,7}")
_NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_BINARY: Final = getattr(os, "O_BINARY", 0)
_FOLDER: Final = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0) | _NO_LINK
_PRIVATE: Final = 0o700


class InUse(Exception):
    """Another writer on this machine has the file open."""


class Growing:
    """A file that is written piece by piece, by one writer at a time. From any thread: a call that
    comes after `close` raises ValueError instead of touching another file."""

    def __init__(self, path: Path) -> None:
        """Open it, or make it. Raises InUse, OSError; also where the file is a link."""
        self._guard = threading.Lock()
        self._file = os.fdopen(
            os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINK | _BINARY, 0o600), "r+b", buffering=0
        )
        try:
            if not stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
                raise OSError(errno.EINVAL, "not a regular file", str(path))
            _hold(self._file.fileno())
        except BaseException:
            self._file.close()
            raise

    @property
    def size(self) -> int:
        with self._guard:
            return os.fstat(self._file.fileno()).st_size

    def write(self, at: int, data: bytes | bytearray) -> None:
        """All of `data` from byte `at` on."""
        left = memoryview(data)
        with self._guard:
            while left:
                written = os.pwrite(self._file.fileno(), left, at)
                left, at = left[written:], at + written

    def cut(self, size: int) -> None:
        """Shorten it to `size` bytes."""
        with self._guard:
            if os.fstat(self._file.fileno()).st_size > size:
                os.ftruncate(self._file.fileno(), size)

    def sync(self) -> None:
        with self._guard:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        with self._guard:
            self._file.close()


class Blobs:
    """Files by key in a folder of this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def path(self, key: str) -> Path:
        """Where it lies, or would lie. Raises ValueError for a key that cannot be ours."""
        parts = key.split("/")
        if not _KEY.fullmatch(key) or any(not part.strip(".") for part in parts):
            raise ValueError(f"{key!r} is no key")
        return self.root.joinpath(*parts)

    def exists(self, key: str) -> bool:
        return self.path(key).is_file()

    def size(self, key: str) -> int:
        """Bytes, 0 where there is none."""
        try:
            return self.path(key).stat().st_size
        except FileNotFoundError:
            return 0

    def free_bytes(self) -> int:
        """Of the disk."""
        _make(self.root)
        return shutil.disk_usage(self.root).free

    def put_atomic(self, key: str, source_path: Path) -> Path:
        """Move a file in, in place of the one that may be there: all of it or nothing, also after a
        power cut. A source on another disk is copied and then removed."""
        target = self.path(key)
        _make(target.parent)
        sync(source_path)
        try:
            rename(source_path, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _carry(source_path, target)
        _sync_folder(target.parent)
        return target

    def grow(self, key: str) -> Growing:
        """The file, to be written on; made where there is none. Raises InUse."""
        path = self.path(key)
        _make(path.parent)
        fresh = not path.exists()
        file = Growing(path)
        if fresh:
            _sync_folder(path.parent)
        return file

    def delete(self, key: str) -> None:
        """Remove it, and the folders that are empty then. None there is no error."""
        path = self.path(key)
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty
            for folder in path.parents:
                if folder == self.root:
                    break
                folder.rmdir()


def under_roots(path: str, roots: Sequence[Path]) -> Path:
    """The regular file that a user names by an absolute path, without links. Raises BadInput unless
    it lies under one of the roots."""
    found, handle = open_under_roots(path, roots)
    os.close(handle)
    return found


def open_under_roots(path: str, roots: Sequence[Path]) -> tuple[Path, int]:
    """As `under_roots`, with a handle to read that same file, which no swap of a folder or of a
    link in the meantime can lead elsewhere. The caller closes it."""
    root, found = _file_under(path, roots)
    try:
        handle = _descend(root, found.relative_to(root).parts)
    except OSError as error:
        raise BadInput(f"{path!r}: {error.strerror or error}.") from None
    if handle is None:
        raise BadInput(f"{path!r} is not a regular file, or was changed while it was opened.")
    return found, handle


def under(path: str, roots: Sequence[Path]) -> tuple[Path, Path] | None:
    """The root that a path lies under or is, and the path, both with links followed; None where it
    lies under none, whether or not there is anything. Raises BadInput for what is no path."""
    if "\0" in path or not Path(path).is_absolute():
        raise BadInput(f"{path!r} is not an absolute path.")
    try:
        found = Path(path).resolve()
        return next(
            ((r, found) for r in (root.resolve() for root in roots) if found.is_relative_to(r)),
            None,
        )
    except (OSError, ValueError, RuntimeError):  # too long, no UTF-8, links in a circle
        raise BadInput(f"{path!r} cannot be followed.") from None


def _file_under(path: str, roots: Sequence[Path]) -> tuple[Path, Path]:
    found = under(path, roots)
    if found is None or found[0] == found[1]:
        named = ", ".join(str(root) for root in roots) or "none is configured"
        raise BadInput(f"{path!r} does not lie in a folder that is open for use ({named}).")
    return found


def _descend(root: Path, parts: Sequence[str]) -> int | None:
    """Folder by folder, following no link. None for what is not a regular file."""
    if os.open not in os.supports_dir_fd:
        return _open_regular(str(root.joinpath(*parts)), None)
    folder = os.open(root, _FOLDER)
    try:
        for name in parts[:-1]:
            below = os.open(name, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = below
        return _open_regular(parts[-1], folder)
    finally:
        os.close(folder)


def _open_regular(name: str, folder: int | None) -> int | None:
    seen = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISREG(seen.st_mode):
        return None  # looked at first: to open a device or a pipe may do something
    never_wait = getattr(os, "O_NONBLOCK", 0)
    handle = os.open(name, os.O_RDONLY | never_wait | _NO_LINK | _BINARY, dir_fd=folder)
    if os.path.samestat(seen, os.fstat(handle)):
        return handle
    os.close(handle)
    return None


def _hold(handle: int) -> None:
    """The system frees it when the process dies, however that happens."""
    if os.name == "nt":
        return  # the lease in the database alone must do
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InUse from None


def _make(folder: Path) -> None:
    """A private folder, with the private folders above it that are missing."""
    if folder.is_dir():
        return
    _make(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=_PRIVATE)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return  # cannot open a folder; its renames are durable by themselves
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _carry(source: Path, target: Path) -> None:
    beside = target.with_name(f"{target.name}.{secrets.token_hex(8)}.new")
    try:
        shutil.copyfile(source, beside)
        sync(beside)
        rename(beside, target)
    finally:
        beside.unlink(missing_ok=True)
    source.unlink()
