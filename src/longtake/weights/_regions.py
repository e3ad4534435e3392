"""Tensors written into files at places that are known beforehand, and read back from the disk."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from longtake.core.blocks import VALUE_BYTES, Field
from longtake.core.errors import BadInput, DiskFull

if TYPE_CHECKING:
    from torch import Tensor

_PORTION: Final = 1 << 26  # bytes
_MEGA: Final = 1e6
_BINARY: Final = getattr(os, "O_BINARY", 0)
_NAMES: Final = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64",
    "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL",
    "float8_e4m3fn": "F8_E4M3",
}  # fmt: skip


class Regions:
    """Files of a folder that are written by regions. Use it in a `with`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._handles: dict[str, int] = {}
        self._written: list[tuple[str, int, int, bytes]] = []  # file, offset, bytes, hash

    def put(self, name: str, offset: int, tensor: Tensor) -> None:
        """Write the values of a tensor into a file that is there. Raises DiskFull."""
        import torch

        flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
        self.put_bytes(name, offset, flat.numpy().data)

    def put_bytes(self, name: str, offset: int, values: memoryview | bytes) -> None:
        handle, at, view = self._handle(name), offset, memoryview(values)
        try:
            while len(view):
                done = _write(handle, view[:_PORTION], at)
                at, view = at + done, view[done:]
        except OSError as error:
            raise self._in_words(error, name) from None
        found = hashlib.blake2b(values).digest()
        self._written.append((name, offset, at - offset, found))

    def settle(self) -> None:
        """Bring everything that was put onto the disk, read it back from there, and compare.
        Raises DiskFull, or BadInput where the disk gives back something else."""
        for name in dict.fromkeys(name for name, *_ in self._written):
            self.settle_file(name)
        for name, offset, size, wanted in self._written:
            if self._hash(name, offset, size) != wanted:
                raise BadInput(
                    f"{self._folder / name}: the {size:,} bytes from byte {offset:,} that were "
                    f"written are not those that the disk gives back. The disk is failing; the "
                    f"official files are still there."
                )
        self._written.clear()

    def settle_file(self, name: str) -> None:
        """Bring a file onto the disk, and out of memory where that can be asked for."""
        handle = self._handle(name)
        try:
            os.fsync(handle)
        except OSError as error:
            raise self._in_words(error, name) from None
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)

    def _hash(self, name: str, offset: int, size: int) -> bytes:
        found, handle, at = hashlib.blake2b(), self._handle(name), offset
        while at < offset + size and (got := _read(handle, min(_PORTION, offset + size - at), at)):
            found.update(got)
            at += len(got)
        return found.digest()

    def _handle(self, name: str) -> int:
        if name not in self._handles:
            self._handles[name] = os.open(self._folder / name, os.O_RDWR | _BINARY)
        return self._handles[name]

    def _in_words(self, error: OSError, name: str) -> Exception:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return error
        files = [path.stat() for path in self._folder.iterdir() if path.is_file()]
        here = sum(getattr(about, "st_blocks", 0) * 512 for about in files)
        return DiskFull(f"{self._folder / name}: {here / _MEGA:,.1f} MB are written so far.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        for handle in self._handles.values():
            os.close(handle)
        self._handles.clear()


def _write(handle: int, values: memoryview, at: int) -> int:
    os.lseek(handle, at, os.SEEK_SET)
    return os.write(handle, values)


def _read(handle: int, size: int, at: int) -> bytes:
    os.lseek(handle, at, os.SEEK_SET)
    return os.read(handle, size)


def packed(tensors: Iterable[tuple[str, str, tuple[int, ...]]]) -> tuple[Field, ...]:
    """Tensors (name, dtype, shape) one behind the other as safetensors wants them: without gaps,
    wide values first, so that all are aligned."""
    fields: list[Field] = []
    offset = 0
    for name, dtype, shape in sorted(tensors, key=lambda t: (-VALUE_BYTES[t[1]], t[0])):
        fields.append(Field(name=name, dtype=dtype, shape=shape, offset=offset))
        offset += fields[-1].bytes
    return tuple(fields)


def header(fields: Iterable[Field], metadata: Mapping[str, str]) -> bytes:
    """The beginning of a safetensors file that holds these, whose offsets count from its end.

    Format: https://github.com/huggingface/safetensors (8 bytes length, little-endian, then JSON).
    """
    body: dict[str, object] = {"__metadata__": dict(metadata)}
    for field in fields:
        body[field.name] = {
            "dtype": _NAMES[field.dtype], "shape": list(field.shape),
            "data_offsets": [field.offset, field.offset + field.bytes],
        }  # fmt: skip
    text = json.dumps(body, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def sync_folder(folder: Path) -> None:
    """Bring a folder's names onto the disk."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
