"""What OpenAPI says of the routes of uploads: tus speaks by headers, which no model describes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from starlette.responses import Response

VERSION: Final = "1.0.0"
BYTES: Final = "application/offset+octet-stream"
_NUMBER: Final = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}
_TEXT: Final = {"type": "string"}
_64: Final = "(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
_PAIR: Final = rf" *[!-+\--~]+(?: {_64})? *"

_ASKED: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "Tus-Resumable": ({"type": "string", "const": VERSION}, "the version of the protocol"),
    "Upload-Length": (_NUMBER, "bytes of all of it"),
    "Upload-Offset": (_NUMBER, "bytes that are there already"),
    "Upload-Metadata": (
        {"type": "string", "pattern": f"^(?:{_PAIR}(?:,{_PAIR})*)?$"},
        "keys, each once, and their values in base64, at most 8192 characters; `filename` is the "
        "name of the film",
    ),
    "Upload-Checksum": (
        {"type": "string", "pattern": "^(?:sha1 [A-Za-z0-9+/]{27}=|sha256 [A-Za-z0-9+/]{43}=)$"},
        "the hash of this body in base64",
    ),
}  # fmt: skip
_TOLD: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "Tus-Resumable": ({"type": "string", "const": VERSION}, "the version of the protocol"),
    "Location": (_TEXT, "where the upload is, relative to this address"),
    "Upload-Offset": (_NUMBER, "bytes that are there"),
    "Upload-Length": (_NUMBER, "bytes of all of it"),
    "Upload-Metadata": (_TEXT, "as it was given"),
    "Upload-Expires": (_TEXT, "a date: without a new byte it is given up then"),
    "Longtake-Asset": (_TEXT, "the asset that it has become, when all is there"),
}
_OPERATIONS: Final[dict[str, tuple[int, str, Sequence[str], Sequence[str], Sequence[str]]]] = {
    # method: status, what it does, headers that must be said, that may be, that are told
    "POST": (
        201, "Begin an upload, with its first bytes if there is a body",
        ("Tus-Resumable", "Upload-Length"), ("Upload-Metadata", "Upload-Checksum"),
        ("Tus-Resumable", "Location", "Upload-Offset", "Upload-Expires", "Longtake-Asset"),
    ),
    "HEAD": (
        200, "How far it is", ("Tus-Resumable",), (),
        ("Tus-Resumable", "Upload-Offset", "Upload-Length", "Upload-Metadata", "Upload-Expires",
         "Longtake-Asset"),
    ),
    "PATCH": (
        204, "Go on from the offset that is there",
        ("Tus-Resumable", "Upload-Offset"), ("Upload-Checksum",),
        ("Tus-Resumable", "Upload-Offset", "Upload-Expires", "Longtake-Asset"),
    ),
    "DELETE": (204, "Give it up", ("Tus-Resumable",), (), ("Tus-Resumable",)),
}  # fmt: skip


def described(method: str, operation: str) -> dict[str, Any]:
    """Arguments of `add_api_route` for one of the operations."""
    status, summary, must, may, told = _OPERATIONS[method]
    asked: list[dict[str, Any]] = [
        {"name": name, "in": "header", "required": name in must, "schema": _ASKED[name][0],
         "description": _ASKED[name][1]}
        for name in (*must, *may)
    ]  # fmt: skip
    if method != "POST":
        asked.insert(0, {"name": "id", "in": "path", "required": True, "schema": _TEXT})
    extra: dict[str, Any] = {"parameters": asked}
    if method in ("POST", "PATCH"):
        body = {BYTES: {"schema": {"type": "string", "format": "binary"}}}
        extra["requestBody"] = {"required": method == "PATCH", "content": body}
    headers = {
        name: {"schema": _TOLD[name][0], "description": _TOLD[name][1]} for name in told
    }  # fmt: skip
    return {
        "operation_id": operation, "summary": summary, "status_code": status,
        "response_class": Response, "openapi_extra": extra,
        "responses": {status: {"description": summary, "headers": headers}},
    }  # fmt: skip
