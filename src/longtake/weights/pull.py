"""Bring the files of a model into a folder: resumed, checked, put in place by one rename."""

from __future__ import annotations

import os
from collections.abc import Collection, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from filelock import FileLock, Timeout

from longtake.core.errors import BadInput, LongtakeError, Usage
from longtake.weights import block_manifest, manifest
from longtake.weights.catalog import BLOCKS, Model, Repository, WeightFile
from longtake.weights.check import expected_hash, structure
from longtake.weights.download import Received, Retried, Step, discard, fetch, need_room, size
from longtake.weights.files import digest
from longtake.weights.home import belongs, present

HUGGING_FACE = "https://huggingface.co"
MODELSCOPE = "https://modelscope.cn/models"
_WEB = ("http://", "https://")
_PARTIAL = ".partial"
_LOCK = ".lock"
_BLOCK = 1 << 24  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A file is fetched; the steps up to the next one are of it."""

    file: str
    source: str
    bytes: int  # that were here already
    of: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hashing:
    """The file is here and is read once more for its sha256."""

    file: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Damaged:
    """A file is not what it should be; it is fetched again from the start."""

    file: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A file lies in its place."""

    file: str
    path: Path
    bytes: int
    sha256: str
    trusted: str  # as in the manifest
    fetched: bool  # False: it was there and is sound


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Another process pulls into this folder; its end is waited for."""

    folder: Path


Event = Begun | Received | Retried | Hashing | Damaged | Stored | Waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where files come from: "hf", "modelscope", the address of a folder on the web, or a folder
    of this machine."""

    text: str = "hf"
    endpoint: str = HUGGING_FACE  # of a mirror of Hugging Face

    @property
    def folder(self) -> Path | None:
        """The folder of this machine, where it is one."""
        named = self.text in ("hf", "modelscope") or self.text.startswith(_WEB)
        return None if named else Path(self.text)

    @staticmethod
    def of(text: str, environment: Mapping[str, str] = os.environ) -> Source:
        """Raises Usage."""
        endpoint = (environment.get("HF_ENDPOINT") or HUGGING_FACE).rstrip("/")
        source = Source(text=text, endpoint=endpoint)
        if source.folder is not None and not source.folder.is_dir():
            raise Usage(f"--from {text}: give hf, modelscope, http(s)://... or a folder.")
        return source

    def of_file(self, model: Model, file: WeightFile) -> str | Path:
        """The address or the path of one file. Raises Usage where there is none."""
        if self.text == "hf":
            return file.url or _resolve(self.endpoint, file.repository or model.hf, file)
        if self.text == "modelscope":
            if model.modelscope is None:
                raise Usage(f"{model.name} is not known to lie on ModelScope: use --from hf.")
            return _resolve(MODELSCOPE, model.modelscope, file)
        if self.folder is not None:
            return self.folder / file.name
        return f"{self.text.rstrip('/')}/{quote(file.name)}"


def _resolve(host: str, repository: Repository, file: WeightFile) -> str:
    return f"{host}/{repository.name}/resolve/{repository.revision}/{quote(file.name)}"


def pull(
    model: Model, folder: Path, source: Source, roles: Collection[str] = ()
) -> Iterator[Event]:
    """Fetch what is missing or damaged of a model's files; all of them, or those of some roles.

    Closing the iterator, or a kill, keeps what has come: the same call goes on from there. Raises
    BadInput for files that are not those of the model, DownloadFailed, DiskFull, Usage.
    """
    files = _chosen(model, roles)
    from_ = {file.name: source.of_file(model, file) for file in files}
    if source.folder is not None:
        belongs(source.folder, model)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield Waiting(folder=folder)
        lock.acquire(poll_interval=0.1)
    with _released(lock):
        belongs(folder, model)
        missing = sum(_missing(folder, file) for file in files)
        need_room(folder, missing, model.name)
        checked: set[Path] = set()
        for file in files:
            there = present(folder, file)
            if there is None or there.name != BLOCKS:
                yield from _one(model, file, folder, from_[file.name])
            elif there not in checked:
                checked.add(there)
                yield from _blocks(model, folder, there)


@contextmanager
def _released(lock: FileLock) -> Iterator[None]:
    try:
        yield
    finally:
        lock.release()


def _chosen(model: Model, roles: Collection[str]) -> list[WeightFile]:
    known = [file.role for file in model.files]
    unknown = [role for role in roles if role not in known]
    if unknown:
        raise Usage(f"{model.name} has no {', '.join(unknown)}; it has {', '.join(known)}.")
    return [file for file in model.files if not roles or file.role in roles]


def partial(folder: Path, file: WeightFile) -> Path:
    """Where a file lies while it is fetched."""
    return folder / (file.name + _PARTIAL)


def _missing(folder: Path, file: WeightFile) -> int:
    """Bytes still to come, where the size is known."""
    if file.bytes is None or present(folder, file) is not None:
        return 0
    return max(file.bytes - size(partial(folder, file)), 0)


def _blocks(model: Model, folder: Path, path: Path) -> Iterator[Event]:
    """Block files that were made of the official ones: read in full. Raises BadInput."""
    described, name = block_manifest.read(path.parent), path.relative_to(folder).as_posix()
    yield Hashing(file=name, bytes=described.bytes)
    reasons = [*block_manifest.wrong(path.parent, described, full=True)]
    entry = manifest.read(folder).get(name)
    if entry is None or entry.sha256 != digest(path) or described.model != model.name:
        reasons.append(f"{path} is not the one that was made here for {model.name}")
    if reasons or entry is None:
        raise BadInput(
            f"{'; '.join(reasons[:3])}. Remove {path.parent}, pull again, and convert again."
        )
    yield _stored(name, path, entry, fetched=False)


def _one(model: Model, file: WeightFile, folder: Path, source: str | Path) -> Iterator[Event]:
    entry = manifest.read(folder).get(file.name)
    there = present(folder, file)
    if there is not None:
        name = there.relative_to(folder).as_posix()
        yield Hashing(file=name, bytes=size(there))
        kept, reason = _look(model, file, folder, name)
        if kept is not None:
            manifest.add(folder, name, kept)
            yield _stored(name, there, kept, fetched=False)
            return
        yield Damaged(file=name, reason=reason)
        if entry is not None and entry.made_from is not None:
            entry = None  # the official file comes in the place of the converted one
    came = partial(folder, file)
    came.parent.mkdir(parents=True, exist_ok=True)
    fresh = yield from _brought(model, file, source, came, entry)
    target = folder / file.name
    _sync(came)
    manifest.add(folder, file.name, fresh)  # first: a file without its line would be a stranger
    came.replace(target)
    if there is not None and there != target:
        there.unlink()  # damaged, and it might be taken first
    discard(came)
    yield _stored(file.name, target, fresh, fetched=True)


def _look(
    model: Model, file: WeightFile, folder: Path, name: str
) -> tuple[manifest.Entry | None, str]:
    """What the manifest shall say of a file that is there, or why it is not sound."""
    path, entry = folder / name, manifest.read(folder).get(name)
    found, expected = digest(path), expected_hash(name, file, entry)
    if expected not in (None, found):
        return None, f"its sha256 is {found} instead of {expected}"
    if expected is None:
        try:
            structure(path, file)
        except BadInput as error:
            return None, error.detail
    if entry is not None:
        return manifest.stamped(entry, path), ""
    trusted = "published" if expected == file.sha256 is not None else "first use"
    return _entry(model, file, path, found, (str(path), trusted)), ""


def _brought(
    model: Model, file: WeightFile, source: str | Path, came: Path, entry: manifest.Entry | None
) -> Generator[Event, None, manifest.Entry]:
    """Fetch, twice if the first time brings wrong bytes; the file then lies in `came`."""
    known = file.sha256 or (entry.sha256 if entry else None)
    reason = ""
    for _ in range(2):
        yield Begun(file=file.name, source=str(source), bytes=size(came), of=file.bytes)
        named = yield from _fetched(source, came, known)
        yield Hashing(file=file.name, bytes=size(came))
        found, expected = digest(came), known or named
        if expected in (None, found):
            _judge(came, file)
            trusted = "published" if expected in (file.sha256, named) and expected else "first use"
            return _entry(model, file, came, found, (str(source), trusted))
        discard(came)
        reason = f"its sha256 is {found} instead of {expected}"
        yield Damaged(file=file.name, reason=reason)
    raise BadInput(
        f"{source} is not {file.name} of {model.name}: {reason}, twice. Try another source "
        f"(--from)."
    )


def _judge(came: Path, file: WeightFile) -> None:
    """A file whose hash nobody has published must at least hold the right tensors."""
    if file.sha256 is not None:
        return
    try:
        structure(came, file)
    except LongtakeError:
        discard(came)
        raise


def _fetched(
    source: str | Path, came: Path, known: str | None
) -> Generator[Step, None, str | None]:
    if isinstance(source, str):
        return (yield from fetch(source, came, known))
    yield from _copied(source, came)
    return None


def _copied(source: Path, came: Path) -> Iterator[Received]:
    if not source.is_file():
        raise BadInput(f"{source} does not exist.")
    total, have = size(source), 0
    need_room(came.parent, total, source.name)
    with source.open("rb") as giver, came.open("wb") as taker:
        while block := giver.read(_BLOCK):
            taker.write(block)
            have += len(block)
            yield Received(bytes=have, of=total)


def _entry(
    model: Model, file: WeightFile, path: Path, sha256: str, origin: tuple[str, str]
) -> manifest.Entry:
    source, trusted = origin
    about = path.stat()
    return manifest.Entry(
        model=model.name, role=file.role, sha256=sha256, bytes=about.st_size,
        mtime_ns=about.st_mtime_ns, source=source, trusted=trusted,
    )  # fmt: skip


def _stored(name: str, path: Path, entry: manifest.Entry, *, fetched: bool) -> Stored:
    return Stored(
        file=name, path=path, bytes=entry.bytes, sha256=entry.sha256, trusted=entry.trusted,
        fetched=fetched,
    )  # fmt: skip


def _sync(path: Path) -> None:
    with path.open("r+b") as file:
        os.fsync(file.fileno())
