"""Block files as a source of blocks: checked when opened, read past the page cache where that can
be, so that going round and round over a model evicts nobody else's pages."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from longtake.core.blocks import PAGE, Slab
from longtake.core.errors import BadInput
from longtake.weights import block_manifest
from longtake.weights.catalog import BLOCKS
from longtake.weights.files import digest

REQUEST: Final = 16 << 20
"""Bytes that are asked for at once."""
_DIRECT: Final = getattr(os, "O_DIRECT", 0)
_BINARY: Final = getattr(os, "O_BINARY", 0)


class BlockFiles:
    """Fills `longtake.core.blocks.BlockSource`. Close it, or use it in a `with`."""

    def __init__(
        self, path: Path, model: str | None = None, *, role: str | None = None, direct: bool = True
    ) -> None:
        """Open a folder of block files (or its `blocks.json`), which must be of `model` and of its
        `role` where those are given. `direct`: read past the page cache where the file system takes
        it.

        Reads the head and the tail of each file, and in full what has changed since it was last
        hashed. Raises BadInput, with all files that are not as they should be.
        """
        self.folder = path.parent if path.name == BLOCKS else path
        self.description = block_manifest.read(self.folder)
        if model not in (None, self.description.model):
            raise BadInput(
                f"{self.folder} holds {self.description.model}, not {model}: each model needs a "
                f"folder of its own."
            )
        if role not in (None, self.description.role):
            raise BadInput(
                f"{self.folder} holds the {self.description.role} of {self.description.model}, not "
                f"its {role}: each net needs a folder of its own."
            )
        reasons = list(block_manifest.wrong(self.folder, self.description))
        if reasons:
            more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
            raise BadInput(
                f"{'; '.join(reasons[:3])}{more}. Convert the official files again, into a folder "
                f"that does not exist."
            )
        self.slab: Slab = self.description.slab
        self.count = len(self.description.blocks)
        self.identity = digest(self.folder / BLOCKS)
        """sha256 that names these weights, their dtypes and their layout."""
        self.rest = self.folder / self.description.rest.name
        """The safetensors file of all other tensors."""
        self._files: list[_File] = []
        try:
            for block in self.description.blocks:
                self._files.append(_File(self.folder / block.name, direct=direct and _DIRECT != 0))
        except BaseException:
            self.close()
            raise

    def read(self, index: int, into: memoryview) -> None:
        """Fill `into`, of `slab.bytes` bytes at a page's address, with block `index`; from several
        threads at once if wished. Raises BadInput where the bytes cannot be had."""
        if into.nbytes != self.slab.bytes or into.readonly:
            raise ValueError(f"a block needs {self.slab.bytes} bytes, not {into.nbytes}")
        self._files[index].read(into.cast("B"))

    def close(self) -> None:
        while self._files:
            self._files.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()


class _File:
    """One block. A descriptor for direct reads where they are taken, else one for others."""

    def __init__(self, path: Path, *, direct: bool) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._direct = _opened_direct(path) if direct else None
        self._plain: int | None = None

    def read(self, into: memoryview) -> None:
        at, size = 0, len(into)
        while at < size:
            part = into[at : min(at + REQUEST, size)]
            try:
                got = self._some(part, at)
            except OSError as error:
                raise BadInput(
                    f"{self._path}: {len(part):,} bytes from byte {at:,} of {size:,} cannot be "
                    f"read: {error.strerror or error}. If the disk is sound, `longtake weights "
                    f"check` tells more."
                ) from None
            if got == 0:
                raise BadInput(
                    f"{self._path} ends after {at:,} of {size:,} bytes: it was changed while it "
                    f"was in use. Convert the official files again."
                )
            at += got

    def _some(self, part: memoryview, at: int) -> int:
        """Bytes that were read, whole pages but for the last request. Raises OSError."""
        if self._direct is not None:
            try:
                got = os.preadv(self._direct, [part], at)
                return got if got == len(part) else got - got % PAGE or self._buffered(part, at)
            except OSError as error:
                if error.errno != errno.EINVAL:  # an address or a file system that wants no such
                    raise
        return self._buffered(part, at)

    def _buffered(self, part: memoryview, at: int) -> int:
        with self._lock:
            if self._plain is None:
                self._plain = os.open(self._path, os.O_RDONLY | _BINARY)
            if not hasattr(os, "preadv"):
                os.lseek(self._plain, at, os.SEEK_SET)
                found = os.read(self._plain, len(part))
                part[: len(found)] = found
                return len(found)
        got = os.preadv(self._plain, [part], at)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._plain, at, got, os.POSIX_FADV_DONTNEED)
        return got

    def close(self) -> None:
        for handle in (self._direct, self._plain):
            if handle is not None:
                os.close(handle)
        self._direct = self._plain = None


def _opened_direct(path: Path) -> int | None:
    """None where the file system has no direct reads. Raises BadInput."""
    try:
        return os.open(path, os.O_RDONLY | _DIRECT)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return None
        raise BadInput(f"{path} cannot be opened: {error.strerror or error}.") from None
