"""What is wrong with files of weights: their hash, their keys, shapes and dtypes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from longtake.core.errors import BadInput
from longtake.weights import block_manifest, manifest
from longtake.weights.catalog import BLOCKS, MODELS, Model, WeightFile
from longtake.weights.files import digest
from longtake.weights.home import present
from longtake.weights.quantize import EIGHT_BITS, scales_in, without_scales
from longtake.weights.reader import Weights, differences, listed, open_weights
from longtake.weights.recognise import Recognise
from longtake.weights.shards import others
from longtake.weights.tables import PROMPT, Shape

FLOATS = frozenset({"float32", "float16", "bfloat16"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What was found out about one file."""

    model: str
    role: str
    path: Path
    state: Literal["good", "note", "bad"]
    says: str
    sha256: str | None = None


def check(
    folder: Path,
    model: Model,
    recognise: Mapping[str, Recognise] = {},
) -> Iterator[Checked]:
    """Every file of a model in a folder: read in full, hashed, and its tensors compared. Where
    none of a role is there, files of other names stand for it if their tensors are its own;
    `recognise` knows other names of those, by role."""
    blocks: set[Path] = set()
    shards: dict[str, list[Path]] = {}
    instead = _strays(folder, model, recognise)
    for role, strays in instead.items():
        yield from (_stray(path, model, role) for path in strays)
    for file in model.files:
        path = present(folder, file)
        if path is None and file.role in instead:
            continue
        if path is None:
            yield Checked(
                model=model.name, role=file.role, path=folder / file.name, state="bad",
                says=f"missing: longtake weights pull {model.name} --only {file.role}",
            )  # fmt: skip
        elif path.name == BLOCKS:
            if path not in blocks:
                yield _blocks(path, model, file)
            blocks.add(path)
        else:
            found = _file(folder, path, model, file)
            yield found
            if file.holds == "some" and found.state != "bad":
                shards.setdefault(file.role, []).append(path)
    for role, paths in shards.items():
        if len(paths) == sum(f.holds == "some" for f in model.of_role(role)):
            yield from _together(model, role, paths)


def _strays(
    folder: Path, model: Model, recognise: Mapping[str, Recognise]
) -> dict[str, tuple[Path, ...]]:
    """Checkpoints of names that are not the model's, by the role that they may stand for."""
    found: dict[str, tuple[Path, ...]] = {}
    here = {f.role for f in model.files if present(folder, f) is not None and f.holds != "none"}
    for paths in others(folder, model):
        if not all(path.is_file() for path in paths):
            continue
        shapes: dict[str, Shape] = {}
        for path in paths:
            with open_weights(path) as weights:
                shapes |= weights.shapes()
        role = role_of(shapes, model, recognise)
        if role is not None and role not in here:
            found.setdefault(role, paths)
    return found


def role_of(
    shapes: Mapping[str, Shape], model: Model, recognise: Mapping[str, Recognise]
) -> str | None:
    """The role of a model whose tensors these are, scales of 8-bit ones and other additions
    aside."""
    _, more = scales_in(shapes)
    plain = {key: shape for key, shape in shapes.items() if key not in more}
    for role, read in recognise.items():
        try:
            read(plain)
        except ValueError:
            continue
        return role
    for file in model.files:
        table = file.table()
        if table and table.keys() <= plain.keys() and (file.more or len(table) == len(plain)):
            return file.role
    return None


def _stray(path: Path, model: Model, role: str) -> Checked:
    """A file that stands for a role, of which nobody has published a hash."""
    with open_weights(path) as weights:
        kinds = weights.dtypes()
    scales, more = scales_in(kinds)
    held = {key: kind for key, kind in kinds.items() if key not in more}
    bare = without_scales(held, scales, raw=False)
    says = f"{len(held)} tensors, {', '.join(sorted(set(held.values())))}"
    says += f", scales of {len(scales)}" if scales else ""
    return Checked(
        model=model.name, role=role, path=path, state="bad" if bare else "note",
        says=bare or f"{says}; not a published file, so its sha256 is not compared",
        sha256=digest(path),
    )  # fmt: skip


def _file(folder: Path, path: Path, model: Model, file: WeightFile) -> Checked:
    found = digest(path)

    def said(state: Literal["good", "note", "bad"], says: str) -> Checked:
        return Checked(
            model=model.name, role=file.role, path=path, state=state, says=says, sha256=found
        )

    name = path.relative_to(folder).as_posix()
    expected = expected_hash(name, file, manifest.read(folder).get(name))
    if expected not in (None, found):
        other = named_by(found, model)
        return said(
            "bad",
            f"this is the file of {other}: the versions must not be mixed" if other else
            f"damaged: sha256 is {found[:16]}… instead of {expected[:16] if expected else ''}…; "
            f"longtake weights pull {model.name} --only {file.role} fetches it again",
        )  # fmt: skip
    try:
        notes = structure(path, file)
    except BadInput as error:
        return said("bad", error.detail)
    if expected is None:
        notes.append("its sha256 is not known, so it is not compared")
    return said("note" if expected is None else "good", "; ".join(notes))


def _blocks(path: Path, model: Model, file: WeightFile) -> Checked:
    """A folder of block files."""
    folder = path.parent

    def said(state: Literal["good", "bad"], says: str, sha256: str | None = None) -> Checked:
        return Checked(
            model=model.name, role=file.role, path=folder, state=state, says=says, sha256=sha256
        )

    try:
        described = block_manifest.read(folder)
    except BadInput as error:
        return said("bad", error.detail)
    if described.model != model.name:
        return said("bad", f"this is {described.model}: models must not be mixed")
    if described.role != file.role:
        return said("bad", f"this is the {described.role}: nets must not be mixed")
    entry = manifest.read(folder.parent).get(f"{folder.name}/{BLOCKS}")
    found = digest(path)
    if entry is not None and entry.sha256 != found:
        return said("bad", f"{BLOCKS} is not the one that was made here: convert again", found)
    wrong = list(block_manifest.wrong(folder, described, full=True))
    if wrong:
        return said("bad", f"{listed(wrong)}; convert again, into another folder", found)
    return said("good", described.says, found)


def _together(model: Model, role: str, paths: list[Path]) -> Iterator[Checked]:
    """What the files of a role lack, where it is shared among them."""
    held: dict[str, int] = {}
    for path in paths:
        with open_weights(path) as weights:
            for key in weights.shapes():
                held[key] = held.get(key, 0) + 1
    wrong = [f"{key} is missing" for key in model.file(role).table() if key not in held]
    wrong += [f"{key} is there {count} times" for key, count in held.items() if count > 1]
    if wrong:
        yield Checked(
            model=model.name, role=role, path=paths[0].parent, state="bad",
            says=f"the {len(paths)} files together are no {role}: {listed(wrong)}",
        )  # fmt: skip


def expected_hash(name: str, file: WeightFile, entry: manifest.Entry | None) -> str | None:
    """The sha256 that a file of that name must have, as far as it is known."""
    if entry is not None and (entry.made_from is not None or file.sha256 is None):
        return entry.sha256
    return file.sha256 if name == file.name else None


def named_by(sha256: str, but: Model) -> str | None:
    """Another model whose file has this hash and none of `but` has."""
    if any(file.sha256 == sha256 for file in but.files):
        return None
    return next((m.name for m in MODELS.values() if any(f.sha256 == sha256 for f in m.files)), None)


def structure(path: Path, file: WeightFile) -> list[str]:
    """What is worth knowing of the tensors in a file. Raises BadInput where keys or shapes are not
    those of `file`. Values are not read."""
    if file.holds == "none":
        return [_plain(path, file)]
    with open_weights(path, _suffixed(path, file)) as weights:
        used, more = split(weights, file)
        wanted = file.table()
        if file.holds == "some":
            wanted = {key: shape for key, shape in wanted.items() if key in used}
        wrong = differences(wanted, used)
        if wrong:
            raise BadInput(f"{path} is not the {file.role}: {listed(wrong)}.")
        dtypes = weights.dtypes()
        kinds = sorted({dtypes[key] for key in used})
        scales, beside = scales_in(dtypes) if file.narrows is not None else ({}, set())
        if scales and (bare := without_scales({k: dtypes[k] for k in used}, scales, raw=False)):
            raise BadInput(f"{path}: {bare}.")
        if not set(kinds) - (EIGHT_BITS if scales else frozenset()) <= FLOATS:
            raise BadInput(f"{path} holds {', '.join(kinds)}; only {', '.join(FLOATS)} are used.")
        more = [key for key in more if key not in beside]
        said = f", scales of {len(scales)}" if scales else ""
        notes = [f"{len(used)} tensors, {', '.join(kinds)}{said}"]
        notes += [f"{len(more)} more that are not used ({listed(more)})"] if more else []
        strange = weights.strange
        return notes + ([f"entries that are no tensors: {listed(strange)}"] if strange else [])


def _plain(path: Path, file: WeightFile) -> str:
    """Of a file that holds no tensors. Raises BadInput for what is no JSON by the name of one."""
    if not file.name.endswith(".json"):
        return f"{path.stat().st_size:,} bytes"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(f"{path} is not {file.name}: {error}.") from None
    return f"{len(found):,} entries" if isinstance(found, dict) else "JSON"


def split(weights: Weights, file: WeightFile) -> tuple[dict[str, Shape], list[str]]:
    """Shapes of the tensors that belong to a file, and the keys of those that it may also hold."""
    found, wanted = weights.shapes(), file.table()
    more = [key for key in found if key not in wanted] if file.more else []
    return {k: _bare(k, v, wanted) for k, v in found.items() if k not in more}, more


def _bare(key: str, shape: Shape, wanted: Mapping[str, Shape]) -> Shape:
    """A bare tensor may lack or have a leading 1."""
    if key == PROMPT and key in wanted:
        given = tuple(shape[1:] if shape[:1] == (1,) else shape)
        return wanted[key] if given == wanted[key][1:] else shape
    return shape


def _suffixed(path: Path, file: WeightFile) -> str:
    """The file's name as it will be: a partial file says nothing by its own."""
    known = (PurePosixPath(name).name for name in file.names)
    return path.name if path.name in known else file.name
