"""Tensors on disk that are whole or not there: written aside, checked when they are read."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from secrets import token_hex
from typing import Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from longtake.core.errors import BadInput

FRESH: Final = ".new"
"""Suffix of a file that is being written."""
_SUM: Final = "crc32"


def write(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """A safetensors file with `facts` in its header, in the place of one that was there. Tensors
    are on the host."""
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    payload = save(whole, {**facts, _SUM: _sum(whole, facts)})
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{token_hex(6)}{FRESH}")
    try:
        with fresh.open("xb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    _settle(path.parent)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and facts, checked. Raises BadInput for a file that is damaged, FileNotFoundError."""
    payload = path.read_bytes()
    try:
        tensors = load(payload)
        header = json.loads(payload[8 : 8 + int.from_bytes(payload[:8], "little")])
    except (SafetensorError, ValueError) as error:
        raise BadInput(f"{path} is damaged: {error}.") from None
    facts = {str(name): str(value) for name, value in header.get("__metadata__", {}).items()}
    if facts.pop(_SUM, "") != _sum(tensors, facts):
        raise BadInput(f"{path} is damaged: its check sum is another one.")
    return tensors, facts


def _sum(tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> str:
    total = zlib.crc32(json.dumps(sorted(facts.items())).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total = zlib.crc32(f"{name} {tensor.dtype} {list(tensor.shape)}".encode(), total)
        total = zlib.crc32(tensor.flatten().view(torch.uint8).numpy().data, total)
    return f"{total:08x}"


def _settle(folder: Path) -> None:
    """Wait until a folder's list of names is on the disk."""
    if os.name == "nt":
        return  # a folder cannot be opened there; its renames are durable by themselves
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
