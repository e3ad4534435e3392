"""What a caller is told when something is refused or fails: `application/problem+json` (RFC 9457).

Every answer that is not a success has this form, unknown routes and faults of our own included.
`request` is the number under which the log holds the same request.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette._utils import get_route_path
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from longtake.core.errors import LongtakeError
from longtake.service.database import DatabaseAway

MEDIA_TYPE: Final = "application/problem+json"
_TUS_CHECKSUM: Final = 460
RETRY: Final = 5  # s, after which a caller may ask again
SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "description": "What was refused or has failed (RFC 9457)",
    "required": ["type", "title", "status", "request"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "what happened and what to do"},
        "code": {"type": "string", "description": "the name of the error"},
        "request": {"type": "string", "description": "the number of the request in the log"},
        "errors": {
            "type": "array",
            "description": "what is wrong in the request, part by part",
            "items": {
                "type": "object",
                "required": ["where", "what", "type"],
                "properties": {name: {"type": "string"} for name in ("where", "what", "type")},
            },
        },
    },
}
_STATUS: Final[Mapping[str, int]] = {  # of errors and of those derived from them, by name
    "NotFound": 404,
    "Conflict": 409,
    "OverQuota": 429,
    "DiskFull": 507,
    "DatabaseAway": 503,
    "OtherSchema": 503,
    "Usage": 422,
    "BadInput": 422,
    "DoesNotFit": 422,
}
_log = logging.getLogger(__name__)


class Problem(Exception):
    """Ends a request. `extra` are further members of the answer."""

    def __init__(
        self,
        status: int,
        title: str = "",
        detail: str = "",
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status = status
        self.title = title or _phrase(status)
        self.detail = detail
        self.extra = dict(extra or {})
        self.headers = dict(headers or {})
        super().__init__(f"{status} {self.title}: {detail}")


def of(error: LongtakeError) -> Problem:
    """The problem that an error of the house is to a caller."""
    names = [kind.__name__ for kind in type(error).__mro__]
    status = next((_STATUS[name] for name in names if name in _STATUS), 500)
    if status == 500 and error.exit_code == 2:
        status = 422
    words = str(error)
    if isinstance(error, DatabaseAway):  # its words name hosts and files
        words = f"The database cannot be reached. Try again in {RETRY} seconds."
    headers = {"Retry-After": str(RETRY)} if status == 503 else {}
    extra = {"code": names[0], **getattr(error, "figures", {})}
    return Problem(status, detail=words, extra=extra, headers=headers)


def respond(problem: Problem, request: str) -> JSONResponse:
    """`request`: its number in the log."""
    usual = problem.title == _phrase(problem.status)
    members = {
        **problem.extra,
        "type": "about:blank" if usual else f"urn:longtake:{_slug(problem.title)}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "request": request,
    }
    if not problem.detail:
        del members["detail"]
    return JSONResponse(members, problem.status, problem.headers, media_type=MEDIA_TYPE)


def number(request: Request) -> str:
    """Of this request, in the log; "" where nobody has numbered it."""
    return str(getattr(request.state, "request", ""))


def install(app: FastAPI) -> None:
    """Errors that routes raise become problems. What none of them foresees ends in app.py."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(LongtakeError, _longtake)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)


async def _problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    return respond(error, number(request))


async def _longtake(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, LongtakeError)
    problem = of(error)
    if problem.status >= 500:
        _log.error("request %s: %s: %s", number(request), type(error).__name__, error)
    return respond(problem, number(request))


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    detail = "" if error.detail == HTTPStatus(error.status_code).phrase else str(error.detail)
    if error.status_code == 404 and not detail:
        detail = "There is nothing at this address."
    if error.status_code == 405 and not detail:
        detail = f"{request.method} cannot be used here."
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = _allowed(request)
    problem = Problem(error.status_code, detail=detail, headers=headers)
    return respond(problem, number(request))


def _allowed(request: Request) -> str:
    """All methods of an address, for each of its routes tells only its own: of the path that fits
    best where several do."""
    asked, found = get_route_path(request.scope), defaultdict[str, set[str]](set)
    for context in iter_route_contexts(request.app.routes):
        regex = getattr(context, "path_regex", None)
        if regex is not None and regex.match(asked):
            found[str(context.path)] |= set(context.methods or ())
    best = min(found, key=lambda path: path.count("{"), default="")
    return ", ".join(sorted(found[best]))


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = [_fault(fault) for fault in error.errors()]
    first = f"{found[0]['where']}: {found[0]['what']}" if found else ""
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    problem = Problem(422, detail=first + more, extra={"errors": found, "code": "BadRequest"})
    return respond(problem, number(request))


def _fault(fault: Mapping[str, Any]) -> dict[str, str]:
    """Without the value that was given: it may be a secret."""
    where: Sequence[object] = fault.get("loc", ())
    return {
        "where": ".".join(str(part) for part in where),
        "what": str(fault.get("msg", "")),
        "type": str(fault.get("type", "")),
    }


def _phrase(status: int) -> str:
    return "Checksum Mismatch" if status == _TUS_CHECKSUM else HTTPStatus(status).phrase


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
