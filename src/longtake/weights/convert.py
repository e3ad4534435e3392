"""Official checkpoints to safetensors: only the tensors that are used, in one dtype if asked."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from longtake.core.errors import BadInput, Usage
from longtake.weights import manifest
from longtake.weights.catalog import Model, WeightFile
from longtake.weights.check import expected_hash, named_by, split, structure
from longtake.weights.download import need_room
from longtake.weights.files import digest
from longtake.weights.reader import open_weights

if TYPE_CHECKING:
    import torch

DTYPES = ("keep", "float32", "float16", "bfloat16")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """One file has been written."""

    source: Path
    path: Path
    bytes: int
    sha256: str
    says: str


def convert(source: Path, target: Path, model: Model, dtype: str = "keep") -> Iterator[Converted]:
    """Write the files of a model in `source` (a folder, or one of its files) as safetensors into
    the folder `target`, with a manifest. Raises BadInput or Usage.

    A file is held in memory once while it is written; casting adds one tensor.
    """
    folder = source if source.is_dir() else source.parent
    found = [(f, folder / f.name) for f in model.files if (folder / f.name).is_file()]
    chosen = [(f, path) for f, path in found if source.is_dir() or path == source]
    if not chosen:
        names = ", ".join(f.name for f in model.files)
        raise Usage(f"{source} is no file of {model.name} and holds none: those are {names}.")
    if target.resolve() == folder.resolve():
        raise Usage(f"{target} holds the official files: give another folder for the new ones.")
    target.mkdir(parents=True, exist_ok=True)
    for file, path in chosen:
        yield _one(path, target / file.converted, model, file, dtype)


def _one(path: Path, target: Path, model: Model, file: WeightFile, dtype: str) -> Converted:
    from safetensors.torch import save_file

    origin = digest(path)
    expected = expected_hash(path.name, file, manifest.read(path.parent).get(path.name))
    if expected not in (None, origin):
        other = named_by(origin, model)
        raise BadInput(
            f"{path} is {f'the file of {other}' if other else 'damaged'}: its sha256 is {origin} "
            f"instead of {expected}."
        )
    notes = structure(path, file)
    need_room(target.parent, path.stat().st_size, target.name)
    fresh = target.with_name(target.name + ".new")
    save_file(_tensors(path, file, dtype), fresh, {"format": "pt", "model": model.name})
    with fresh.open("r+b") as written:
        os.fsync(written.fileno())
    found = digest(fresh)
    about = fresh.stat()
    entry = manifest.Entry(
        model=model.name, role=file.role, sha256=found, bytes=about.st_size,
        mtime_ns=about.st_mtime_ns, source=str(path), made_from=origin,
        trusted="published" if expected == file.sha256 is not None else "first use",
    )  # fmt: skip
    manifest.add(target.parent, target.name, entry)
    fresh.replace(target)
    return Converted(
        source=path, path=target, bytes=about.st_size, sha256=found, says="; ".join(notes)
    )


def _tensors(path: Path, file: WeightFile, dtype: str) -> dict[str, torch.Tensor]:
    import torch

    kind = None if dtype == "keep" else getattr(torch, dtype)
    with open_weights(path) as weights:
        used, _ = split(weights, file)
        # a clone where two keys share memory: safetensors holds each tensor on its own
        return {key: weights.tensor(key).to(kind).contiguous().clone() for key in used}
