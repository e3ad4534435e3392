"""What users may take, and what they have taken: jobs at a time, bytes that lie here, device time.

Device time is the time that attempts at steps take on a GPU or a CPU, whatever comes of them. It is
counted when an attempt ends, in the transaction that ends it, into a row of its month, so that
nothing that is deleted later changes it. Nobody's step is cut short: a quota that runs out stops
further claims, and is overdrawn by at most the steps in hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects import postgresql, sqlite

from longtake.core.errors import LongtakeError
from longtake.service.database import SECOND, Database
from longtake.service.tables import JOB_ENDED, asset, job, upload, usage, user


class OverQuota(LongtakeError):
    """That is more than is granted."""

    exit_code = 2

    def __init__(self, quota: str, used: float, limit: float, words: str) -> None:
        super().__init__(words)
        self.figures = {"quota": quota, "used": used, "limit": limit}


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """Of one owner. A limit of None is none."""

    month: str
    """YYYY-MM, UTC."""
    seconds: float
    seconds_limit: int | None
    jobs: int
    """That have not ended."""
    jobs_limit: int | None
    bytes: int
    bytes_limit: int | None

    @property
    def spent(self) -> bool:
        """Whether the month's device time is used up."""
        return self.seconds_limit is not None and self.seconds >= self.seconds_limit

    def words(self) -> str:
        """Where it is spent: how much, and when it goes on."""
        following = datetime.strptime(f"{self.month}-01+0000", "%Y-%m-%d%z") + timedelta(31)
        return (
            f"{self.seconds:,.1f} of {self.seconds_limit:,} device seconds of {self.month} are "
            f"used. It goes on in {following:%Y-%m} (UTC), or when an admin grants more."
        )


def of(database: Database, owner: str) -> Use:
    with database.read() as connection:
        return use(connection, owner, database.now(connection))


def use(connection: Connection, owner: str, now: int) -> Use:
    row = connection.execute(select(user).where(user.c.id == owner)).one()
    month = month_of(now)
    taken = connection.execute(
        select(usage.c.device_time).where(usage.c.owner == owner, usage.c.month == month)
    ).scalar()
    return Use(
        month=month, seconds=(taken or 0) / SECOND, seconds_limit=row.quota_seconds,
        jobs=_jobs(connection, owner), jobs_limit=row.quota_jobs,
        bytes=held(connection, owner), bytes_limit=row.quota_bytes,
    )  # fmt: skip


def demand(connection: Connection, owner: str, now: int) -> None:
    """Let nobody else ask for this owner until the transaction ends. Raises OverQuota where no job
    may be added."""
    connection.execute(select(user.c.id).where(user.c.id == owner).with_for_update())
    found = use(connection, owner, now)
    if found.jobs_limit is not None and found.jobs >= found.jobs_limit:
        words = f"{found.jobs} jobs have not ended; {found.jobs_limit} are allowed at a time."
        raise OverQuota("jobs", found.jobs, found.jobs_limit, words)
    if found.spent:
        raise OverQuota("seconds", found.seconds, found.seconds_limit or 0, found.words())


def spend(connection: Connection, owner: str, now: int, time: int) -> None:
    """Count `time` microseconds of a device."""
    dialect: Any = sqlite if connection.dialect.name == "sqlite" else postgresql
    adding = dialect.insert(usage).values(owner=owner, month=month_of(now), device_time=time)
    connection.execute(
        adding.on_conflict_do_update(
            index_elements=["owner", "month"],
            set_={"device_time": usage.c.device_time + adding.excluded.device_time},
        )
    )


def held(connection: Connection, owner: str) -> int:
    """Bytes of an owner: films that lie here, made ones too, and all of the uploads that are under
    way. What unfinished jobs keep for themselves is not among them."""
    stored = select(func.coalesce(func.sum(asset.c.bytes), 0)).where(
        asset.c.owner == owner, asset.c.state != "deleted", asset.c.path.is_(None)
    )
    coming = select(func.coalesce(func.sum(upload.c.length), 0)).where(
        upload.c.owner == owner, upload.c.state == "open"
    )
    return sum(int(connection.execute(wanted).scalar_one()) for wanted in (stored, coming))


def month_of(now: int) -> str:
    return datetime.fromtimestamp(now / SECOND, UTC).strftime("%Y-%m")


def _jobs(connection: Connection, owner: str) -> int:
    counted = select(func.count()).where(job.c.owner == owner, job.c.state.not_in(JOB_ENDED))
    return int(connection.execute(counted).scalar_one())
