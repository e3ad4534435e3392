"""Who asks, and what they may do: tokens, sessions of the page, scopes of routes.

A token (users.py) is `lt_<prefix>_<32 random bytes>`. Scripts send it as `Authorization: Bearer`;
the page exchanges it (or, on this machine alone, the token of the address that was printed at the
start) for a cookie. A browser sends a cookie without being asked, so requests that change something
must come from our own page.
"""

from __future__ import annotations

import ipaddress
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field
from sqlalchemy import delete, select, update

from longtake.core.errors import Usage
from longtake.service.audit import note
from longtake.service.database import SECOND, Database, DatabaseAway
from longtake.service.problems import Problem
from longtake.service.routes.shapes import Given, Scope, Shape
from longtake.service.tables import SCOPES, token, user
from longtake.service.users import SESSION, digest, local_user, put

Mode = Literal["local", "tokens"]
_LIFE: Final = 14 * 24 * 3600  # s, of a session
_FRESH: Final = 60 * SECOND  # a token's last use is written down once in this time
_WINDOW, _TRIES, _ALL_TRIES = 60.0, 10, 300  # s; sessions asked for, of one address and of all
_SAFE: Final = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Somebody who has shown a token."""

    owner: str
    role: str
    scopes: frozenset[str]
    name: str = ""
    token: str = ""
    """The id of the token, not its value."""


def may_listen(host: str, mode: Mode) -> None:
    """Raises Usage where others than this machine could reach a server that trusts this machine."""
    if mode == "local" and not _is_loopback(host):
        raise Usage(
            f"{host or 'Every address'} can be reached from other machines, and the authentication "
            f"is that of this machine alone: listen on 127.0.0.1, or use tokens."
        )


@dataclass(slots=True)
class _Attempts:
    """How often sessions were asked for, lately."""

    clock: Callable[[], float] = time.monotonic
    _when: deque[tuple[float, str]] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, address: str) -> None:
        """Raises Problem 429."""
        with self._lock:
            now = self.clock()
            while self._when and self._when[0][0] <= now - _WINDOW:
                self._when.popleft()
            own = sum(1 for _, other in self._when if other == address)
            if own >= _TRIES or len(self._when) >= _ALL_TRIES:
                wait = int(self._when[0][0] + _WINDOW - now) + 1
                raise Problem(
                    429,
                    detail=f"{own} attempts within {_WINDOW:.0f} s. Wait {wait} s.",
                    headers={"Retry-After": str(wait)},
                )
            self._when.append((now, address))


class Auth:
    """Decides who a request is from. `hosts`: names, besides those of this machine, under which
    the server may be asked for; without ports."""

    def __init__(
        self,
        database: Database,
        mode: Mode = "local",
        hosts: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.mode = mode
        self._database = database
        self._hosts = frozenset(host.lower().rstrip(".") for host in hosts)
        self._attempts = _Attempts(clock)
        self._lock = threading.Lock()
        self._start = secrets.token_urlsafe(32) if mode == "local" else None

    def page(self, address: str) -> str:
        """The address of the page to be opened here: in mode local with a token, good for once."""
        return f"{address.rstrip('/')}/" + (f"?token={self._start}" if self._start else "")

    def knows_host(self, header: str) -> bool:
        """Whether `Host` names us: a foreign name that leads here is an attack on the browser."""
        name = _name_of(header)
        return _is_loopback(name) or name in self._hosts

    def caller(self, request: Request, scope: str | None) -> Caller:
        """Who asks. Raises Problem 401 where nobody can be found, 403 where they may not."""
        value, by_cookie = self._shown(request)
        row = self._lookup(value, by_cookie)
        request.state.owner = row.owner
        if by_cookie and request.method not in _SAFE and not _from_our_page(request):
            raise Problem(403, detail="With a cookie, this must be asked by the page of this host.")
        scopes = frozenset(row.scopes)
        if row.role != "admin":
            scopes -= {"admin"}
        if scope is not None and scope not in scopes:
            raise Problem(403, detail=f"This needs a token with the scope {scope}.")
        return Caller(
            owner=row.owner, role=row.role, scopes=scopes, name=row.user, token=row.id
        )  # fmt: skip

    def open_session(self, value: str, address: str) -> tuple[str, int]:
        """The cookie for a token, and the seconds that it is good for. Raises Problem 401, 429."""
        self._attempts.count(address)
        if not self._take_start(value):
            row = self._lookup(value, by_cookie=False)
            return self._session(row.owner, row.scopes, row.prefix, row.expires)
        try:
            return self._session(local_user(self._database), SCOPES, None, None)
        except DatabaseAway:
            self._start = value
            raise

    def close_session(self, caller: Caller) -> None:
        """Does nothing where the caller has shown a token, not a cookie."""
        with self._database.write() as connection:
            connection.execute(
                update(token)
                .where(token.c.id == caller.token, token.c.owner == caller.owner)
                .where(token.c.name == SESSION, token.c.revoked.is_(None))
                .values(revoked=self._database.now(connection))
            )

    def _take_start(self, value: str) -> bool:
        with self._lock:
            if self._start is None:
                return False
            right = secrets.compare_digest(value.encode(), self._start.encode())
            if right:
                self._start = None
            return right

    def _session(
        self, owner: str, scopes: Sequence[str], prefix: str | None, until: int | None
    ) -> tuple[str, int]:
        with self._database.write() as connection:
            now = self._database.now(connection)
            connection.execute(
                delete(token).where(token.c.name == SESSION, token.c.expires < now)
            )  # fmt: skip
            end = min(now + _LIFE * SECOND, until or now + _LIFE * SECOND)
            value, row = put(connection, owner, SESSION, scopes, (now, end), prefix)
            note(connection, now, owner, "session.open", row)
        return value, max(1, (end - now) // SECOND)

    def _shown(self, request: Request) -> tuple[str, bool]:
        kind, _, value = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return value.strip(), False
        return request.cookies.get(cookie_name(request), ""), True

    def _lookup(self, value: str, by_cookie: bool) -> _Known:
        if not value:
            raise _unknown("Show a token: Authorization: Bearer lt_...", "")
        wanted = (
            select(
                token.c.id, token.c.owner, token.c.name, token.c.prefix, token.c.scopes,
                token.c.expires, token.c.used, token.c.revoked,
                user.c.role, user.c.disabled, user.c.name.label("user"),
            )
            .join(user, user.c.id == token.c.owner)
            .where(token.c.sha256 == digest(value))
        )  # fmt: skip
        with self._database.read() as connection:
            row = connection.execute(wanted).one_or_none()
            now = self._database.now(connection)
        if row is None or (row.name == SESSION) != by_cookie:
            raise _unknown("This token is not known.")
        if row.revoked is not None or row.disabled is not None:
            raise _unknown("This token was revoked.")
        if row.expires is not None and row.expires <= now:
            raise _unknown("This token has expired.")
        if row.used is None or row.used < now - _FRESH:
            # on a full disk nothing can be written down, and much can be looked at
            with suppress(DatabaseAway), self._database.write() as connection:
                connection.execute(update(token).where(token.c.id == row.id).values(used=now))
        return _Known(
            id=row.id, owner=row.owner, prefix=row.prefix, scopes=row.scopes.split(),
            expires=row.expires, role=row.role, user=row.user,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """A token that is good."""

    id: str
    owner: str
    prefix: str
    scopes: list[str]
    expires: int | None
    role: str
    user: str


@dataclass(frozen=True, slots=True)
class Needs:
    """A dependency of a route: the caller, who must have the scope; None: any caller."""

    scope: str | None

    def __call__(self, request: Request) -> Caller:
        auth: Auth = request.app.state.auth
        return auth.caller(request, self.scope)


def needs(scope: str | None = None) -> Needs:
    """`caller: Annotated[Caller, Depends(needs("jobs:read"))]`"""
    if scope is not None and scope not in SCOPES:
        raise ValueError(f"{scope} is no scope; there are {', '.join(SCOPES)}")
    return Needs(scope)


def anyone() -> None:
    """A dependency that says of a route that it is open to everybody."""


def cookie_name(request: Request) -> str:
    """Cookies know no ports: two servers of one machine must not take each other's."""
    port = urlsplit(f"//{request.headers.get('host', '')}").netloc.rpartition(":")[2]
    return f"longtake_{port}" if port.isascii() and port.isdigit() else "longtake"


class Credentials(Given):
    token: str = Field(min_length=1, max_length=200)


class Session(Shape):
    """Who is signed in."""

    owner: str
    name: str
    role: Literal["admin", "user"]
    scopes: list[Scope]


def router() -> APIRouter:
    """Routes of sessions."""
    made = APIRouter(prefix="/auth", tags=["auth"])

    @made.post("/session", status_code=204, dependencies=[Depends(anyone)])
    def create_session(given: Credentials, request: Request) -> Response:
        """Exchange a token, or the one of the printed address, for a cookie."""
        if "origin" in request.headers and not _from_our_page(request):
            raise Problem(403, detail="This must be asked by the page of this host.")
        auth: Auth = request.app.state.auth
        value, seconds = auth.open_session(given.token, _address(request))
        response = Response(status_code=204)
        response.set_cookie(cookie_name(request), value, max_age=seconds, **_cookie(request))
        return response

    @made.get("/session")
    def get_session(caller: Annotated[Caller, Depends(needs())]) -> Session:
        """Who is signed in."""
        return Session.model_validate({
            "owner": caller.owner, "name": caller.name, "role": caller.role,
            "scopes": sorted(caller.scopes),
        })  # fmt: skip

    @made.delete("/session", status_code=204)
    def delete_session(caller: Annotated[Caller, Depends(needs())], request: Request) -> Response:
        """End the session."""
        auth: Auth = request.app.state.auth
        auth.close_session(caller)
        response = Response(status_code=204)
        response.delete_cookie(cookie_name(request), **_cookie(request))
        return response

    return made


def _cookie(request: Request) -> dict[str, Any]:
    return {
        "path": request.scope.get("root_path") or "/",
        "secure": request.url.scheme == "https",
        "httponly": True,
        "samesite": "strict",
    }


def _unknown(words: str, error: str = ', error="invalid_token"') -> Problem:
    return Problem(
        401, detail=words, headers={"WWW-Authenticate": f'Bearer realm="longtake"{error}'}
    )


def _from_our_page(request: Request) -> bool:
    """Whether the browser says that the page that asks was served under this very host."""
    origin = request.headers.get("origin")
    if origin is None:
        return request.headers.get("sec-fetch-site") == "same-origin"
    return urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower() != ""


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _name_of(header: str) -> str:
    """The name in a `Host` header: without port, brackets and a last dot."""
    name = header.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0].rstrip(".")


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name.lower() == "localhost"
