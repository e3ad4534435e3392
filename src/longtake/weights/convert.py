"""Checkpoints to the files that are quickest to use.

Most become safetensors (`into_safetensors`), some with matrices in 8 bits. A net that is larger
than memory becomes block files (`into_blocks`), in a folder of their own role beside the model's
other files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from longtake.core.errors import BadInput, Usage
from longtake.weights import block_manifest, into_blocks, manifest
from longtake.weights._regions import sync_folder
from longtake.weights.block_manifest import Description
from longtake.weights.catalog import BLOCKS, Model, WeightFile
from longtake.weights.check import role_of
from longtake.weights.files import digest
from longtake.weights.home import belongs
from longtake.weights.into_blocks import PART, BlockOptions, Progress, Taken
from longtake.weights.into_safetensors import holds, into_safetensors
from longtake.weights.reader import open_weights
from longtake.weights.recognise import Recognise
from longtake.weights.shards import others, together
from longtake.weights.tables import Shape

DTYPES = ("keep", "float32", "float16", "bfloat16")
_LOCK = ".lock"


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

    Where nets of the model become block files, `dtype` (by default bfloat16) and `blocks` are for
    those alone and its other files keep their dtypes, but for the matrices of those that
    `blocks.quant` names; `target` may then be the folder of the official files, of which only those
    nets' are replaced.
    """
    if not model.in_blocks and (blocks.move or any(q != "none" for q in blocks.quant.values())):
        raise Usage(f"--move and --quant are for block files, which {model.name} has none of.")
    if lacking := sorted(
        {r for r, quant in blocks.quant.items() if quant != "none"} - {f.role for f in model.files}
    ):
        raise Usage(f"--quant names {', '.join(lacking)}, which {model.name} does not have.")
    work = _work(source, target, model, blocks)
    target.mkdir(parents=True, exist_ok=True)
    lock = FileLock(target / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise Usage(f"Another longtake is writing into {target}: wait for its end.") from None
    try:
        belongs(target, model)
        for role, paths in work.checkpoints.items():
            folder = paths[0].parent if paths else work.folder
            asked = _Blocks(
                folder=folder, paths=paths, target=target, model=model, role=role,
                dtype=dtype or "bfloat16", asked=blocks.quant.get(role),
            )  # fmt: skip
            yield from asked.made(blocks)
        kind = "keep" if dtype is None or model.in_blocks else dtype
        for file, path in work.files:
            if _narrows(file, blocks):
                yield from _narrowed(path, target, model, file, blocks)
                continue
            entry, says = into_safetensors(path, target, model, file, kind)
            place = target / file.converted
            yield Converted(
                source=path, path=place, bytes=entry.bytes, sha256=entry.sha256, says=says
            )
    finally:
        lock.release()


# --- what there is -------------------------------------------------------------------------------


def _work(source: Path, target: Path, model: Model, options: BlockOptions) -> _Work:
    """Raises Usage where there is nothing to do."""
    folder = source if source.is_dir() else source.parent
    inside = target.resolve() == folder.resolve()
    if inside and not model.in_blocks:
        raise Usage(f"{target} holds the official files: give another folder for the new ones.")
    files = [(f, folder / f.name) for f in model.files if not f.in_blocks]
    files = [(f, p) for f, p in files if p.is_file() and (source.is_dir() or p == source)]
    files = [(f, p) for f, p in files if not _narrows(f, options)]
    narrowed = [(f, _wide(source, target, f)) for f in model.files if _narrows(f, options)]
    checkpoints: dict[str, list[Path]] = {}
    if source.is_dir():
        strays = _strays(source, model, options.recognise)
        for role in model.in_blocks:
            paths = _official(source, model, role) or strays.get(role, [])
            if paths or _begun(target, role):
                checkpoints[role] = paths
    elif source.is_file() and not files and not narrowed:
        paths = list(together(source))
        checkpoints[_role(paths, target, model, options.recognise)] = paths
    if not files and not narrowed and not checkpoints:
        names = ", ".join(f.name for f in model.files)
        raise Usage(f"{source} is no file of {model.name} and holds none: those are {names}.")
    files = narrowed if inside else [*files, *narrowed]
    return _Work(folder=folder, files=files, checkpoints=checkpoints)


def _narrows(file: WeightFile, options: BlockOptions) -> bool:
    return file.narrows is not None and options.quant.get(file.role, "none") != "none"


def _wide(source: Path, target: Path, file: WeightFile) -> Path:
    """The file whose matrices are brought into 8 bits, or what was made of it. Raises Usage."""
    folder = source if source.is_dir() else source.parent
    paths = [folder / file.name, folder / file.converted]
    if source.is_file():
        paths = [path for path in paths if path == source]
    else:
        paths.append(target / file.converted)
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        raise Usage(
            f"The {file.role} is asked for in 8 bits, and {source} does not hold it: it is "
            f"{file.name} or {file.converted}."
        )
    return found


def _begun(target: Path, role: str) -> bool:
    return (target / role).is_dir() or (target / (role + PART)).is_dir()


def _official(folder: Path, model: Model, role: str) -> list[Path]:
    """The files of a role by the model's own names, some of which may be missing; none where none
    is there."""
    files = [f for f in model.of_role(role) if f.holds != "none"]
    names = [[n for n in f.names if n != f.converted or not f.in_blocks] for f in files]
    there = [next((folder / n for n in some if (folder / n).is_file()), None) for some in names]
    if not any(there):
        return []
    return [path or folder / file.name for path, file in zip(there, files, strict=True)]


def _strays(
    folder: Path, model: Model, recognise: Mapping[str, Recognise]
) -> dict[str, list[Path]]:
    """Checkpoints of other names, by the role that their tensors tell. Raises Usage where two are
    for one role."""
    found: dict[str, list[Path]] = {}
    for paths in others(folder, model):
        role = _told(paths, model, recognise)
        if role is not None and role in found:
            raise Usage(
                f"{folder} holds two checkpoints that may be the {role} of {model.name}: "
                f"{found[role][0].name} and {paths[0].name}. Give the file instead of the folder."
            )
        if role is not None:
            found[role] = list(paths)
    return found


def _role(paths: list[Path], target: Path, model: Model, recognise: Mapping[str, Recognise]) -> str:
    """What the files of a checkpoint are for: by name, by their tensors, or, where some are gone
    already, by what was begun; else the first role there is, whose reader then says what is
    wrong."""
    for role in model.in_blocks:
        if {p.name for p in paths} & {n for f in model.of_role(role) for n in f.names}:
            return role
    begun = [role for role in model.in_blocks if (target / (role + PART)).is_dir()]
    return _told(paths, model, recognise) or (begun[0] if len(begun) == 1 else model.in_blocks[0])


def _told(paths: Sequence[Path], model: Model, recognise: Mapping[str, Recognise]) -> str | None:
    """The role of block files that the tensors of a checkpoint tell; None where a file is
    missing."""
    shapes: dict[str, Shape] = {}
    for path in paths:
        if not path.is_file():
            return None
        with open_weights(path) as weights:
            shapes |= weights.shapes()
    role = role_of(shapes, model, recognise)
    return role if role in model.in_blocks else None


# --- matrices in 8 bits, in one file -------------------------------------------------------------


def _narrowed(
    path: Path, target: Path, model: Model, file: WeightFile, options: BlockOptions
) -> Iterator[Converted | Taken]:
    """Raises Usage where `path` is in 8 bits already, in others than are asked for."""
    place, quant = target / file.converted, options.quant[file.role]
    here = place.exists() and place.samefile(path)
    held = holds(path, file)
    if here and held == quant:
        entry = manifest.read(target).get(file.converted)
        known = entry is not None and manifest.unchanged(entry, place)
        yield Converted(
            source=path, path=place, bytes=place.stat().st_size,
            sha256=entry.sha256 if entry and known else digest(place), says="there already",
        )  # fmt: skip
        return
    if held != "none":
        raise Usage(f"{path} is in {held} already: give the official file, {file.name}.")
    if here and not options.move:
        raise Usage(f"{path} would be replaced: give another folder, or --move.")
    size = path.stat().st_size
    entry, says = into_safetensors(path, target, model, file, "keep", quant)
    yield Converted(source=path, path=place, bytes=entry.bytes, sha256=entry.sha256, says=says)
    if options.move:
        if not here:
            path.unlink()
        assert entry.made_from is not None
        yield Taken(source=path, bytes=size, sha256=entry.made_from, removed=True)


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
    asked: str | None  # of QUANTS; None: not said

    @property
    def quant(self) -> str:
        return self.asked or "none"

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
            progress = self._begun(options)
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

    def _begun(self, options: BlockOptions) -> Progress:
        if self.role not in options.recognise:
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
        progress = into_blocks.planned(self.paths, self.model, self.role, self.dtype, options)
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
        quant = self.asked or found.quant
        asked = (self.model.name, self.role, self.dtype, quant)
        if (found.model, found.role, found.dtype, found.quant) != asked:
            raise Usage(
                f"{folder} holds the {found.role} of {found.model} (--dtype {found.dtype} --quant "
                f"{found.quant}), and that of {asked[0]} (--dtype {self.dtype} --quant {quant}) is "
                f"asked for: give another folder, or remove that one."
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
