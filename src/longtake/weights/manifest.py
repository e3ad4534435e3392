"""`manifest.json` beside the files: which model each belongs to, its hash, where it came from."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from longtake.core.errors import BadInput
from longtake.core.plain import from_plain, to_plain
from longtake.weights.files import digest, stamp

NAME = "manifest.json"
_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is known of one file."""

    model: str  # flashvsr-v1.1
    role: str
    sha256: str
    bytes: int
    mtime_ns: int  # of the file when it was hashed
    source: str  # URL or path that it came from
    trusted: str  # "published": equal to a hash named by others; "first use": as it came
    made_from: str | None = None  # sha256 of the official file, where this one was converted


def read(folder: Path) -> dict[str, Entry]:
    """Entries by file name, none where there is no manifest. Raises BadInput for a damaged one."""
    path = folder / NAME
    try:
        return dict(_read(path, stamp(path)))
    except FileNotFoundError:
        return {}


@lru_cache(maxsize=32)
def _read(path: Path, now: tuple[int, int, int]) -> dict[str, Entry]:
    """A plan asks for the same manifest hundreds of times; `now` tells when it is another."""
    del now
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["format"] != _FORMAT:
            raise ValueError(f"format {stored['format']!r} is not known")
        return {name: from_plain(Entry, entry) for name, entry in stored["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{path} is damaged ({error}). Remove it and run `longtake weights pull` again."
        ) from None


def write(folder: Path, entries: Mapping[str, Entry]) -> None:
    """Put the manifest in its place by one rename."""
    files = {name: to_plain(entry) for name, entry in sorted(entries.items())}
    fresh = folder / (NAME + ".new")
    with fresh.open("w", encoding="utf-8") as file:
        json.dump({"format": _FORMAT, "files": files}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(folder / NAME)


def add(folder: Path, name: str, entry: Entry) -> None:
    write(folder, {**read(folder), name: entry})


def stamped(entry: Entry, path: Path) -> Entry:
    """The entry with the size and the time of change that the file has now."""
    about = path.stat()
    return dataclasses.replace(entry, bytes=about.st_size, mtime_ns=about.st_mtime_ns)


def unchanged(entry: Entry, path: Path) -> bool:
    """Whether the file has the size and time of change that were noted; reads none of it."""
    about = path.stat()
    return (entry.bytes, entry.mtime_ns) == (about.st_size, about.st_mtime_ns)


def sha256(path: Path) -> str:
    """sha256 of a file: as the manifest beside it says while the file is unchanged, else read, once
    in a process."""
    entry = read(path.parent).get(path.name)
    if entry is not None and unchanged(entry, path):
        return entry.sha256
    about = path.stat()
    return _digest(path, about.st_size, about.st_mtime_ns)


@cache
def _digest(path: Path, size: int, mtime_ns: int) -> str:  # noqa: ARG001 -- a changed file is another
    return digest(path)
