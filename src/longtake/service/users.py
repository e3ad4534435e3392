"""Users and their tokens, as the database keeps them: of a token its SHA-256 only."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from sqlalchemy import Connection, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from longtake.core.errors import Usage
from longtake.service.audit import note
from longtake.service.database import SECOND, Database
from longtake.service.jobs import Conflict, NotFound
from longtake.service.tables import SCOPES, token, user

LOCAL: Final = "local"
SESSION: Final = "session"  # what the token of a cookie is called


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What is known of a token, its value not among it. Times are microseconds."""

    id: str
    name: str
    prefix: str
    scopes: tuple[str, ...]
    created: int
    expires: int | None
    used: int | None
    revoked: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Times are microseconds; a quota of None is none."""

    id: str
    name: str
    role: str
    created: int
    disabled: int | None
    quota_bytes: int | None
    quota_jobs: int | None
    quota_seconds: int | None


def add_user(
    database: Database, name: str, role: str = "user", by: str | None = None, **quotas: int | None
) -> str:
    """A new user's id. `role`: admin or user; `by`: the user who adds it. Raises Usage where the
    name is taken."""
    if role not in ("admin", "user") or not name.strip():
        raise Usage(f"{name!r} as {role!r}: give a name, and one of the roles admin and user.")
    identifier = uuid.uuid4().hex
    try:
        with database.write() as connection:
            now = database.now(connection)
            connection.execute(
                insert(user).values(id=identifier, name=name, role=role, created=now, **quotas)
            )
            note(connection, now, by or identifier, "user.add", identifier)
    except IntegrityError:
        raise Usage(f"There is a user {name} already.") from None
    return identifier


def users(database: Database) -> list[User]:
    """All, oldest first."""
    with database.read() as connection:
        rows = connection.execute(select(user).order_by(user.c.created, user.c.id)).all()
    return [_user(row) for row in rows]


def change_user(database: Database, identifier: str, changes: Mapping[str, Any], by: str) -> User:
    """Change role, quotas, or `disabled` (a bool). Raises NotFound, or Conflict where nobody could
    administer the service any more."""
    with database.write() as connection:
        rows = connection.execute(select(user).with_for_update()).all()
        row = next((row for row in rows if row.id == identifier), None)
        if row is None:
            raise NotFound(f"User {identifier}.")
        now = database.now(connection)
        values = dict(changes)
        if "disabled" in values:
            values["disabled"] = (row.disabled or now) if values["disabled"] else None
        if values.get("role") == "user" or values.get("disabled"):
            others = [r for r in rows if r.role == "admin" and not r.disabled and r.id != row.id]
            if not others or row.name == LOCAL:
                raise Conflict(f"{row.name} is needed as an admin.")
        if values:
            connection.execute(update(user).where(user.c.id == identifier).values(**values))
            named = ", ".join(f"{name}={value}" for name, value in sorted(changes.items()))
            note(connection, now, by, "user.change", f"{identifier}: {named}")
        changed = connection.execute(select(user).where(user.c.id == identifier)).one()
    return _user(changed)


def _user(row: Any) -> User:
    return User(**{field.name: getattr(row, field.name) for field in fields(User)})


def find_user(database: Database, name: str) -> str | None:
    """The id of a user, by name."""
    with database.read() as connection:
        found = connection.execute(select(user.c.id).where(user.c.name == name)).scalar()
    return None if found is None else str(found)


def local_user(database: Database) -> str:
    """The id of the user of this machine, an admin; made where there is none."""
    found = find_user(database, LOCAL)
    if found is not None:
        return found
    try:
        return add_user(database, LOCAL, "admin")
    except Usage:  # another process was first
        return find_user(database, LOCAL) or ""


def issue(
    database: Database,
    owner: str,
    name: str,
    scopes: Sequence[str],
    expires: int | None = None,
    by: str | None = None,
) -> str:
    """A new token of a user. `expires`: seconds from now, None for never; `by`: the user who makes
    it for another. Raises Usage.

    This is the only time that its value is seen.
    """
    if name == SESSION or not 0 < len(name.strip()) <= 100:
        raise Usage(f"{name!r}: give the token another name of 1 to 100 characters.")
    strange = [scope for scope in scopes if scope not in SCOPES]
    if strange or not scopes:
        raise Usage(f"Scopes {', '.join(strange) or '(none)'}: choose from {', '.join(SCOPES)}.")
    if expires is not None and expires <= 0:
        raise Usage(f"A token that expires in {expires} s cannot be used.")
    with database.write() as connection:
        role = connection.execute(
            select(user.c.role).where(user.c.id == owner, user.c.disabled.is_(None))
        ).scalar()
        if role is None:
            raise Usage(f"There is no user {owner}, or they are disabled.")
        if role != "admin" and "admin" in scopes:
            raise Usage("Only an admin's token may have the scope admin.")
        now = database.now(connection)
        until = None if expires is None else now + expires * SECOND
        value, row = put(connection, owner, name, scopes, (now, until))
        note(connection, now, by or owner, "token.issue", row)
    return value


def tokens(database: Database, owner: str) -> list[Token]:
    """A user's tokens, oldest first, without the sessions."""
    wanted = select(token).where(token.c.owner == owner, token.c.name != SESSION)
    with database.read() as connection:
        rows = connection.execute(wanted.order_by(token.c.created, token.c.id)).all()
    return [
        Token(
            id=row.id, name=row.name, prefix=row.prefix, scopes=tuple(row.scopes.split()),
            created=row.created, expires=row.expires, used=row.used, revoked=row.revoked,
        )
        for row in rows
    ]  # fmt: skip


def revoke(database: Database, owner: str | None, identifier: str, by: str | None = None) -> bool:
    """End a token, and the sessions that were opened with it. `owner`: None for anybody's; `by`:
    the user who does it for another. False where there is no such token, or it was revoked before.
    """
    with database.write() as connection:
        wanted = select(token.c.prefix, token.c.owner).where(
            token.c.id == identifier, token.c.name != SESSION, token.c.revoked.is_(None)
        )
        if owner is not None:
            wanted = wanted.where(token.c.owner == owner)
        row = connection.execute(wanted).first()
        if row is None:
            return False
        now = database.now(connection)
        from_it = (token.c.name == SESSION) & (token.c.prefix == row.prefix)
        connection.execute(
            update(token)
            .where(token.c.owner == row.owner, or_(token.c.id == identifier, from_it))
            .values(revoked=now)
        )
        note(connection, now, by or row.owner, "token.revoke", identifier)
    return True


def put(
    connection: Connection, owner: str, name: str, scopes: Sequence[str],
    times: tuple[int, int | None], prefix: str | None = None,
) -> tuple[str, str]:  # fmt: skip
    """Value and id of a new token. `times`: now, and when it ends. A session has the prefix of the
    token that it was opened with."""
    prefix = prefix or secrets.token_hex(4)
    value = f"lt_{prefix}_{secrets.token_urlsafe(32)}"
    identifier = uuid.uuid4().hex
    connection.execute(
        insert(token).values(
            id=identifier, owner=owner, name=name, prefix=prefix, sha256=digest(value),
            scopes=" ".join(sorted(set(scopes))), created=times[0], expires=times[1],
        )
    )  # fmt: skip
    return value, identifier


def digest(value: str) -> str:
    return hashlib.sha256(value.encode("utf-8", "surrogateescape")).hexdigest()
