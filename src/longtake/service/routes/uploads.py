"""tus 1.0.0 (https://tus.io/protocols/resumable-upload): creation, creation-with-upload,
expiration, checksum, termination. No concatenation, no deferred length."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from email.utils import formatdate
from typing import Final

from anyio import to_thread
from fastapi import APIRouter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from longtake.core.errors import BadInput, LongtakeError
from longtake.service.database import SECOND, DatabaseAway
from longtake.service.problems import Problem, number, respond
from longtake.service.quotas import OverQuota
from longtake.service.routes.tus import BYTES, VERSION, described
from longtake.service.upload_writer import (
    ChecksumMismatch,
    Complete,
    Gone,
    Locked,
    NoRoom,
    NotFound,
    Piece,
    Progress,
    TooLarge,
    WrongOffset,
)
from longtake.service.uploads import Uploads

SILENCE: Final = 20.0  # s without a byte until a request is given up
_EXTENSIONS: Final = "creation,creation-with-upload,expiration,checksum,termination"
_HASHES: Final = {"sha1": hashlib.sha1, "sha256": hashlib.sha256}
_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_KEY: Final = re.compile(r"[!-+\--~]+")  # ASCII that can be seen, without a comma
_LONGEST: Final = 8192  # characters of Upload-Metadata
_LINGER: Final = 8 << 20  # bytes of a refused request that are read all the same
_STATUS: Final[dict[type[Exception], int]] = {
    NotFound: 404, Complete: 409, WrongOffset: 409, Gone: 410, OverQuota: 413, TooLarge: 413,
    Locked: 423, ChecksumMismatch: 460, DatabaseAway: 503, NoRoom: 507,
}  # fmt: skip


class _Refused(Exception):
    """The request is not what the protocol asks for."""

    def __init__(self, status: int, detail: str, **headers: str) -> None:
        self.status, self.detail = status, detail
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def router(uploads: Uploads, owner: Callable[[Request], str]) -> APIRouter:
    """Routes below /uploads. `owner` names the user of a request, or raises; it may wait."""
    served = _Served(uploads, owner)
    routes = APIRouter(tags=["uploads"])

    async def collection(request: Request) -> Response:
        return await served.answer(request, {"POST": served.create, "OPTIONS": served.options})

    async def one(request: Request) -> Response:
        return await served.answer(request, {
            "HEAD": served.head, "PATCH": served.patch, "DELETE": served.delete,
            "OPTIONS": served.options,
        })  # fmt: skip

    routes.add_api_route(
        "/uploads", collection, methods=["POST"], **described("POST", "create_upload")
    )
    for method in ("HEAD", "PATCH", "DELETE"):
        said = described(method, f"{method.lower()}_upload")
        routes.add_api_route("/uploads/{id}", one, methods=[method], **said)
    for path, called in (
        ("/uploads", collection),
        ("/uploads/", collection),
        ("/uploads/{id}", one),
    ):
        routes.add_api_route(path, called, methods=["POST", "OPTIONS"], include_in_schema=False)
    return routes


_Handler = Callable[[Request, str], Awaitable[Response]]


class _Served:
    def __init__(self, uploads: Uploads, owner: Callable[[Request], str]) -> None:
        self._uploads, self._owner = uploads, owner

    async def answer(self, request: Request, handlers: dict[str, _Handler]) -> Response:
        here = number(request)
        try:
            answer = await self._dispatch(request, handlers)
        except _Refused as error:
            answer = respond(Problem(error.status, "", error.detail, headers=error.headers), here)
        except BadInput as error:
            answer = respond(Problem(400, detail=str(error)), here)
        except LongtakeError as error:
            if type(error) not in _STATUS:
                raise
            status = _STATUS[type(error)]
            wait = {"Retry-After": "1"} if status in (423, 503) else {}
            answer = respond(Problem(status, detail=str(error), headers=wait), here)
        if answer.status_code >= 400 and answer.status_code != 408:
            await _read_on(request)
        answer.headers["Tus-Resumable"] = VERSION
        answer.headers["Cache-Control"] = "no-store"
        return answer

    async def _dispatch(self, request: Request, handlers: dict[str, _Handler]) -> Response:
        method = request.method
        if method not in ("HEAD", "OPTIONS"):  # what only reads must not turn into a write
            method = request.headers.get("X-HTTP-Method-Override", method).upper()
        handler = handlers.get(method)
        if handler is None:
            raise _Refused(405, f"{method} is not allowed here.", Allow=", ".join(handlers))
        if method == "OPTIONS":
            return await handler(request, "")
        owner = await to_thread.run_sync(self._owner, request)
        if request.headers.get("Tus-Resumable") != VERSION:
            raise _Refused(412, f"Say Tus-Resumable: {VERSION}.", Tus_Version=VERSION)
        return await handler(request, owner)

    async def options(self, _: Request, __: str) -> Response:
        return Response(status_code=204, headers={
            "Tus-Version": VERSION, "Tus-Extension": _EXTENSIONS,
            "Tus-Max-Size": str(self._uploads.largest),
            "Tus-Checksum-Algorithm": ",".join(_HASHES),
        })  # fmt: skip

    async def create(self, request: Request, owner: str) -> Response:
        for name in ("Upload-Concat", "Upload-Defer-Length"):
            if name in request.headers:
                raise _Refused(400, f"{name} is not supported; say Upload-Length.")
        length = _number(request, "Upload-Length")
        about = request.headers.get("Upload-Metadata", "")
        name = _metadata(about).get("filename", b"").decode("utf-8", "replace")
        piece = _first_piece(request)
        if piece and (piece.size or 0) > length:
            raise _Refused(413, f"{piece.size} bytes come, Upload-Length is {length}.")
        id = await to_thread.run_sync(self._uploads.create, owner, length, about, name)
        there = await self._first(request, owner, id, piece)
        last = request.url.path.rpartition("/")[2]  # relative: right below any path prefix
        headers = _headers(there) | {"Location": f"{last}/{id}" if last else id}
        if piece is None:
            del headers["Upload-Offset"]
        return Response(status_code=201, headers=headers)

    async def _first(self, request: Request, owner: str, id: str, piece: Piece | None) -> Progress:
        """What came with the creation. A client that does not get to know where its upload is can
        never go on with it, so nothing is kept then."""
        if piece is None:
            return await to_thread.run_sync(self._uploads.offset, owner, id)
        body = _Body(request)
        arrived = False
        try:
            there = await self._uploads.append(owner, id, piece, body.chunks())
            arrived = not body.cut
        finally:
            if not arrived:
                await to_thread.run_sync(self._uploads.terminate, owner, id)
        body.check()
        return there

    async def head(self, request: Request, owner: str) -> Response:
        there = await to_thread.run_sync(self._uploads.offset, owner, request.path_params["id"])
        headers = _headers(there) | {"Upload-Length": str(there.length)}
        if there.about:
            headers["Upload-Metadata"] = there.about
        return Response(status_code=200, headers=headers)

    async def patch(self, request: Request, owner: str) -> Response:
        _check_type(request)
        piece = _piece(request, _number(request, "Upload-Offset"))
        body = _Body(request)
        id = request.path_params["id"]
        there = await self._uploads.append(owner, id, piece, body.chunks())
        body.check()
        return Response(status_code=204, headers=_headers(there))

    async def delete(self, request: Request, owner: str) -> Response:
        await to_thread.run_sync(self._uploads.terminate, owner, request.path_params["id"])
        return Response(status_code=204)


class _Body:
    """The body of a request, until it ends or breaks off."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self.cut = False

    async def chunks(self) -> AsyncIterator[bytes]:
        stream = self._request.stream()
        while True:
            try:
                async with asyncio.timeout(SILENCE):
                    chunk = await anext(stream, b"")
            except (ClientDisconnect, TimeoutError):
                self.cut = True
                return
            if not chunk:
                return
            yield chunk

    def check(self) -> None:
        if self.cut:
            raise _Refused(408, f"Nothing came for {SILENCE:.0f} s. What had come is kept.")


# --- headers -------------------------------------------------------------------------------------


def _headers(there: Progress) -> dict[str, str]:
    headers = {"Upload-Offset": str(there.offset)}
    if there.complete:
        headers["Longtake-Asset"] = there.asset
    else:
        headers["Upload-Expires"] = formatdate(there.expires // SECOND, usegmt=True)
    return headers


def _number(request: Request, name: str) -> int:
    said = request.headers.get(name)
    if said is None or not _NUMBER.fullmatch(said):
        raise _Refused(400, f"{name} must be a number of bytes.")
    return int(said)


def _check_type(request: Request) -> None:
    if request.headers.get("Content-Type") != BYTES:
        raise _Refused(415, f"Content-Type must be {BYTES}.")


def _first_piece(request: Request) -> Piece | None:
    """What comes with the creation, if anything does."""
    empty = request.headers.get("Content-Length", "0") == "0"
    if empty and "Transfer-Encoding" not in request.headers:
        _piece(request, 0)  # its headers are looked at all the same
        return None
    _check_type(request)
    return _piece(request, 0)


def _piece(request: Request, offset: int) -> Piece:
    size = _number(request, "Content-Length") if "Content-Length" in request.headers else None
    said = request.headers.get("Upload-Checksum")
    if said is None:
        return Piece(offset=offset, size=size)
    algorithm, _, encoded = said.partition(" ")
    if algorithm not in _HASHES:
        raise _Refused(400, f"Upload-Checksum: {algorithm!r} is none of {', '.join(_HASHES)}.")
    fresh = _HASHES[algorithm]()
    wanted = _decode(encoded, "Upload-Checksum")
    if len(wanted) != fresh.digest_size:
        raise _Refused(400, f"Upload-Checksum: {len(wanted)} bytes, not {fresh.digest_size}.")
    return Piece(offset=offset, size=size, checksum=(fresh, wanted))


def _metadata(said: str) -> dict[str, bytes]:
    """Upload-Metadata: `key base64,key base64,key`."""
    if len(said) > _LONGEST:
        raise _Refused(400, f"Upload-Metadata has {len(said)} characters, at most {_LONGEST} may.")
    found: dict[str, bytes] = {}
    for pair in said.split(",") if said.strip() else ():
        key, _, encoded = pair.strip().partition(" ")
        if not _KEY.fullmatch(key) or key in found:
            raise _Refused(400, f"Upload-Metadata: {key!r} is no key, or is there twice.")
        found[key] = _decode(encoded, "Upload-Metadata")
    return found


def _decode(encoded: str, name: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise _Refused(400, f"{name}: {encoded[:80]!r} is not base64.") from None


# --- refusals ------------------------------------------------------------------------------------


async def _read_on(request: Request) -> None:
    """Read what a refused client is still sending, up to a bound: where the connection is closed
    on it, it may never see the answer."""
    if "Expect" in request.headers or request.method == "HEAD":
        return
    left = _LINGER
    try:
        async with asyncio.timeout(2.0):
            async for chunk in request.stream():
                left -= len(chunk)
                if left < 0:
                    return
    except (ClientDisconnect, TimeoutError, RuntimeError):
        return  # RuntimeError: it was read before
