"""What a folder of block files is: `blocks.json`, and what shows that no file was changed.

    transformer/blocks.json        model, role, sizes of the net, layout of a block, hashes, origin
    transformer/block.00.bin ...   a block each, as `longtake.core.blocks` lays it out
    transformer/rest.safetensors   all that stands before and after the blocks
    transformer/seen.json          size and time of change of each file when it was last hashed
    text/...                       the same of the text encoder

`blocks.json` holds no paths and no times: the same weights give the same file, and its sha256 names
them. Two models are never mixed: every file is held to the hashes in it. Nothing here needs torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from longtake.core.blocks import VALUE_BYTES, Slab, slab
from longtake.core.errors import BadInput
from longtake.core.plain import from_plain, to_plain
from longtake.weights.catalog import BLOCKS
from longtake.weights.files import digest, stamp

REST: Final = "rest.safetensors"
ENDS: Final = 1 << 16
"""Bytes at the head and the tail of a file that are hashed whenever it is opened."""
_SEEN: Final = "seen.json"
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A file and its hashes."""

    name: str
    bytes: int
    sha256: str
    head: str
    """sha256 of its first 64 KiB."""
    tail: str
    """sha256 of its last 64 KiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A file that the blocks were made from."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """All that `blocks.json` says."""

    model: str  # wan-t2v-1.3b
    role: str = "transformer"  # which of its nets
    config: Mapping[str, Any]  # sizes of the net, as its own dataclass has them
    dtype: str  # what tensors were cast to, or "keep"
    quant: str  # what matrices were brought into: int8, fp8 or none
    slab: Slab
    blocks: tuple[Sealed, ...]
    rest: Sealed
    made_from: tuple[Origin, ...]

    @property
    def files(self) -> tuple[Sealed, ...]:
        return (*self.blocks, self.rest)

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def origin(self) -> str:
        """sha256 of what the blocks were made from: the file's, or that of all files' in order."""
        hashes = [origin.sha256 for origin in self.made_from]
        if len(hashes) == 1:
            return hashes[0]
        return hashlib.sha256("".join(hashes).encode()).hexdigest()

    @property
    def says(self) -> str:
        """In words."""
        mib = self.slab.bytes / 2**20
        matrices = sorted({f.dtype for f in self.slab.fields if len(f.shape) == 2})
        return f"{len(self.blocks)} blocks of {mib:,.1f} MiB, matrices in {', '.join(matrices)}"


def block_name(index: int) -> str:
    return f"block.{index:02}.bin"


def write(folder: Path, description: Description) -> None:
    """Put `blocks.json` into its place."""
    body = {"format": _FORMAT, **to_plain(description)}
    store(folder / BLOCKS, json.dumps(body, indent=1, sort_keys=True))


def read(folder: Path) -> Description:
    """Raises BadInput where there is none, or it is damaged."""
    path = folder / BLOCKS
    try:
        return _read(path, stamp(path))
    except FileNotFoundError:
        raise BadInput(
            f"{folder} holds no block files: {BLOCKS} is missing. `longtake weights convert` "
            f"makes them."
        ) from None


@lru_cache(maxsize=32)
def _read(path: Path, now: tuple[int, int, int]) -> Description:
    """A plan asks for the same one hundreds of times; `now` tells when it is another."""
    del now
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored.pop("format") != _FORMAT:
            raise ValueError("its format is not known")
        found = from_plain(Description, stored)
        _believable(found)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path} is damaged ({error}). Convert the official files again.") from None
    return found


def _believable(found: Description) -> None:
    """Raises ValueError for a layout or names that `write` would not have written."""
    fields = found.slab.fields
    if unknown := sorted({f.dtype for f in fields} - set(VALUE_BYTES)):
        raise ValueError(f"dtype {unknown[0]} is not known")
    if slab((f.name, f.dtype, f.shape) for f in fields) != found.slab or not fields:
        raise ValueError("the layout of its blocks is none")
    if [b.name for b in found.blocks] != [block_name(i) for i in range(len(found.blocks))]:
        raise ValueError("its blocks are not named in order")
    if found.rest.name != REST or any(b.bytes != found.slab.bytes for b in found.blocks):
        raise ValueError("its blocks are not of the size that its layout has")


def store(path: Path, text: str, fresh: str = ".new") -> None:
    """Write a small file by one rename, so that others see the old one or the new; it is made by
    the name with `fresh` behind it, which must be another for each who may write at a time."""
    made = path.with_name(path.name + fresh)
    with made.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    made.replace(path)


# --- hashes --------------------------------------------------------------------------------------


def sealed(path: Path) -> Sealed:
    """Read a file in full."""
    head, tail = _ends(path)
    return Sealed(
        name=path.name, bytes=path.stat().st_size, sha256=digest(path), head=head, tail=tail
    )


def _ends(path: Path) -> tuple[str, str]:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(ENDS)
        file.seek(max(size - ENDS, 0))
        tail = file.read(ENDS)
    return hashlib.sha256(head).hexdigest(), hashlib.sha256(tail).hexdigest()


def wrong(folder: Path, found: Description, *, full: bool = False) -> Iterator[str]:
    """What is wrong with the files. Sizes are compared, and the hashes of heads and tails; a file
    whose size or time is not that of the last full hash is hashed in full, and all are if `full`.
    What was hashed is noted, where the folder can be written to."""
    name = digest(folder / BLOCKS)
    seen = _seen(folder, name)
    known = dict(seen)
    for file in found.files:
        reason = _wrong(folder / file.name, file, None if full else seen.get(file.name))
        if reason is None:
            known[file.name] = _stamp(folder / file.name)
        else:
            known.pop(file.name, None)
            yield reason
    if known != seen:
        note(folder, name, known)


def _wrong(path: Path, file: Sealed, seen: list[int] | None) -> str | None:
    try:
        if path.stat().st_size != file.bytes:
            return f"{path} has {path.stat().st_size:,} of {file.bytes:,} bytes"
        if seen == _stamp(path):
            good = _ends(path) == (file.head, file.tail)
            return None if good else f"{path} is damaged: its head or tail has another hash"
        now = digest(path)
    except FileNotFoundError:
        return f"{path} is missing"
    except OSError as error:
        return f"{path} cannot be read: {error}"
    if now == file.sha256:
        return None
    return f"{path} is damaged: its sha256 is {now[:16]}… instead of {file.sha256[:16]}…"


def note(folder: Path, name: str, stamps: Mapping[str, list[int]]) -> None:
    """Keep in mind which files were hashed in full, for the `blocks.json` of that sha256. A folder
    that cannot be written to is hashed in full each time."""
    text = json.dumps({"of": name, "files": stamps}, indent=1, sort_keys=True)
    with contextlib.suppress(OSError):
        store(folder / _SEEN, text, f".{os.getpid()}.{threading.get_ident()}.new")


def note_all(folder: Path, found: Description) -> None:
    """Note that all files were just hashed in full."""
    stamps = {file.name: _stamp(folder / file.name) for file in found.files}
    note(folder, digest(folder / BLOCKS), stamps)


def _seen(folder: Path, name: str) -> dict[str, list[int]]:
    try:
        stored = json.loads((folder / _SEEN).read_text(encoding="utf-8"))
        return dict(stored["files"]) if stored["of"] == name else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # nothing is noted: everything is hashed


def _stamp(path: Path) -> list[int]:
    about = path.stat()
    return [about.st_size, about.st_mtime_ns]


def unchanged(folder: Path, found: Description) -> tuple[int, bool, bool]:
    """By a look at sizes and times: bytes that are there, whether all files have their size, and
    whether none was changed since its last full hash."""
    seen = _seen(folder, digest(folder / BLOCKS))
    here, whole, same = 0, True, True
    for file in found.files:
        path = folder / file.name
        stamp = _stamp(path) if path.is_file() else [0, 0]
        here += stamp[0]
        whole &= stamp[0] == file.bytes
        same &= seen.get(file.name) == stamp
    return here, whole, same
