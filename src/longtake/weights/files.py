"""Files of weights: those that the package carries, what headers say, hashes. No torch here."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from longtake.core.errors import BadInput

_HERE = Path(__file__).parent
_LONGEST_HEADER = 1 << 20  # bytes; a header beyond this is not one


def shipped(name: str) -> Path:
    """A file of weights that the package carries. Raises BadInput where it is missing."""
    path = _HERE / name
    if not path.is_file():
        raise BadInput(f"The weights {name} are missing from {_HERE}: install longtake anew.")
    return path


def digest(path: Path) -> str:
    """sha256 of a file, read in full each time."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp(path: Path) -> tuple[int, int, int]:
    """What changes with a file: its place on the disk, its size and its time of change, ns. Raises
    OSError."""
    about = path.stat()
    return about.st_ino, about.st_size, about.st_mtime_ns


@cache
def sha256(path: Path) -> str:
    """sha256 of a file that nobody changes while we run."""
    return digest(path)


@cache
def header(path: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file: tensors by name, and "__metadata__".

    Format: https://github.com/huggingface/safetensors (8 bytes length, little-endian, then JSON).
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= _LONGEST_HEADER:
            raise BadInput(f"{path} is not a safetensors file (header of {length} bytes).")
        try:
            found = json.loads(file.read(length))
        except ValueError as error:
            raise BadInput(f"{path} is not a safetensors file: {error}.") from None
    if not isinstance(found, dict):
        raise BadInput(f"{path} is not a safetensors file: its header is no object.")
    return found


def tensor_bytes(path: Path) -> int:
    """Bytes of all tensors as stored."""
    sizes = [v["data_offsets"] for k, v in header(path).items() if k != "__metadata__"]
    return max((end for _, end in sizes), default=0)
