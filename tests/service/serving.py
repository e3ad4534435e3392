"""The shell of the service on a real socket, and tokens for it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from fastapi import APIRouter, FastAPI

from longtake.service.app import Server, Services, create_app
from longtake.service.assembly import assemble
from longtake.service.auth import Auth
from longtake.service.database import Database
from longtake.service.tables import SCOPES
from longtake.service.users import add_user, issue
from longtake.settings import Settings

USER_SCOPES = tuple(scope for scope in SCOPES if scope != "admin")


def made(database: Database, *routers: APIRouter, **services: Any) -> FastAPI:
    given: dict[str, Any] = {"auth": Auth(database, "tokens"), "routers": routers} | services
    return create_app(Services(database=database, **given))


def bearer(database: Database, owner: str, *scopes: str, expires: int | None = None) -> str:
    return f"Bearer {issue(database, owner, 'test', scopes or USER_SCOPES, expires)}"


def somebody(database: Database, name: str = "ada", role: str = "user") -> tuple[str, str]:
    """A new user, and the header of a token with all scopes of that role."""
    owner = add_user(database, name, role)
    return owner, bearer(database, owner, *(SCOPES if role == "admin" else USER_SCOPES))


class InProcess(httpx.BaseTransport):
    """Asks the application without a socket, and without its beginning and end."""

    def __init__(self, app: FastAPI) -> None:
        self._inner = httpx.ASGITransport(app, raise_app_exceptions=False)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def ask() -> httpx.Response:
            answer = await self._inner.handle_async_request(request)
            body = await answer.aread()
            return httpx.Response(answer.status_code, headers=answer.headers, content=body)

        return asyncio.run(ask())


def client_of(app: FastAPI) -> httpx.Client:
    return httpx.Client(transport=InProcess(app), base_url="http://127.0.0.1:8080")


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Its address, while it runs."""
    server = Server(app, host="127.0.0.1", port=0, log_level="warning", timeout_keep_alive=60)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        for _ in range(200):
            if server.started:
                break
            time.sleep(0.02)
        assert server.started
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive(), "the server does not end"


def whole(database: Database, folder: Path, **settings: Any) -> tuple[FastAPI, dict[str, Any]]:
    """The service as `longtake serve` makes it, with films below `folder`, and its chores."""
    made = Settings(cache=folder, data=folder / "data", database=database.url, roots=(folder,),
                    **{"low_water": 0, **settings})  # fmt: skip
    return assemble(made, database, Auth(database, "tokens"))


def ready(client: httpx.Client, chores: dict[str, Any], film: Path, header: str) -> str:
    """The id of an asset that was looked at."""
    headers = {"Authorization": header}
    found = client.post("/api/v1/assets", json={"path": str(film)}, headers=headers)
    chores["assets"][0]()
    return str(found.raise_for_status().json()["id"])
