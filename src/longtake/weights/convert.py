"""Official checkpoints to the files that are quickest to use.

Most become safetensors (`into_safetensors`). A transformer that is larger than memory may become
block files (`into_blocks`), in a folder of their own beside the model's other files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from longtake.core.errors import BadInput, Usage
from longtake.weights import block_manifest, into_blocks, manifest
from longtake.weights._regions import sync_folder
from longtake.weights.block_manifest import Description
from longtake.weights.catalog import BLOCKS, Model, WeightFile
from longtake.weights.files import digest
from longtake.weights.home import belongs
from longtake.weights.into_blocks import PART, BlockOptions, Progress, Recognise, Taken
from longtake.weights.into_safetensors import into_safetensors

DTYPES = ("keep", "float32", "float16", "bfloat16")
_LOCK = ".lock"
_INDEX = ".index.json"
_SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5})\.safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """One file, or one folder of block files, is in its place."""

    source: Path
    path: Path
    bytes: int
    sha256: str
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What `source` has of a model."""

    folder: Path
    files: list[tuple[WeightFile, Path]]
    checkpoints: dict[str, list[Path]]  # by role, the files of which blocks are made


def convert(
    source: Path,
    target: Path,
    model: Model,
    dtype: str | None = None,
    blocks: BlockOptions = BlockOptions(),  # noqa: B008 -- frozen
) -> Iterator[Converted | Taken]:
    """Write the files of a model in `source` (a folder, or one of its files) into the folder
    `target`, with a manifest. Raises BadInput, Usage or DiskFull; the same call goes on.

    Where the model's transformer becomes block files, `dtype` (by default bfloat16) and `blocks`
    are for that alone and its other files keep their dtypes; `target` may then be the folder of the
    official files, of which only the transformer's are replaced.
    """
    if not model.in_blocks and (blocks.move or blocks.quant != "none"):
        raise Usage(f"--move and --quant are for block files, which {model.name} has none of.")
    work = _work(source, target, model)
    target.mkdir(parents=True, exist_ok=True)
    lock = FileLock(target / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise Usage(f"Another longtake is writing into {target}: wait for its end.") from None
    try:
        belongs(target, model)
        for role, paths in work.checkpoints.items():
            asked = _Blocks(
                folder=work.folder, paths=paths, target=target, model=model, role=role,
                dtype=dtype or "bfloat16", quant=blocks.quant,
            )  # fmt: skip
            yield from asked.made(blocks)
        kind = "keep" if dtype is None or model.in_blocks else dtype
        for file, path in work.files:
            entry, says = into_safetensors(path, target, model, file, kind)
            place = target / file.converted
            yield Converted(
                source=path, path=place, bytes=entry.bytes, sha256=entry.sha256, says=says
            )
    finally:
        lock.release()


# --- what there is -------------------------------------------------------------------------------


def _work(source: Path, target: Path, model: Model) -> _Work:
    """Raises Usage where there is nothing to do."""
    folder = source if source.is_dir() else source.parent
    inside = target.resolve() == folder.resolve()
    if inside and not model.in_blocks:
        raise Usage(f"{target} holds the official files: give another folder for the new ones.")
    files = [(f, folder / f.name) for f in model.files if not f.in_blocks]
    files = [(f, p) for f, p in files if p.is_file() and (source.is_dir() or p == source)]
    checkpoints = {}
    if source.is_dir() or not files:
        for role in model.in_blocks:
            paths = _checkpoint(source, model, role)
            if paths or (source.is_dir() and _begun(target, role)):
                checkpoints[role] = paths
    if not files and not checkpoints:
        names = ", ".join(f.name for f in model.files)
        raise Usage(f"{source} is no file of {model.name} and holds none: those are {names}.")
    return _Work(folder=folder, files=[] if inside else files, checkpoints=checkpoints)


def _begun(target: Path, role: str) -> bool:
    return (target / role).is_dir() or (target / (role + PART)).is_dir()


def _checkpoint(source: Path, model: Model, role: str) -> list[Path]:
    """The files of a checkpoint, some of which may be missing; none where there is none. By the
    official names, or else by those of an index or of shards, or the only file there is."""
    if source.is_file():
        return _shards(source)
    official = [source / f.name for f in model.of_role(role) if f.holds != "none"]
    if not source.is_dir() or any(path.is_file() for path in official):
        return official if source.is_dir() else []
    others = {name for f in model.files for name in (f.name, f.converted)}
    found = [p for p in sorted(source.glob("*.safetensors")) if p.name not in others]
    sets = {tuple(_shards(path)) for path in found}
    return list(sets.pop()) if len(sets) == 1 else []


def _shards(path: Path) -> list[Path]:
    """All files of the checkpoint that a file belongs to. Raises BadInput."""
    if path.name.endswith(_INDEX):
        try:
            names = set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
            bare = all(isinstance(name, str) and Path(name).name == name for name in names)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadInput(f"{path} is no index of a checkpoint ({error}).") from None
        if not bare or not names:
            raise BadInput(f"{path} is no index of a checkpoint: it names no files beside it.")
        return [path.with_name(name) for name in sorted(names)]
    found = _SHARD.fullmatch(path.name)
    if found is None:
        return [path]
    stem, count = found[1], found[2]
    return [
        path.with_name(f"{stem}-{i:05}-of-{count}.safetensors") for i in range(1, int(count) + 1)
    ]


# --- block files ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Blocks:
    """Block files to make of a checkpoint."""

    folder: Path
    paths: list[Path]
    target: Path
    model: Model
    role: str
    dtype: str
    quant: str

    @property
    def place(self) -> Path:
        return self.target / self.role

    @property
    def staging(self) -> Path:
        return self.target / (self.role + PART)

    def made(self, options: BlockOptions) -> Iterator[Converted | Taken]:
        if self.place.exists():
            yield self._there()
            return
        progress = into_blocks.resumed(self.staging, self.model, self.dtype, self.quant)
        described = None if progress else into_blocks.whole(self.staging)
        if progress is None and described is None:
            progress = self._begun(options.recognise)
        if progress is not None:
            for step in into_blocks.take(
                self.staging, self.folder, progress, self.model, move=options.move
            ):
                if isinstance(step, Progress):
                    progress = step
                else:
                    yield step
            described = into_blocks.finish(self.staging, progress)
        assert described is not None
        self._fits(described, self.staging)
        self._told(described, self.staging)  # first: a folder without its line would be a stranger
        self.staging.rename(self.place)
        sync_folder(self.target)
        yield self._converted(described, described.says)

    def _begun(self, recognise: Recognise | None) -> Progress:
        if recognise is None:
            raise Usage(f"Nobody here knows the tensors of {self.model.name}: no blocks are made.")
        if missing := [path.name for path in self.paths if not path.is_file()]:
            raise BadInput(
                f"{self.folder} lacks {', '.join(missing)}: longtake weights pull "
                f"{self.model.name} --only {self.role}"
            )
        if not self.paths:
            raise BadInput(
                f"{self.staging} is no conversion that was begun, and {self.folder} holds no "
                f"official files to begin one with."
            )
        progress = into_blocks.planned(
            self.paths, self.model, self.role, recognise, self.dtype, self.quant
        )
        into_blocks.begin(self.staging, progress)
        return progress

    def _there(self) -> Converted:
        """What lies in the place already, if it is what is asked for. Raises Usage."""
        found = block_manifest.read(self.place)
        self._fits(found, self.place)
        origins = {origin.name: origin for origin in found.made_from}
        for path in self.paths:
            if not path.is_file():
                continue
            origin = origins.get(path.name)
            same = origin is not None and path.stat().st_size == origin.bytes
            if not same or origin is None or digest(path) != origin.sha256:
                raise Usage(
                    f"{self.place} was made from other files than {path}: give another folder, or "
                    f"remove that one."
                )
        self._told(found, self.place)
        return self._converted(found, f"there already: {found.says}")

    def _fits(self, found: Description, folder: Path) -> None:
        asked = (self.model.name, self.dtype, self.quant)
        if (found.model, found.dtype, found.quant) != asked:
            raise Usage(
                f"{folder} holds {found.model} (--dtype {found.dtype} --quant {found.quant}), and "
                f"{asked[0]} (--dtype {asked[1]} --quant {asked[2]}) is asked for: give another "
                f"folder, or remove that one."
            )

    def _told(self, described: Description, folder: Path) -> None:
        """Put the folder's line into the manifest."""
        about = (folder / BLOCKS).stat()
        entry = manifest.Entry(
            model=self.model.name, role=self.role, sha256=digest(folder / BLOCKS),
            bytes=about.st_size, mtime_ns=about.st_mtime_ns, source=str(self.folder),
            trusted="published" if self._published(described) else "first use",
            made_from=described.origin,
        )  # fmt: skip
        manifest.add(self.target, f"{self.role}/{BLOCKS}", entry)

    def _published(self, described: Description) -> bool:
        """Whether all files have a hash that others have named."""
        named = {file.sha256 for file in self.model.files}
        entries = manifest.read(self.folder).values()
        named |= {entry.sha256 for entry in entries if entry.trusted == "published"}
        return all(origin.sha256 in named for origin in described.made_from)

    def _converted(self, described: Description, says: str) -> Converted:
        found = digest(self.place / BLOCKS)
        return Converted(
            source=self.folder, path=self.place, bytes=described.bytes, sha256=found, says=says
        )
