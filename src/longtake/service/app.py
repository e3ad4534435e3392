"""The shell of the service over HTTP: what surrounds all routes, and the few that are its own.

Edge        numbers, bounds and logs each request; turns what nobody foresaw into a problem
/api/v1     the routers that are handed in; each route says which scope it needs
/healthz    the process answers
/readyz     the database answers too, and its tables are those of this version
/metrics    figures for Prometheus
/           the page, where this build has one
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvicorn
from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from longtake import __version__
from longtake.service import audit, auth, contract, logs, metrics, problems, stream
from longtake.service.auth import Auth, Needs
from longtake.service.database import Database
from longtake.service.problems import Problem
from longtake.service.static import POLICY, Page
from longtake.service.upgrade import check

API: Final = "/api/v1"
_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_ANY_HOST: Final = ("/healthz", "/readyz")  # probes ask by an address; nothing is told there
_STREAMED: Final = f"{API}/uploads"  # bodies of any size, that are never held in memory
_LONGEST: Final = 1 << 20  # bytes of all other bodies
_TOKEN: Final = re.compile(r"lt_[0-9a-f]{8}_[\w-]+")
_access = logging.getLogger("longtake.service.access")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the shell is made of. The streams of events are its own, and so are the sessions."""

    database: Database
    auth: Auth
    routers: tuple[APIRouter, ...] = ()
    """Mounted under /api/v1. Every route has a dependency `needs(scope)`, or `anyone`."""
    prefix: str = ""
    """Under which a proxy shows the service, "/longtake" for instance."""
    page: Path | None = None
    """The folder with index.html."""
    pace: stream.Pace = stream.Pace()  # noqa: RUF009 - frozen


def create_app(services: Services) -> FastAPI:
    """The application. `app.state.tailer.wake()` tells it, from any thread, that events were
    written. Raises ValueError where a route does not say which scope it needs."""
    if services.prefix and not re.fullmatch(r"(/[\w.~-]+)+", services.prefix):
        raise ValueError(f"{services.prefix!r}: a prefix begins with / and does not end with it")
    tailer = stream.Tailer(services.database, services.pace)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        async with tailer.running():
            yield

    app = _App(
        title="longtake", version=__version__, lifespan=life, openapi_url=f"{API}/openapi.json",
        docs_url=None, redoc_url=None, redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )  # fmt: skip
    app.state.auth, app.state.tailer = services.auth, tailer
    schema = {"$ref": "#/components/schemas/Problem"}
    refused = {"description": "A problem", "content": {problems.MEDIA_TYPE: {"schema": schema}}}
    for router in (auth.router(), stream.router(tailer, services.database), *services.routers):
        app.include_router(router, prefix=API, responses={"default": refused})
    _own_routes(app, services, tailer)
    _demand_scopes(app)
    app.router.default = Page(services.page, services.prefix)
    problems.install(app)
    app.add_middleware(Edge, auth=services.auth, prefix=services.prefix)
    return app


class Server(uvicorn.Server):
    """Ends the streams of events before it waits for what is under way. Its own log of requests is
    off: it would hold the token of the page's address."""

    def __init__(self, app: FastAPI, **config: Any) -> None:
        super().__init__(uvicorn.Config(app, access_log=False, server_header=False, **config))
        self._tailer: stream.Tailer = app.state.tailer

    async def shutdown(self, sockets: Any = None) -> None:
        self._tailer.end()
        await super().shutdown(sockets)


class Edge:
    """Around everything."""

    def __init__(self, app: ASGIApp, auth: Auth, prefix: str) -> None:
        self._app, self._auth, self._prefix = app, auth, prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._prefix:
            scope["root_path"] = self._prefix
        begun, sent = time.monotonic(), _Sent(send, uuid.uuid4().hex, "/api/" in scope["path"])
        scope.setdefault("state", {})["request"] = sent.request
        audit.address.set(scope["client"][0] if scope.get("client") else None)
        with logs.about(request=sent.request):
            try:
                await self._answer(scope, receive, sent)
            except Exception:
                _log.exception("request %s", sent.request)
                if sent.status:  # too late for another answer
                    raise
                await problems.respond(_FAULT, sent.request)(scope, receive, sent)
            finally:
                line = _line(scope, sent, time.monotonic() - begun)
                words = "%(method)s %(path)s %(status)d"
                _access.info(words, line, extra={"fields": line})

    async def _answer(self, scope: Scope, receive: Receive, sent: _Sent) -> None:
        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, _bounded(scope, receive, self._prefix), sent)
        else:
            await problems.respond(refusal, sent.request)(scope, receive, sent)

    def _refusal(self, scope: Scope) -> Problem | None:
        headers, path = Headers(scope=scope), _inner(scope["path"], self._prefix)
        if path not in _ANY_HOST and not self._auth.knows_host(headers.get("host", "")):
            return Problem(
                421, detail="The server is not known under this name. Name it when you start it."
            )
        length = headers.get("content-length", "0")
        if not path.startswith(_STREAMED) and length.isdigit() and int(length) > _LONGEST:
            return _too_long()
        return None


_FAULT: Final = Problem(
    500, detail="The service has a fault; the number of the request leads to it in the log."
)


class _Sent:
    """Passes an answer on, with the headers of all answers, and remembers what it was."""

    def __init__(self, send: Send, request: str, uncached: bool) -> None:
        self.request = request
        self.status = 0
        self.bytes = 0
        self._send, self._uncached = send, uncached

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            if self._uncached:
                headers.setdefault("Cache-Control", "no-store")
            headers["X-Request-ID"] = self.request
        elif message["type"] == "http.response.body":
            self.bytes += len(message.get("body", b""))
        await self._send(message)


def _bounded(scope: Scope, receive: Receive, prefix: str) -> Receive:
    """Counts a body whose length was not announced."""
    if _inner(scope["path"], prefix).startswith(_STREAMED):
        return receive
    got = 0

    async def counting() -> Message:
        nonlocal got
        message = await receive()
        got += len(message.get("body", b""))
        if got > _LONGEST:
            raise HTTPException(413, _too_long().detail)
        return message

    return counting


def _too_long() -> Problem:
    return Problem(413, detail=f"Give a body of at most {_LONGEST:,} bytes.")


def _inner(path: str, prefix: str) -> str:
    """The path behind the prefix, whether the proxy has taken that away or not."""
    return path[len(prefix) :] if prefix and path.startswith(prefix + "/") else path


def _line(scope: Scope, sent: _Sent, seconds: float) -> dict[str, Any]:
    """Without the query and without anything that looks like a token."""
    client = scope.get("client")
    return {
        "request": sent.request,
        "method": scope["method"],
        "path": _TOKEN.sub("lt_...", scope["path"]),
        "status": sent.status,
        "bytes": sent.bytes,
        "seconds": round(seconds, 4),
        "address": client[0] if client else None,
        "owner": scope["state"].get("owner"),
    }


def _own_routes(app: FastAPI, services: Services, tailer: stream.Tailer) -> None:
    @app.get("/healthz", include_in_schema=False)
    def healthz() -> JSONResponse:
        return JSONResponse({"version": __version__})

    @app.get("/readyz", include_in_schema=False)
    def readyz() -> JSONResponse:
        check(services.database)
        return JSONResponse({"ready": True})

    @app.get("/metrics", include_in_schema=False)
    def figures(request: Request) -> Response:
        if services.auth.mode == "tokens":
            services.auth.caller(request, "admin")
        text, kind = metrics.text(services.database, tailer.last, tailer.streams)
        return Response(text, media_type=kind)


class _App(FastAPI):
    def openapi(self) -> dict[str, Any]:
        if not self.openapi_schema:
            contract.finish(super().openapi(), _routes(self))
        return super().openapi()


def _routes(app: FastAPI) -> Iterator[tuple[str, Sequence[str], Needs | bool | None]]:
    """Path, methods and what is needed for each route of the API; True: nothing, by its own word;
    None: it does not say."""
    for context in iter_route_contexts(app.routes):
        path = str(context.path)
        if path.startswith(API) and path != app.openapi_url:
            is_one = isinstance(context.original_route, APIRoute)
            needed = _needed(context.dependant) if is_one else None
            yield path, sorted(context.methods or ()), needed


def _needed(dependant: Dependant) -> Needs | bool | None:
    for inner in dependant.dependencies:
        if isinstance(inner.call, Needs):
            return inner.call
    if any(inner.call is auth.anyone for inner in dependant.dependencies):
        return True
    found = (_needed(inner) for inner in dependant.dependencies)
    return next((one for one in found if one is not None), None)


def _demand_scopes(app: FastAPI) -> None:
    for path, methods, needed in _routes(app):
        if needed is None:
            raise ValueError(f"{' '.join(methods)} {path} does not say which scope it needs")
