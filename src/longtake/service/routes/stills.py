"""Small pictures of films over HTTP."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Header, Query, Response
from starlette.concurrency import run_in_threadpool

from longtake.service.routes.assets import Reads
from longtake.service.routes.shapes import Name
from longtake.service.sandbox import MAX_SECONDS
from longtake.service.stills import Stills

NARROWEST, WIDEST, USUAL = 16, 640, 320  # px
_CACHED: Final = "private, max-age=86400"
_BINARY: Final = {"type": "string", "format": "binary"}


class Jpeg(Response):
    media_type = "image/jpeg"


def router(stills: Stills) -> APIRouter:
    routes = APIRouter(tags=["assets"])

    @routes.get(
        "/assets/{name}/thumb",
        response_class=Jpeg,
        responses={
            200: {"description": "The picture", "content": {Jpeg.media_type: {"schema": _BINARY}}},
            304: {"description": "It is the one of If-None-Match"},
        },
    )
    async def get_asset_thumb(
        name: Name,
        caller: Reads,
        t: Annotated[
            float | None,
            Query(ge=0, le=MAX_SECONDS, allow_inf_nan=False, description="s; a tenth of the film"),
        ] = None,
        width: Annotated[int, Query(ge=NARROWEST, le=WIDEST, description="px at most")] = USUAL,
        if_none_match: Annotated[str | None, Header()] = None,
    ) -> Response:
        """A small picture of a film: the frame that is shown at `t`."""
        at = None if t is None else round(t * 1000)
        wanted = await run_in_threadpool(stills.wanted, caller.owner, name, width, at)
        headers = {"ETag": f'"{wanted.tag}"', "Cache-Control": _CACHED}
        if if_none_match == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Jpeg(await stills.picture(wanted), headers=headers)

    return routes
