"""A checkpoint of a net with blocks to block files, one file of it at a time.

Everything is written into ROLE.part beside the place where it shall lie, at places that are known
from the headers of all files before the first value is read. A file of the checkpoint is done when
all its tensors are on the disk and have been read back from there; `progress.json` keeps which are,
so that a conversion goes on where it was stopped, also when files that are done were deleted.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from longtake.core.blocks import VALUE_BYTES, Field, Slab, slab
from longtake.core.errors import BadInput, DiskFull, Usage
from longtake.core.plain import from_plain, to_plain
from longtake.weights import _regions, block_manifest, manifest
from longtake.weights._regions import Regions
from longtake.weights.block_manifest import REST, Description, Origin, block_name
from longtake.weights.catalog import BLOCKS, Model
from longtake.weights.check import named_by
from longtake.weights.files import digest
from longtake.weights.quantize import EIGHT_BITS, QUANTS, SCALE, scales_in, without_scales
from longtake.weights.reader import differences, listed, open_weights
from longtake.weights.recognise import Recognise
from longtake.weights.tables import Shape

if TYPE_CHECKING:
    from torch import Tensor

PART: Final = ".part"
_PROGRESS: Final = "progress.json"
_FORMAT: Final = 1
_BLOCK: Final = re.compile(r"blocks\.(\d+)\.(.+)")
_MEGA: Final = 1e6
_RAW: Final = "; or --raw-fp8 takes it as it is"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockOptions:
    """How block files are made."""

    quant: Mapping[str, str] = field(default_factory=dict)
    """By role, what matrices of blocks are brought into, also of a net that stays one file: one of
    QUANTS; of others none."""
    move: bool = False
    """Whether an official file is deleted as soon as all its tensors are on the disk."""
    recognise: Mapping[str, Recognise] = field(default_factory=dict)
    """By role, what says what the tensors of a checkpoint are."""
    raw: bool = False
    """Whether fp8 without scales is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """All tensors of one official file lie in the block files, on the disk."""

    source: Path
    bytes: int
    sha256: str
    removed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A file of the checkpoint."""

    name: str
    bytes: int
    tensors: tuple[str, ...]  # keys in our net
    sha256: str | None = None  # once it has been read
    done: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What is made, of what, and how far it is."""

    model: str
    role: str = "transformer"
    dtype: str
    quant: str
    config: Mapping[str, Any]
    slab: Slab
    count: int
    rest: tuple[Field, ...]
    names: Mapping[str, str]  # key in our net -> key in the checkpoint
    scales: Mapping[str, str]  # likewise, of the scales of its 8-bit matrices
    shards: tuple[Shard, ...]

    def places(self) -> dict[str, tuple[str, Field]]:
        """By key in our net, the file that a tensor lies in, and where."""
        start = len(_regions.header(self.rest, _metadata(self.model)))
        found = {f.name: (REST, replace(f, offset=start + f.offset)) for f in self.rest}
        for index in range(self.count):
            name = block_name(index)
            found |= {f"blocks.{index}.{f.name}": (name, f) for f in self.slab.fields}
        return found


def _metadata(model: str) -> dict[str, str]:
    return {"format": "pt", "model": model}


# --- the plan ------------------------------------------------------------------------------------


def planned(
    paths: list[Path], model: Model, role: str, dtype: str, options: BlockOptions
) -> Progress:
    """From the headers of the checkpoint's files; `options` must have a reader for the role. Raises
    BadInput."""
    quant = options.quant.get(role, "none")
    shapes: dict[str, Shape] = {}
    dtypes: dict[str, str] = {}
    owner: dict[str, Path] = {}
    for path in paths:
        with open_weights(path) as weights:
            found = weights.shapes()
            if twice := sorted(found.keys() & shapes.keys()):
                raise BadInput(f"{path} and {owner[twice[0]]} both hold {listed(twice)}.")
            shapes |= found
            dtypes |= weights.dtypes()
            owner |= dict.fromkeys(found, path)
    theirs, more = scales_in(shapes)
    try:
        known = options.recognise[role]({k: v for k, v in shapes.items() if k not in more})
    except ValueError as error:
        raise BadInput(f"{paths[0]} is no {role} that is known: {error}.") from None
    names = {ours: name for ours, name in known.names.items() if name in shapes}
    wrong = differences(model.file(role).table(), {o: shapes[n] for o, n in names.items()})
    if wrong:
        raise BadInput(f"{paths[0]} is not the {role} of {model.name}: {listed(wrong)}.")
    for matrix, scale in theirs.items():
        if owner[matrix] != owner[scale]:
            raise BadInput(f"{matrix} and {scale} lie in two files: put them into one.")
    bare = without_scales({n: dtypes[n] for n in names.values()}, theirs, raw=options.raw)
    if bare is not None:
        raise BadInput(f"{paths[0]}: {bare}{'' if options.raw else _RAW}.")
    kept: dict[str, str] = {}
    for ours, name in names.items():
        block = _BLOCK.fullmatch(ours)
        eight = block is not None and known.matrix(block[2], shapes[name])
        exact = known.exact(ours)
        kept[ours] = _dtype(dtypes[name], dtype, quant, matrix=eight, exact=exact)
        if kept[ours] not in VALUE_BYTES:
            raise BadInput(f"{owner[name]}: {name} is {kept[ours]}, which cannot be kept as it is.")
    layout, count, rest = _laid_out({o: (kept[o], shapes[n]) for o, n in names.items()}, paths[0])
    return Progress(
        model=model.name, role=role, dtype=dtype, quant=quant, config=dict(known.config),
        slab=layout,
        count=count, rest=rest, names=names,
        scales={o: theirs[n] for o, n in names.items() if n in theirs},
        shards=tuple(
            Shard(
                name=p.name, bytes=p.stat().st_size,
                tensors=tuple(o for o, n in names.items() if owner[n] == p),
            )
            for p in paths
        ),
    )  # fmt: skip


def _dtype(found: str, dtype: str, quant: str, *, matrix: bool, exact: bool) -> str:
    """What a tensor is kept in. An 8-bit one that is no matrix of a block is always made wider."""
    plain = "float32" if exact and dtype != "keep" else dtype
    eight = QUANTS[quant]
    if matrix and eight is not None:
        return eight
    if dtype != "keep":
        return plain
    return "bfloat16" if found.startswith("float8") and not matrix else found


def _laid_out(
    tensors: Mapping[str, tuple[str, Shape]], path: Path
) -> tuple[Slab, int, tuple[Field, ...]]:
    """The layout of a block, how many there are, and where the rest lies in its file."""
    rest: list[tuple[str, str, Shape]] = []
    blocks: dict[int, list[tuple[str, str, Shape]]] = {}
    for key, (dtype, shape) in tensors.items():
        block = _BLOCK.fullmatch(key)
        if block is None:
            rest.append((key, dtype, shape))
            continue
        fields = blocks.setdefault(int(block[1]), [])
        fields.append((block[2], dtype, shape))
        if dtype in EIGHT_BITS:
            scale = f"{block[2].removesuffix('weight')}{SCALE}"
            fields.append((scale, "float32", shape[:1]))
    for index, fields in blocks.items():
        if fields != blocks[0]:
            other = next(f for f, g in zip(fields, blocks[0], strict=True) if f != g)
            raise BadInput(
                f"{path}: {other[0]} is {other[1]} in block {index} and not in block 0: give "
                f"--dtype, so that all blocks are alike."
            )
    return slab(blocks[0]), len(blocks), _regions.packed(rest)


# --- the work ------------------------------------------------------------------------------------


def resumed(staging: Path, model: Model, dtype: str, quant: str) -> Progress | None:
    """How far a conversion is that was stopped. Raises BadInput, or Usage where it was another."""
    path = staging / _PROGRESS
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored.pop("format") != _FORMAT:
            raise ValueError("its format is not known")
        found = from_plain(Progress, stored)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, AttributeError) as error:
        raise BadInput(f"{path} is damaged ({error}). Remove {staging} to begin anew.") from None
    if (found.model, found.dtype, found.quant) != (model.name, dtype, quant):
        raise Usage(
            f"{staging} holds a conversion of {found.model} (--dtype {found.dtype} --quant "
            f"{found.quant}) that was stopped, and {model.name} (--dtype {dtype} --quant {quant}) "
            f"is asked for. Finish that one, give another folder, or remove {staging}."
        )
    return found


def _save(staging: Path, progress: Progress) -> None:
    body = {"format": _FORMAT, **to_plain(progress)}
    block_manifest.store(staging / _PROGRESS, json.dumps(body))


def begin(staging: Path, progress: Progress) -> None:
    """Lay out the files, still without a byte of weights."""
    staging.mkdir(parents=True, exist_ok=True)
    for index in range(progress.count):
        _reserve(staging / block_name(index), progress.slab.bytes)
    head = _regions.header(progress.rest, _metadata(progress.model))
    _reserve(staging / REST, len(head) + sum(f.bytes for f in progress.rest))
    with Regions(staging) as regions:
        regions.put_bytes(REST, 0, head)
        regions.settle()
    _save(staging, progress)
    _regions.sync_folder(staging)


def _reserve(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


def take(
    staging: Path, folder: Path, progress: Progress, model: Model, *, move: bool
) -> Iterator[Taken | Progress]:
    """Bring in what is left, file by file. Yields `Taken` after each and, last, what has become of
    `progress`. Raises BadInput, DiskFull; what is done is kept."""
    places = progress.places()
    _need(staging, folder, progress, places, move=move)
    for number, shard in enumerate(progress.shards):
        path, fresh = folder / shard.name, not shard.done
        if fresh:
            found = _hashed(path, shard, model)
            with open_weights(path) as weights, Regions(staging) as regions:
                for key in shard.tensors:
                    scale = progress.scales.get(key)
                    tensor = weights.tensor(progress.names[key])
                    with_scale = None if scale is None else weights.tensor(scale)
                    _put(regions, places, key, tensor, with_scale)
                regions.settle()
            shard = replace(shard, sha256=found, done=True)
            shards = (*progress.shards[:number], shard, *progress.shards[number + 1 :])
            progress = replace(progress, shards=shards)
            _save(staging, progress)
        assert shard.sha256 is not None
        removed = move and path.is_file() and (fresh or digest(path) == shard.sha256)
        if removed:
            path.unlink()
        yield Taken(source=path, bytes=shard.bytes, sha256=shard.sha256, removed=removed)
    yield progress


def _hashed(path: Path, shard: Shard, model: Model) -> str:
    """sha256 of an official file, which must be the one that was planned with and, where that is
    known, the published one. Raises BadInput."""
    if not path.is_file() or path.stat().st_size != shard.bytes:
        size = f"has {path.stat().st_size:,}" if path.is_file() else "is missing: it had"
        raise BadInput(f"{path} {size} of {shard.bytes:,} bytes.")
    found = digest(path)
    entry = manifest.read(path.parent).get(path.name)
    file = next((f for f in model.files if f.name == path.name and f.bytes == shard.bytes), None)
    known = (file.sha256 if file else None) or (entry.sha256 if entry else None)
    if known not in (None, found):
        raise BadInput(f"{path} is damaged: its sha256 is {found} instead of {known}.")
    other = named_by(found, model)
    if other is not None:
        raise BadInput(f"{path} is the file of {other}, not of {model.name}.")
    return found


def _put(
    regions: Regions,
    places: Mapping[str, tuple[str, Field]],
    key: str,
    tensor: Tensor,
    scale: Tensor | None,
) -> None:
    """Bring one tensor into its dtype and its place, and its scales if it has any."""
    import torch

    from longtake.weights.quantize import dequantize, per_row, quantize

    name, field = places[key]
    found = str(tensor.dtype).removeprefix("torch.")
    if field.dtype not in EIGHT_BITS:
        exact = tensor if scale is None else dequantize(tensor, scale)
        regions.put(name, field.offset, exact.to(getattr(torch, field.dtype)))
        return
    if found == field.dtype:  # as it is, bit for bit
        numbers = tensor
        scales = per_row(torch.ones(()) if scale is None else scale, len(tensor))
    else:
        exact = tensor if scale is None else dequantize(tensor, scale)
        numbers, scales = quantize(exact, field.dtype, key)
    regions.put(name, field.offset, numbers)
    beside, place = places[f"{key.removesuffix('weight')}{SCALE}"]
    regions.put(beside, place.offset, scales)


def _need(
    staging: Path,
    folder: Path,
    progress: Progress,
    places: Mapping[str, tuple[str, Field]],
    *,
    move: bool,
) -> None:
    """Raises DiskFull where the disk has not the room for what is left to write, when files of the
    checkpoint go as they are done if `move`."""
    freed = move and staging.stat().st_dev == folder.stat().st_dev
    need = most = 0
    for shard in progress.shards:
        if shard.done:
            continue
        for key in shard.tensors:
            need += places[key][1].bytes
            if places[key][1].dtype in EIGHT_BITS:
                need += places[f"{key.removesuffix('weight')}{SCALE}"][1].bytes
        most = max(most, need)
        need -= shard.bytes if freed else 0
    free = shutil.disk_usage(staging).free
    if most > free:
        hint = "" if move else " --move deletes each official file when its tensors are written."
        raise DiskFull(
            f"The block files of {progress.model} need {most / _MEGA:,.1f} MB more, {staging} has "
            f"{free / _MEGA:,.1f} MB free.{hint}"
        )


def finish(staging: Path, progress: Progress) -> Description:
    """Hash every file in full and write down what they are. Raises OSError."""
    names = [*(block_name(i) for i in range(progress.count)), REST]
    *blocks, rest = (block_manifest.sealed(staging / name) for name in names)
    described = Description(
        model=progress.model, role=progress.role, config=progress.config, dtype=progress.dtype,
        quant=progress.quant, slab=progress.slab, blocks=tuple(blocks), rest=rest,
        made_from=tuple(
            Origin(name=s.name, bytes=s.bytes, sha256=s.sha256 or "") for s in progress.shards
        ),
    )  # fmt: skip
    block_manifest.write(staging, described)
    block_manifest.note_all(staging, described)
    with contextlib.suppress(FileNotFoundError):
        (staging / _PROGRESS).unlink()
    _regions.sync_folder(staging)
    return described


def whole(staging: Path) -> Description | None:
    """What `finish` has left, where the folder was not put into its place after it."""
    if (staging / BLOCKS).is_file():
        return block_manifest.read(staging)
    return None
