"""Which films a folder holds, and where each of them goes: decided before any work, by names alone.

The rules, as `longtake upscale --help` and the README tell them:

- A folder that holds videos is a batch of them, in natural order (2.mp4 before 10.mp4). Pictures
  beside them are posters and stills, and are left out; with `recursive`, so are folders of
  pictures: each of those is a film by itself when it is named as IN.
- A folder that holds pictures and no video is one film, and no batch.
- Names are mirrored below OUT. mp4 and mkv stay what they are, everything else becomes mkv, unless
  `to` says otherwise. Sources that would meet in one name keep their own suffix before the new one.
- Not looked into: OUT, folders that hold the output of another batch, work folders, hidden ones,
  and linked ones. Not taken: hidden files, partial downloads, links to films that are taken anyway.
- A folder that cannot be opened is taken for a film, as a file is that cannot be read: it fails by
  name in its turn, and so the batch does.
"""

from __future__ import annotations

import codecs
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from longtake.core.errors import BadInput, Usage
from longtake.core.plugins import names
from longtake.runtime.filenames import case_blind, folded, natural, usable
from longtake.runtime.finished import RECORD
from longtake.runtime.workfolder import PICTURES, SUFFIX

VIDEOS = frozenset(
    {
        ".mp4", ".m4v", ".mov", ".qt", ".mkv", ".webm", ".mk3d", ".avi", ".divx", ".ts",
        ".m2ts", ".mts", ".m2t", ".trp", ".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".mpv",
        ".vob", ".evo", ".3gp", ".3g2", ".mj2", ".mxf", ".gxf", ".flv", ".f4v", ".ivf",
        ".ogv", ".ogm", ".y4m", ".wmv", ".asf", ".rm", ".rmvb", ".dv", ".h264", ".264",
        ".h265", ".265", ".hevc",
    }
)  # fmt: skip
"""What people call a video. Some cannot be read here (media/guard.py): they fail by name, rather
than being passed over without a word."""

_KEPT = {".mp4": "mp4", ".m4v": "mp4", ".mkv": "mkv"}
_PARTIAL = (
    ".part", ".partial", ".crdownload", ".download", ".opdownload", ".!qb", ".!ut", ".aria2",
    ".filepart", ".tmp", ".temp",
)  # fmt: skip
_SYSTEM = {"$recycle.bin", "system volume information", "@eadir", "#recycle", "lost+found"}
_HIDDEN = 2  # FILE_ATTRIBUTE_HIDDEN of Windows
_SNIFF = 2048  # bytes of a .ts file that tell a video from a text (TypeScript, translations)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One film of a batch."""

    source: Path
    target: Path
    name: Path  # of the source below IN


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A folder of films, looked through."""

    source: Path
    out: Path
    films: tuple[Entry, ...]
    notes: tuple[str, ...]  # what was left out, and why


def gather(
    source: Path, out: Path, *, recursive: bool = False, to: str | None = None
) -> Folder | None:
    """The films of the folder `source`; None where it is no folder of videos but one film.

    Raises Usage and BadInput for what cannot be a batch, with the way out.
    """
    flag = "--recursive" if recursive else "--to" if to else ""
    if not source.is_dir():
        if flag:
            raise Usage(f"{flag} is for a folder of videos; {source} is not a folder.")
        return None
    if out.is_dir() and os.path.samefile(source, out):
        raise Usage(f"{out}: source and target are the same folder.")
    found = _Search(root=source, recursive=recursive)
    found.run(out)
    if not found.videos:
        _refuse_no_batch(found, flag)
        return None
    _check_out(source, out)
    films, notes = _named(source, out, found.videos, to)
    return Folder(source=source, out=out, films=films, notes=(*found.notes(), *notes))


def _refuse_no_batch(found: _Search, flag: str) -> None:
    """Raises Usage or BadInput for a folder without videos that is no folder of pictures either."""
    if flag:
        raise Usage(
            f"{flag} is for videos, and there is none in {found.root}. A folder of pictures is one "
            f"film: name it as IN, without {flag}."
        )
    if not found.left_out["pictures"]:
        below = " It has subfolders: --recursive looks into them." if found.passed else ""
        raise BadInput(f"{found.root}: there are no videos and no pictures in this folder.{below}")


@dataclass(slots=True, kw_only=True)
class _Search:
    """One look through a folder."""

    root: Path
    recursive: bool
    videos: list[Path] = field(default_factory=list)  # below the root, in natural order
    links: list[Path] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)  # files, by what they are
    passed: int = 0  # subfolders that were not looked into, because nobody asked
    seen: set[tuple[int, int]] = field(default_factory=set)  # folders not to be looked into (again)

    def run(self, out: Path) -> None:
        self.seen |= {_key(p) for p in (self.root, out) if p.is_dir()}
        self._look(self.root)
        taken = {_real(self.root / name) for name in self.videos}
        for name in sorted(self.links, key=natural):
            there = _real(self.root / name)
            if there in taken:
                self.left_out["links to films that are taken anyway"] += 1
            else:
                taken.add(there)
                self.videos.append(name)
        self.videos.sort(key=natural)

    def notes(self) -> Iterator[str]:
        """What was left out, in words."""
        shown = [f"{what} ({n})" for what, n in self.left_out.items() if n]
        if shown:
            pictures = " A folder of pictures is a film by itself: name it as IN."
            more = pictures if self.left_out["pictures"] else ""
            yield f"Left out: {', '.join(shown)}.{more}"
        if self.passed:
            yield f"Subfolders ({self.passed}) are not searched; --recursive does."

    def _look(self, folder: Path) -> None:
        try:
            entries = list(os.scandir(folder))
        except OSError as error:
            if folder == self.root:
                raise BadInput(f"{folder}: {error.strerror}.") from None
            self._closed(folder)
            return
        loading = {e.name.removesuffix(".aria2") for e in entries if e.name.endswith(".aria2")}
        for entry in entries:
            if _is_hidden(entry):
                self.left_out["hidden files and folders"] += entry.name != RECORD
            elif entry.is_dir(follow_symlinks=False):
                self._look_below(Path(entry.path))
            elif os.path.isdir(entry.path):  # entry.is_dir raises OSError where links form a loop
                self.left_out["linked folders"] += 1
            elif entry.name.lower().endswith(_PARTIAL) or entry.name in loading:
                self.left_out["partial downloads"] += 1
            else:
                self._take(Path(entry.path), entry.is_symlink())

    def _look_below(self, folder: Path) -> None:
        try:
            key, is_output = _key(folder), (folder / RECORD).exists()
        except OSError:  # what is in a folder may be listed and not touched
            self._closed(folder)
            return
        if key in self.seen:  # OUT, or a junction of Windows that leads back
            return
        self.seen.add(key)
        if folder.suffix == SUFFIX or is_output:
            self.left_out["folders of other output"] += folder.suffix != SUFFIX
        elif self.recursive:
            self._look(folder)
        else:
            self.passed += 1

    def _closed(self, folder: Path) -> None:
        """Take a folder that cannot be opened, so that it fails by name."""
        self.videos.append(folder.relative_to(self.root))

    def _take(self, path: Path, is_link: bool) -> None:
        if path.suffix.lower() in VIDEOS and not _is_text(path):
            (self.links if is_link else self.videos).append(path.relative_to(self.root))
        else:
            kind = "pictures" if path.suffix.lower() in PICTURES else "files that are no videos"
            self.left_out[kind] += 1


def _is_hidden(entry: os.DirEntry[str]) -> bool:
    if entry.name.startswith(".") or entry.name.lower() in _SYSTEM:
        return True
    if os.name != "nt":
        return False
    about = entry.stat(follow_symlinks=False)
    return bool(getattr(about, "st_file_attributes", 0) & _HIDDEN)


def _key(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_dev, about.st_ino


def _real(path: Path) -> Path:
    """Without links; `Path.resolve` raises RuntimeError where they form a loop."""
    return Path(os.path.realpath(path))


def _is_text(path: Path) -> bool:
    """Whether a .ts file is a text: TypeScript, or Qt's translations."""
    if path.suffix.lower() != ".ts" or not path.is_file():  # a pipe would be waited for
        return False
    try:
        with path.open("rb") as file:
            start = file.read(_SNIFF)
        codecs.getincrementaldecoder("utf-8")().decode(start)  # may end inside a letter
    except (OSError, UnicodeDecodeError):
        return False  # said when its turn comes
    return bool(start) and b"\0" not in start


def _check_out(source: Path, out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise Usage(f"{out}: {source} is a folder of videos, so OUT must be a folder.")
    if not out.exists() and out.suffix[1:].lower() in names("media.sinks"):
        raise Usage(
            f"{out}: {source} is a folder of videos, so OUT is a folder too: give it a name "
            f"without {out.suffix}."
        )


def _named(
    source: Path, out: Path, found: list[Path], to: str | None
) -> tuple[tuple[Entry, ...], list[str]]:
    """Every film with its target, no two alike. Raises Usage where that cannot be."""
    blind = case_blind(out)
    films = [Entry(source=source / n, target=out / _plain(n, to), name=n) for n in found]
    groups: dict[str, list[int]] = defaultdict(list)
    for index, film in enumerate(films):
        groups[folded(film.target, blind)].append(index)
    notes = []
    for clashing in (g for g in groups.values() if len(g) > 1):
        for index in clashing:
            film = films[index]
            films[index] = replace(film, target=out / _full(film.name, to))
        called = ", ".join(f"{films[i].name} -> {films[i].target.name}" for i in clashing)
        notes.append(f"These would have one name, and keep their suffix: {called}.")
    _refuse_clashes(films, blind)
    return tuple(films), notes


def _plain(name: Path, to: str | None) -> Path:
    """a/b.mov -> a/b.mkv"""
    return name.with_name(_suffixed(name.stem, name, to))


def _full(name: Path, to: str | None) -> Path:
    """a/b.mov -> a/b.mov.mkv"""
    return name.with_name(_suffixed(name.name, name, to))


def _suffixed(stem: str, name: Path, to: str | None) -> str:
    """A folder of PNG files needs no suffix, unless a dot in its name would be taken for one."""
    suffix = to or _KEPT.get(name.suffix.lower(), "mkv")
    bare = usable(stem)
    return bare if suffix == "png" and not Path(bare).suffix else f"{stem}.{suffix}"


def _refuse_clashes(films: list[Entry], blind: bool) -> None:
    """Raises Usage where a target is another's, a folder around another, or a source."""
    targets: dict[str, Entry] = {}
    for film in films:
        other = targets.setdefault(folded(film.target, blind), film)
        if other is not film:
            raise Usage(
                f"{film.name} and {other.name} would both become {film.target}: rename one of them."
            )
    sources = {folded(p, blind): f for f in films for p in (_real(f.source), f.source.absolute())}
    for film in films:
        for outer in filter(None, (targets.get(folded(p, blind)) for p in film.target.parents)):
            raise Usage(
                f"{film.target} would lie inside {outer.target}, which {outer.name} becomes: "
                "rename one of them."
            )
        hit = sources.get(folded(_real(film.target), blind))
        if hit is not None:
            raise Usage(f"{film.name} would replace {hit.source}: choose another OUT.")
