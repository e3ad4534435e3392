"""What lies in the folders whose films may be named by path."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from longtake.core.errors import BadInput
from longtake.service.auth import Caller, needs
from longtake.service.blobs import under

Reads = Annotated[Caller, Depends(needs("assets:read"))]
_MOST: Final = 2000
_FILMS: Final = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mpg", ".mpeg",
                 ".mxf", ".3gp")  # fmt: skip


class Entry(BaseModel):
    name: str
    path: str
    kind: Literal["folder", "film"]
    bytes: int | None = Field(description="of a film")


class Folder(BaseModel):
    path: str | None = Field(description="null: the list of the configured folders")
    parent: str | None = Field(description="null: the list of the configured folders is above")
    entries: list[Entry]
    more: bool = Field(description=f"there are more than the {_MOST:,} that are listed")


def router(roots: Sequence[Path]) -> APIRouter:
    """Routes below /folders."""
    routes = APIRouter(tags=["assets"])

    @routes.get("/folders")
    def list_folder(_: Reads, path: Annotated[str | None, Query(max_length=4096)] = None) -> Folder:
        """Folders and films in one folder, no links; without `path` the configured ones."""
        if path is None:
            tops = [Entry(name=str(r), path=str(r), kind="folder", bytes=None) for r in roots]
            return Folder(path=None, parent=None, entries=tops, more=False)
        found = under(path, roots)
        if found is None:
            raise BadInput(f"{path!r} does not lie in a folder that is open for use.")
        root, folder = found
        try:
            inside = sorted(_entries(folder), key=lambda e: (e.kind == "film", e.name.lower()))
        except OSError as error:
            raise BadInput(f"{path!r}: {error.strerror or error}.") from None
        above = None if folder == root else str(folder.parent)
        return Folder(
            path=str(folder), parent=above, entries=inside[:_MOST], more=len(inside) > _MOST
        )

    return routes


def _entries(folder: Path) -> Iterator[Entry]:
    for each in folder.iterdir():
        if each.name.startswith("."):
            continue
        try:
            about = each.lstat()
            each.name.encode()
        except (OSError, UnicodeError):  # gone meanwhile; or a name that JSON cannot say
            continue
        if stat.S_ISDIR(about.st_mode):
            yield Entry(name=each.name, path=str(each), kind="folder", bytes=None)
        elif stat.S_ISREG(about.st_mode) and each.suffix.lower() in _FILMS:
            yield Entry(name=each.name, path=str(each), kind="film", bytes=about.st_size)
