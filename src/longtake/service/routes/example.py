"""The example film: a clip that the service carries, so that there is something to try it on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, Final

from anyio import to_thread
from fastapi import APIRouter, Depends

from longtake.service import assets
from longtake.service.auth import Caller, needs
from longtake.service.database import Database
from longtake.service.problems import Problem
from longtake.service.routes.shapes import Asset
from longtake.service.upload_writer import NoRoom, Piece
from longtake.service.uploads import Uploads

Writes = Annotated[Caller, Depends(needs("assets:write"))]
CLIP: Final = Path(__file__).parent.parent / "example.mp4"  # made by examples/make_clip.py
_NAME: Final = "example.mp4"


def router(database: Database, uploads: Uploads) -> APIRouter:
    """The route /assets/example."""
    routes = APIRouter(tags=["assets"])

    @routes.post("/assets/example", status_code=202)
    async def take_example(caller: Writes) -> Asset:
        """The example film as one of the caller's; the one that is there, if there is one."""
        clip = await to_thread.run_sync(CLIP.read_bytes)
        there = await to_thread.run_sync(_there, database, caller.owner, len(clip))
        if there is not None:
            return Asset.model_validate(there)
        try:
            upload = await to_thread.run_sync(uploads.create, caller.owner, len(clip), "", _NAME)
            whole = Piece(offset=0, size=len(clip))
            done = await uploads.append(caller.owner, upload, whole, _once(clip))
        except NoRoom as error:
            raise Problem(507, detail=str(error)) from None
        made = await to_thread.run_sync(assets.get, database, caller.owner, done.asset)
        return Asset.model_validate(made)

    return routes


def _there(database: Database, owner: str, size: int) -> dict[str, Any] | None:
    found = assets.listed(database, owner, "source")
    return next((one for one in found if one["name"] == _NAME and one["bytes"] == size
                 and one["state"] in ("probing", "ready")), None)  # fmt: skip


async def _once(clip: bytes) -> AsyncIterator[bytes]:
    yield clip
