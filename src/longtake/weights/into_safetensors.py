"""One official file to safetensors, a tensor at a time, its matrices in 8 bits where that is asked
for; files that hold none are copied."""

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
from longtake.weights.quantize import EIGHT_BITS, QUANTS, SCALE, quantize
from longtake.weights.reader import open_weights
from longtake.weights.tables import Shape


def into_safetensors(
    path: Path, folder: Path, model: Model, file: WeightFile, dtype: str, quant: str = "none"
) -> tuple[manifest.Entry, str]:
    """Write what is used of a file into the folder, under its name there and with a line in the
    manifest; returns that and what is worth knowing. `dtype` is "keep" or that of all tensors;
    `quant`, one of QUANTS, that of the matrices `file.narrows` names. Raises BadInput, DiskFull."""
    origin, trusted = _judged(path, model, file)
    notes = structure(path, file)
    target = folder / file.converted
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(target.name + ".new")
    if file.holds == "none":
        need_room(target.parent, path.stat().st_size, target.name)
        shutil.copyfile(path, fresh)
        with Regions(fresh.parent) as regions:
            regions.settle_file(fresh.name)
    else:
        _write(path, fresh, model, file, dtype, QUANTS[quant])
    about = fresh.stat()
    entry = manifest.Entry(
        model=model.name, role=file.role, sha256=digest(fresh), bytes=about.st_size,
        mtime_ns=about.st_mtime_ns, source=str(path), made_from=origin, trusted=trusted,
    )  # fmt: skip
    manifest.add(folder, file.converted, entry)
    fresh.replace(target)
    return entry, "; ".join(notes)


def holds(path: Path, file: WeightFile) -> str:
    """Which of QUANTS the matrices of a file are in, those that `file.narrows` names; "mixed" for
    several. Raises BadInput."""
    with open_weights(path) as weights:
        dtypes, shapes = weights.dtypes(), weights.shapes()
    found = {dtypes[key] for key, shape in shapes.items() if _matrix(file, key, shape)}
    names = {name for name, dtype in QUANTS.items() if dtype in found}
    plain = found.isdisjoint(EIGHT_BITS)
    return "none" if plain else names.pop() if len(found) == 1 else "mixed"


def _matrix(file: WeightFile, key: str, shape: Shape) -> bool:
    return file.narrows is not None and key.startswith(file.narrows) and len(shape) == 2


def _write(
    path: Path, fresh: Path, model: Model, file: WeightFile, dtype: str, eight: str | None
) -> None:
    """`eight`: what matrices are brought into."""
    import torch

    with open_weights(path) as weights, Regions(fresh.parent) as regions:
        used, _ = split(weights, file)
        shapes, dtypes = weights.shapes(), weights.dtypes()
        narrow = {k for k in used if eight is not None and _matrix(file, k, shapes[k])}
        rows: list[tuple[str, str, Shape]] = []
        for key in used:
            kept = dtypes[key] if dtype == "keep" else dtype
            rows.append((key, eight if eight and key in narrow else kept, shapes[key]))
            if key in narrow:
                rows.append((_scale(key), "float32", shapes[key][:1]))
        fields = {field.name: field for field in packed(rows)}
        size = sum(field.bytes for field in fields.values())
        head = header(fields.values(), {"format": "pt", "model": model.name})
        need_room(fresh.parent, len(head) + size, fresh.name)
        with fresh.open("wb") as written:
            written.truncate(len(head) + size)
        regions.put_bytes(fresh.name, 0, head)
        for key in used:
            tensor, kind = weights.tensor(key), fields[key].dtype
            if key in narrow:
                tensor, scales = quantize(tensor, kind, f"{path}: {key}")
                regions.put(fresh.name, len(head) + fields[_scale(key)].offset, scales)
            made = tensor.to(getattr(torch, kind))
            regions.put(fresh.name, len(head) + fields[key].offset, made)
        regions.settle()


def _scale(key: str) -> str:
    return f"{key.removesuffix('weight')}{SCALE}"


def _judged(path: Path, model: Model, file: WeightFile) -> tuple[str, str]:
    """sha256 of an official file, and how it is trusted. Raises BadInput."""
    origin = digest(path)
    name = file.converted if path.name == file.converted else file.name
    expected = expected_hash(name, file, manifest.read(path.parent).get(name))
    if expected not in (None, origin):
        other = named_by(origin, model)
        raise BadInput(
            f"{path} is {f'the file of {other}' if other else 'damaged'}: its sha256 is {origin} "
            f"instead of {expected}."
        )
    return origin, "published" if expected == file.sha256 is not None else "first use"
