"""The page's files, and the page itself for its own addresses.

`index.html` is written anew for each answer: with the folder that its addresses are relative to,
so that it works under any prefix, and with a nonce for the styles that its components make.
"""

from __future__ import annotations

import html
import secrets
from pathlib import Path
from typing import Final

from fastapi import HTTPException
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

POLICY: Final = (
    "default-src 'self'; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_BASE: Final = '<base href="/" />'
_NONCE: Final = '<meta name="csp-nonce" content="" />'


class Page:
    """What no route knows. `folder`: where the built page lies, None where this build has none."""

    def __init__(self, folder: Path | None, prefix: str = "") -> None:
        self._files: StaticFiles | None = None
        if folder is None or not (folder / "index.html").is_file():
            return
        self._files = StaticFiles(directory=folder)
        text = (folder / "index.html").read_text(encoding="utf-8")
        self._text = text.replace(_BASE, f'<base href="{html.escape(prefix)}/" />')

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        path, root = str(scope["path"]), str(scope.get("root_path", ""))
        if root and path.startswith(f"{root}/"):
            path = path[len(root) :]
        if path.startswith("/api/") or scope["method"] not in ("GET", "HEAD"):
            raise HTTPException(404)
        response = await self._answer(path, scope)
        await response(scope, receive, send)

    async def _answer(self, path: str, scope: Scope) -> Response:
        if self._files is None:
            raise HTTPException(404, "There is no page in this build; the API is at /api/v1.")
        if path in ("/", "/index.html"):
            return self._shell()
        try:
            response = await self._files.get_response(self._files.get_path(scope), scope)
        except StarletteHTTPException as error:
            if error.status_code != 404 or "." in path.rpartition("/")[2]:
                raise
            return self._shell()
        lasting = path.startswith("/assets/")  # their names change with what they hold
        response.headers["Cache-Control"] = (
            "public, max-age=31536000, immutable" if lasting else "no-cache"
        )
        return response

    def _shell(self) -> Response:
        nonce = secrets.token_urlsafe(16)
        text = self._text.replace(_NONCE, f'<meta name="csp-nonce" content="{nonce}" />')
        policy = f"{POLICY}; style-src 'self' 'nonce-{nonce}'"
        headers = {"Cache-Control": "no-cache", "Content-Security-Policy": policy}
        return HTMLResponse(text, headers=headers)
