"""What of the catalogue lies on this disk, by a look at sizes; no file is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from longtake.weights import block_manifest, manifest
from longtake.weights.catalog import BLOCKS, Model, WeightFile
from longtake.weights.download import size
from longtake.weights.files import shipped
from longtake.weights.home import present
from longtake.weights.pull import partial

State = Literal["absent", "partial", "unchecked", "whole", "damaged"]
_SHIPPED = ("lite_faithful.safetensors", "lite_crisp.safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileState:
    role: str
    name: str
    state: State
    here: int  # bytes
    of: int | None  # bytes; None: not known
    licence: str
    sha256: str | None  # as published, or as seen first


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelState:
    name: str
    about: str
    where: Path
    state: State
    licences: str
    files: tuple[FileState, ...]

    @property
    def here(self) -> int:
        return sum(file.here for file in self.files)

    @property
    def of(self) -> int | None:
        """Bytes of all files; None where one of them is not known."""
        sizes = [file.of for file in self.files]
        return sum(s for s in sizes if s is not None) if None not in sizes else None


def look(model: Model, folder: Path) -> ModelState:
    """State of a model's files: "whole" is as `pull` or `convert` left it, "unchecked" was put
    there or changed by other means. Raises BadInput where the manifest is damaged."""
    entries = manifest.read(folder)
    found: dict[str, FileState] = {}  # block files stand for all files of their role
    for file in model.files:
        state = _file(file, folder, entries)
        found.setdefault(state.name, state)
    files = tuple(found.values())
    return ModelState(
        name=model.name, about=model.about, where=folder, state=_together(files),
        licences=model.licences, files=files,
    )  # fmt: skip


def carried() -> ModelState:
    """The weights that the package carries."""
    paths = [shipped(name) for name in _SHIPPED]
    files = tuple(
        FileState(
            role=p.stem, name=p.name, state="whole", here=size(p), of=size(p),
            licence="Apache-2.0", sha256=None,
        )
        for p in paths
    )  # fmt: skip
    return ModelState(
        name="lite", about="the built-in model", where=paths[0].parent, state="whole",
        licences="Apache-2.0", files=files,
    )  # fmt: skip


def _file(file: WeightFile, folder: Path, entries: dict[str, manifest.Entry]) -> FileState:
    path = present(folder, file)
    name = path.relative_to(folder).as_posix() if path else file.name
    entry = entries.get(name)
    if path is not None and path.name == BLOCKS:
        return _blocks(path.parent, file, entry)
    of = entry.bytes if entry else file.bytes
    state: State = "absent"
    here = size(path) if path else size(partial(folder, file))
    if path is None:
        state = "partial" if here else "absent"
    elif of not in (None, here) and (entry or name == file.name):
        state = "damaged"
    else:
        state = "whole" if entry and manifest.unchanged(entry, path) else "unchecked"
    return FileState(
        role=file.role, name=name, state=state, here=here, of=of, licence=file.licence,
        sha256=entry.sha256 if entry else file.sha256,
    )  # fmt: skip


def _blocks(folder: Path, file: WeightFile, entry: manifest.Entry | None) -> FileState:
    described = block_manifest.read(folder)
    here, whole, same = block_manifest.unchanged(folder, described)
    state: State = "damaged" if not whole else "whole" if same and entry else "unchecked"
    return FileState(
        role=file.role, name=f"{folder.name}/{BLOCKS}", state=state, here=here, of=described.bytes,
        licence=file.licence, sha256=entry.sha256 if entry else None,
    )  # fmt: skip


def _together(files: tuple[FileState, ...]) -> State:
    states = {file.state for file in files}
    if len(states) == 1:
        return states.pop()
    if "damaged" in states:
        return "damaged"
    return "unchecked" if states == {"whole", "unchecked"} else "partial"
