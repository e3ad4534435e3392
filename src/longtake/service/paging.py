"""Lists in pages, the newest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Select, Table

MOST: Final = 200
"""In a page."""
Place = tuple[int, str]
"""Created and id of the last row of a page."""


def page(wanted: Select[Any], table: Table, before: Place | None, most: int) -> Select[Any]:
    """The newest `most` of the rows wanted, or of those behind `before`."""
    created, name = table.c.created, table.c.id
    if before is not None:
        wanted = wanted.where((created < before[0]) | ((created == before[0]) & (name < before[1])))
    return wanted.order_by(created.desc(), name.desc()).limit(min(most, MOST))


def place(cursor: str | None) -> Place | None:
    """What a cursor stands for."""
    if cursor is None:
        return None
    created, _, name = cursor.partition("-")
    return int(created), name


def following(found: Sequence[Mapping[str, Any]], most: int) -> str | None:
    """The cursor of what follows a page; None behind the last one."""
    return f"{found[-1]['created']}-{found[-1]['id']}" if len(found) == most else None
