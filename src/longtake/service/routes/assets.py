"""Films over HTTP: named by path, looked at, downloaded, removed. Uploads: uploads.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends, Response
from fastapi.responses import FileResponse
from pydantic import Field

from longtake.service import assets, paging
from longtake.service.auth import Caller, needs
from longtake.service.blobs import Blobs
from longtake.service.database import Database
from longtake.service.routes.shapes import Asset, Assets, Cursor, Given, Most, Name

Reads = Annotated[Caller, Depends(needs("assets:read"))]
Writes = Annotated[Caller, Depends(needs("assets:write"))]
KINDS: Final = {".mp4": "video/mp4", ".mkv": "video/x-matroska"}
_ANY: Final = "application/octet-stream"
_BINARY: Final = {
    kind: {"schema": {"type": "string", "format": "binary"}} for kind in (*KINDS.values(), _ANY)
}


class ByPath(Given):
    path: str = Field(min_length=1, max_length=4096)


def router(database: Database, blobs: Blobs, roots: Sequence[Path]) -> APIRouter:
    """Routes below /assets."""
    routes = APIRouter(tags=["assets"])

    @routes.post("/assets", status_code=202)
    def create_asset(given: ByPath, caller: Writes) -> Asset:
        """A file of the server, under one of its configured folders."""
        name = assets.by_path(database, caller.owner, given.path, roots)
        return Asset.model_validate(assets.get(database, caller.owner, name))

    @routes.get("/assets")
    def list_assets(
        caller: Reads,
        kind: Literal["source", "result", "partial"] | None = None,
        cursor: Cursor = None,
        most: Most = 50,
    ) -> Assets:
        """The newest first; `next` is the cursor of what follows."""
        before = paging.place(cursor)
        found = assets.listed(database, caller.owner, kind, before=before, most=most)
        return Assets.model_validate({"assets": found, "next": paging.following(found, most)})

    @routes.get("/assets/{name}")
    def get_asset(name: Name, caller: Reads) -> Asset:
        """What is known of a film."""
        return Asset.model_validate(assets.get(database, caller.owner, name))

    @routes.get(
        "/assets/{name}/content",
        response_class=FileResponse,
        responses={
            200: {"description": "All of its bytes", "content": _BINARY},
            206: {"description": "The range that was asked for", "content": _BINARY},
        },
    )
    def get_asset_content(name: Name, caller: Reads) -> FileResponse:
        """Its bytes; ranges are answered."""
        path, called = assets.file(database, blobs, caller.owner, name)
        kind = KINDS.get(Path(called).suffix.lower(), _ANY)
        return FileResponse(path, filename=called, media_type=kind)

    @routes.delete("/assets/{name}", status_code=204)
    def delete_asset(name: Name, caller: Writes) -> Response:
        """Remove it; of one that lies in a configured folder the file stays."""
        assets.remove(database, blobs, caller.owner, name)
        return Response(status_code=204)

    return routes
