"""What users have and may take, and who changed what."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from longtake.service import audit, quotas, users
from longtake.service.auth import Caller, needs
from longtake.service.database import Database
from longtake.service.routes.shapes import HIGHEST, Given, Moment, Name, Shape, Title
from longtake.service.users import User

Admin = Annotated[Caller, Depends(needs("admin"))]
Anybody = Annotated[Caller, Depends(needs())]
MOST_SECONDS = 10**12
"""Its microseconds are still numbers that a database holds."""

Role = Literal["admin", "user"]
QuotaBytes = Annotated[
    int | None, Field(ge=0, le=HIGHEST, description="bytes of films and uploads; null: no limit")
]
QuotaJobs = Annotated[
    int | None, Field(ge=0, le=2**31 - 1, description="that have not ended; null: no limit")
]
QuotaSeconds = Annotated[
    int | None,
    Field(ge=0, le=MOST_SECONDS, description="of GPUs and CPUs, a month; null: no limit"),
]


class NewUser(Given):
    name: Title = Field(min_length=1, max_length=100)
    role: Role = "user"
    quota_bytes: QuotaBytes = None
    quota_jobs: QuotaJobs = None
    quota_seconds: QuotaSeconds = None


class UserChange(Given):
    """What is left out stays as it is."""

    role: Role = "user"
    disabled: bool = Field(default=False, description="their tokens are refused")
    quota_bytes: QuotaBytes = None
    quota_jobs: QuotaJobs = None
    quota_seconds: QuotaSeconds = None


class Taken(Shape):
    """What is used, and the limit; null where there is none."""

    used: float
    limit: int | None


class UsageShown(Shape):
    """What a user has taken."""

    month: str = Field(description="that device_seconds are of: YYYY-MM, UTC")
    device_seconds: Taken
    jobs: Taken = Field(description="that have not ended")
    bytes: Taken = Field(description="of films, made ones too, and uploads under way")


class UserShown(Shape):
    id: Name
    name: str
    role: Role
    created: Moment
    disabled: Moment | None
    quota_bytes: QuotaBytes
    quota_jobs: QuotaJobs
    quota_seconds: QuotaSeconds
    usage: UsageShown


class Users(Shape):
    users: list[UserShown]


class AuditEntry(Shape):
    id: int
    actor: str = Field(description="id of a user")
    name: str | None = Field(description="of the actor")
    action: str
    object: str
    address: str | None = Field(description="from where it was asked")
    at: Moment


class AuditPage(Shape):
    entries: list[AuditEntry]
    next: int | None = Field(description="the cursor of what follows")


def router(database: Database) -> APIRouter:
    """Routes of /usage, /users and /audit."""
    routes = APIRouter(tags=["users"])

    @routes.get("/usage")
    def get_usage(caller: Anybody) -> UsageShown:
        """What the caller has taken this month, and may take."""
        return _usage(database, caller.owner)

    @routes.get("/users")
    def list_users(_: Admin) -> Users:
        return Users(users=[_shown(database, one) for one in users.users(database)])

    @routes.post("/users", status_code=201)
    def add_user(wanted: NewUser, caller: Admin) -> UserShown:
        """Somebody else, who is let in by a token: POST /tokens with `user`."""
        quotas_ = wanted.model_dump(exclude={"name", "role"})
        name = users.add_user(database, wanted.name, wanted.role, caller.owner, **quotas_)
        found = next(one for one in users.users(database) if one.id == name)
        return _shown(database, found)

    @routes.patch("/users/{name}")
    def change_user(name: Name, wanted: UserChange, caller: Admin) -> UserShown:
        changes = wanted.model_dump(exclude_unset=True)
        return _shown(database, users.change_user(database, name, changes, caller.owner))

    @routes.get("/audit")
    def list_audit(
        _: Admin,
        cursor: Annotated[int | None, Query(ge=1, le=HIGHEST)] = None,
        most: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> AuditPage:
        """The newest first."""
        found = audit.entries(database, before=cursor, most=most)
        return AuditPage(
            entries=[AuditEntry(**asdict(entry)) for entry in found],
            next=found[-1].id if len(found) == most else None,
        )

    return routes


def _shown(database: Database, one: User) -> UserShown:
    return UserShown(**asdict(one), usage=_usage(database, one.id))


def _usage(database: Database, owner: str) -> UsageShown:
    found = quotas.of(database, owner)
    return UsageShown(
        month=found.month,
        device_seconds=Taken(used=found.seconds, limit=found.seconds_limit),
        jobs=Taken(used=found.jobs, limit=found.jobs_limit),
        bytes=Taken(used=found.bytes, limit=found.bytes_limit),
    )
