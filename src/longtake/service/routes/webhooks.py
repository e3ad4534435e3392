"""Webhooks and tokens over HTTP."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Response
from pydantic import Field, StringConstraints

from longtake.service import outbound, users, webhooks
from longtake.service.auth import Caller, needs
from longtake.service.database import Database
from longtake.service.jobs import NotFound
from longtake.service.routes.shapes import Given, Moment, Name, Scope, Shape, Text, Title

Reads = Annotated[Caller, Depends(needs("jobs:read"))]
Writes = Annotated[Caller, Depends(needs("jobs:write"))]
Admin = Annotated[Caller, Depends(needs("admin"))]


Hooked = Annotated[str, Path(min_length=1, max_length=64, pattern=r"^wh_[a-z0-9]+$")]
Sent = Annotated[str, Path(min_length=1, max_length=64, pattern=r"^msg_[a-z0-9]+$")]


EventWord = Annotated[str, StringConstraints(max_length=64, pattern=r"^(\*|[a-z_]+(\.[a-z_]+)*)$")]


class NewWebhook(Given):
    url: Text = Field(min_length=1, max_length=2000)
    events: list[EventWord] = Field(
        default=["job.succeeded", "job.partial", "job.failed", "job.cancelled"],
        min_length=1, max_length=20,
        description="types of events, ends of jobs such as job.failed, or *",
    )  # fmt: skip
    job: Name | None = Field(default=None, description="of this job only, from its beginning")
    secret: Text | None = Field(default=None, max_length=200, description="whsec_ and base64")


class NewToken(Given):
    name: Title = Field(min_length=1, max_length=100)
    scopes: list[Scope] = Field(min_length=1, max_length=10)
    expires: int | None = Field(default=None, ge=1, le=10**9, description="seconds from now")
    user: Name | None = Field(default=None, description="id of who will use it; null: the caller")


class MadeWebhook(Shape):
    id: str
    secret: str = Field(description="told here and never again")


class Webhook(Shape):
    id: str
    url: str
    events: list[str]
    job: str | None = Field(description="the only one that it tells of")
    disabled: str | None = Field(description="why it is called no more")
    created: Moment


class Webhooks(Shape):
    webhooks: list[Webhook]


class Tested(Shape):
    delivery: str = Field(description="its webhook-id")


class Delivery(Shape):
    id: str = Field(description="the webhook-id")
    event: int = Field(description="its number; below 0: only to try the webhook out")
    type: str
    state: Literal["waiting", "sent", "failed"]
    attempts: int
    status: int | None = Field(description="of the last answer")
    answer: str | None = Field(description="its beginning, or why there was none")
    next: Moment = Field(description="microseconds since 1970, UTC: not to be sent before")
    created: Moment


class Deliveries(Shape):
    deliveries: list[Delivery]


class Issued(Shape):
    token: str = Field(description="told here and never again")


class Token(Shape):
    id: str
    name: str
    prefix: str = Field(description="behind lt_, to know it again")
    scopes: list[Scope]
    created: Moment
    expires: Moment | None
    used: Moment | None
    revoked: Moment | None


class Tokens(Shape):
    tokens: list[Token]


def router(database: Database, allow: frozenset[str]) -> APIRouter:
    """Routes below /webhooks and /tokens. `allow`: hosts that may be private or http."""
    routes = APIRouter(tags=["webhooks"])

    @routes.post("/webhooks", status_code=201)
    def create_webhook(wanted: NewWebhook, caller: Writes) -> MadeWebhook:
        """Signed by the Standard Webhooks rules; the secret is told here and never again."""
        outbound.check(wanted.url, allow)
        name, secret = webhooks.create(
            database, caller.owner, wanted.url, wanted.events, wanted.job, wanted.secret
        )
        return MadeWebhook(id=name, secret=secret)

    @routes.get("/webhooks")
    def list_webhooks(caller: Reads) -> Webhooks:
        """The oldest first."""
        found = [asdict(hook) for hook in webhooks.hooks(database, caller.owner)]
        return Webhooks.model_validate({"webhooks": found})

    @routes.delete("/webhooks/{name}", status_code=204)
    def delete_webhook(name: Hooked, caller: Writes) -> Response:
        """Remove it with its deliveries."""
        webhooks.remove(database, caller.owner, name)
        return Response(status_code=204)

    @routes.post("/webhooks/{name}/test", status_code=202)
    def test_webhook(name: Hooked, caller: Writes) -> Tested:
        """Send something, to see that it arrives."""
        return Tested(delivery=webhooks.test(database, caller.owner, name))

    @routes.get("/webhooks/{name}/deliveries")
    def list_deliveries(name: Hooked, caller: Reads) -> Deliveries:
        """The newest first."""
        found = [asdict(one) for one in webhooks.deliveries(database, caller.owner, name)]
        return Deliveries.model_validate({"deliveries": found})

    @routes.post(
        "/webhooks/{name}/deliveries/{which}/redeliver", status_code=202, response_class=Response
    )
    def redeliver(name: Hooked, which: Sent, caller: Writes) -> Response:
        """Send it once more, under the same webhook-id."""
        webhooks.redeliver(database, caller.owner, name, which)
        return Response(status_code=202)

    _tokens(routes, database)
    return routes


def _tokens(routes: APIRouter, database: Database) -> None:
    @routes.post("/tokens", status_code=201, tags=["tokens"])
    def create_token(wanted: NewToken, caller: Admin) -> Issued:
        """A new token; its value is told here and never again."""
        owner = wanted.user or caller.owner
        value = users.issue(
            database, owner, wanted.name, wanted.scopes, wanted.expires, caller.owner
        )
        return Issued(token=value)

    @routes.get("/tokens", tags=["tokens"])
    def list_tokens(caller: Admin, user: Name | None = None) -> Tokens:
        """The caller's, or those of another `user`, the oldest first."""
        found = [asdict(one) for one in users.tokens(database, user or caller.owner)]
        return Tokens.model_validate({"tokens": found})

    @routes.delete("/tokens/{name}", status_code=204, tags=["tokens"])
    def delete_token(name: Name, caller: Admin) -> Response:
        """End it, whoever's it is, and the sessions that were opened with it."""
        if not users.revoke(database, None, name, caller.owner):
            raise NotFound(f"Token {name}.")
        return Response(status_code=204)
