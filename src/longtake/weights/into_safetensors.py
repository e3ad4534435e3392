"""One official file to safetensors, a tensor at a time; files that hold none are copied."""

from __future__ import annotations

import shutil
from pathlib import Path

from longtake.core.errors import BadInput
from longtake.weights import manifest
from longtake.weights._regions import Regions, header, packed
from longtake.weights.catalog import Model, WeightFile
from longtake.weights.check import expected_hash, named_by, split, structure
from longtake.weights.download import need_room
from longtake.weights.files import digest
from longtake.weights.reader import open_weights


def into_safetensors(
    path: Path, folder: Path, model: Model, file: WeightFile, dtype: str
) -> tuple[manifest.Entry, str]:
    """Write what is used of a file into the folder, under its name there and with a line in the
    manifest; returns that and what is worth knowing. `dtype` is "keep" or that of all tensors.
    Raises BadInput, DiskFull."""
    origin, trusted = _judged(path, model, file)
    notes = structure(path, file)
    target = folder / file.converted
    target.parent.mkdir(parents=True, exist_ok=True)
    need_room(target.parent, path.stat().st_size, target.name)
    fresh = target.with_name(target.name + ".new")
    if file.holds == "none":
        shutil.copyfile(path, fresh)
        with Regions(fresh.parent) as regions:
            regions.settle_file(fresh.name)
    else:
        _write(path, fresh, model, file, dtype)
    about = fresh.stat()
    entry = manifest.Entry(
        model=model.name, role=file.role, sha256=digest(fresh), bytes=about.st_size,
        mtime_ns=about.st_mtime_ns, source=str(path), made_from=origin, trusted=trusted,
    )  # fmt: skip
    manifest.add(folder, file.converted, entry)
    fresh.replace(target)
    return entry, "; ".join(notes)


def _write(path: Path, fresh: Path, model: Model, file: WeightFile, dtype: str) -> None:
    import torch

    with open_weights(path) as weights, Regions(fresh.parent) as regions:
        used, _ = split(weights, file)
        shapes, dtypes = weights.shapes(), weights.dtypes()
        fields = packed((k, dtypes[k] if dtype == "keep" else dtype, shapes[k]) for k in used)
        head = header(fields, {"format": "pt", "model": model.name})
        with fresh.open("wb") as written:
            written.truncate(len(head) + sum(f.bytes for f in fields))
        regions.put_bytes(fresh.name, 0, head)
        for field in fields:
            tensor = weights.tensor(field.name).to(getattr(torch, field.dtype))
            regions.put(fresh.name, len(head) + field.offset, tensor)
        regions.settle()


def _judged(path: Path, model: Model, file: WeightFile) -> tuple[str, str]:
    """sha256 of an official file, and how it is trusted. Raises BadInput."""
    origin = digest(path)
    expected = expected_hash(file.name, file, manifest.read(path.parent).get(file.name))
    if expected not in (None, origin):
        other = named_by(origin, model)
        raise BadInput(
            f"{path} is {f'the file of {other}' if other else 'damaged'}: its sha256 is {origin} "
            f"instead of {expected}."
        )
    return origin, "published" if expected == file.sha256 is not None else "first use"
