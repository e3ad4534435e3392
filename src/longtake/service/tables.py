"""The tables, for SQLite and PostgreSQL alike.

Times are microseconds since 1970 by the database's clock, never by a host's. What is JSON is text.
States are plain text with named checks: an enum type cannot be changed in place. Every constraint
has a name, because migrations of SQLite copy whole tables and drop what has none.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

JOB_KINDS = ("upscale", "generate")
JOB_STATES = ("queued", "planning", "running", "joining", "paused",
              "succeeded", "partial", "failed", "cancelled")  # fmt: skip
JOB_ENDED = ("succeeded", "partial", "failed", "cancelled")
JOB_GOING = tuple(state for state in JOB_STATES if state not in JOB_ENDED)
STEP_STATES = ("blocked", "ready", "leased", "done", "failed", "cancelled")
STEP_KINDS = ("plan", "segment", "join")
WISHES = ("run", "pause", "cancel")
SCOPES = ("jobs:read", "jobs:write", "assets:read", "assets:write", "admin")


def _one_of(column: str, values: tuple[str, ...], name: str) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=name)


def _time(name: str, *, optional: bool = True) -> Column[int]:
    return Column(name, BigInteger, nullable=optional)


def _counted(name: str) -> Column[int]:
    """Numbered by the database, upwards."""
    kind = BigInteger().with_variant(Integer, "sqlite")
    return Column(name, kind, primary_key=True, autoincrement=True)


user = Table(
    "user_account", metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("role", Text, nullable=False, server_default="user"),
    Column("password", Text),  # argon2id
    Column("quota_bytes", BigInteger),
    Column("quota_jobs", Integer),  # that have not ended
    Column("quota_seconds", BigInteger),  # of GPUs, a month
    Column("turn", BigInteger, nullable=False, server_default="0"),  # when it was last served
    _time("created", optional=False),
    _time("disabled"),
    _one_of("role", ("admin", "user"), "role"),
)  # fmt: skip

token = Table(
    "api_token", metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, ForeignKey("user_account.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("sha256", Text, nullable=False, unique=True),
    Column("scopes", Text, nullable=False),  # with blanks between
    _time("created", optional=False),
    _time("expires"),
    _time("used"),
    _time("revoked"),
)  # fmt: skip

asset = Table(
    "asset", metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, ForeignKey("user_account.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("name", Text, nullable=False),  # as its owner calls it
    Column("path", Text),  # under a configured root, where it was not uploaded
    Column("key", Text),  # among the blobs, where it was
    Column("bytes", BigInteger, nullable=False, server_default="0"),
    Column("sha256", Text),
    Column("probe", Text),
    Column("reason", Text),  # why it was rejected
    Column("job", Text),  # that made it
    _time("created", optional=False),
    _time("expires"),
    _one_of("kind", ("source", "result", "partial"), "kind"),
    _one_of("state", ("receiving", "probing", "ready", "rejected", "deleted"), "state"),
)  # fmt: skip

upload = Table(
    "upload", metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, ForeignKey("user_account.id"), nullable=False),
    Column("asset", Text, ForeignKey("asset.id"), nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("received", BigInteger, nullable=False, server_default="0"),
    Column("about", Text, nullable=False),  # Upload-Metadata
    Column("state", Text, nullable=False, server_default="open"),
    Column("lock_owner", Text),
    _time("lock_until"),
    _time("created", optional=False),
    _time("expires", optional=False),
    _one_of("state", ("open", "complete", "expired", "aborted"), "state"),
    CheckConstraint("received >= 0 AND received <= length", name="received"),
)  # fmt: skip

job = Table(
    "job", metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, ForeignKey("user_account.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("asset", Text, ForeignKey("asset.id")),
    Column("parent", Text, ForeignKey("job.id")),  # whose result is the source
    Column("task", Text, nullable=False),
    Column("limits", Text, nullable=False),
    Column("plan", Text),
    Column("identity", Text),  # of the frozen plan
    Column("numerics", Text),  # of the first committed segment
    Column("mixed", Integer, nullable=False, server_default="0"),  # other numerics are allowed
    Column("state", Text, nullable=False),
    Column("wish", Text, nullable=False, server_default="run"),
    Column("keep", Text, nullable=False, server_default="partial"),  # when it is cancelled
    Column("priority", Integer, nullable=False, server_default="0"),
    Column("frames", BigInteger),
    Column("frames_done", BigInteger, nullable=False, server_default="0"),
    Column("pixels", BigInteger),  # of a frame of the film
    Column("result", Text, ForeignKey("asset.id")),
    Column("error", Text),
    Column("detail", Text),
    Column("code", Integer),  # the exit code that the command line would have given
    Column("revision", BigInteger, nullable=False, server_default="1"),
    Column("trace", Text),
    _time("created", optional=False),
    _time("started"),
    _time("ended"),
    _one_of("kind", JOB_KINDS, "kind"),
    _one_of("state", JOB_STATES, "state"),
    _one_of("wish", WISHES, "wish"),
    _one_of("keep", ("partial", "nothing"), "keep"),
    CheckConstraint("priority BETWEEN -10 AND 10", name="priority"),
    Index("ix_job_owner", "owner", "created"),
    Index("ix_job_state", "state"),
)  # fmt: skip

step = Table(
    "step", metadata,
    Column("job", Text, ForeignKey("job.id"), primary_key=True),
    Column("number", Integer, primary_key=True),  # -1 plans, 0.. are segments, the last joins
    Column("kind", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("fence", BigInteger, nullable=False, server_default="0"),
    Column("worker", Text),
    _time("lease"),
    _time("not_before", optional=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("frames", BigInteger, nullable=False, server_default="0"),
    Column("frames_done", BigInteger, nullable=False, server_default="0"),
    Column("sampled", Integer),  # steps of the sampler that are taken
    Column("sampling", Integer),  # of how many; none where no sampler is at work
    Column("key", Text),  # of the committed part
    Column("bytes", BigInteger),
    Column("sha256", Text),
    Column("error", Text),
    _time("began"),
    _time("ended"),
    _one_of("kind", STEP_KINDS, "kind"),
    _one_of("queue", ("gpu", "cpu"), "queue"),
    _one_of("state", STEP_STATES, "state"),
    CheckConstraint("(state = 'leased') = (lease IS NOT NULL)", name="lease"),
    CheckConstraint("state <> 'done' OR kind <> 'segment' OR key IS NOT NULL", name="part"),
    Index("ix_step_claim", "job", "state", "number"),
    Index("ix_step_lease", "state", "lease"),
)  # fmt: skip

attempt = Table(
    "attempt", metadata,
    Column("job", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("fence", BigInteger, primary_key=True),
    Column("worker", Text, nullable=False),
    Column("device", Text),
    Column("outcome", Text),
    Column("detail", Text),
    Column("fps", Text),
    Column("vram", BigInteger),
    Column("step_time", BigInteger),  # microseconds that a step of the sampler takes
    Column("decode_time", BigInteger),  # microseconds from the last of them to the part
    _time("began", optional=False),
    _time("ended"),
    _one_of(
        "outcome", ("done", "lost", "oom", "crash", "error", "cancelled", "released"), "outcome"
    ),
)  # fmt: skip

event = Table(
    "event", metadata,
    _counted("id"),
    Column("owner", Text, nullable=False),
    Column("job", Text),
    Column("type", Text, nullable=False),
    Column("data", Text, nullable=False),
    _time("at", optional=False),
    Index("ix_event_owner", "owner", "id"),
    Index("ix_event_job", "job", "id"),
    sqlite_autoincrement=True,  # an id is never given twice, also after old rows are gone
)  # fmt: skip

worker = Table(
    "worker", metadata,
    Column("id", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("device", Text, nullable=False),
    Column("queues", Text, nullable=False),  # with blanks between
    Column("version", Text, nullable=False),
    Column("numerics", Text),
    Column("state", Text, nullable=False),
    Column("machine", Text),
    Column("rates", Text),  # its calibration
    Column("engines", Text),  # their knobs
    Column("telemetry", Text),  # of GPU and RAM
    Column("doing", Text),  # job/number
    Column("gpu", Text),  # uuid, name and index, as all processes of its host number them
    _time("drained"),  # since when it shall take no more
    _time("began", optional=False),
    _time("beat", optional=False),
    _one_of("state", ("idle", "busy", "draining", "gone"), "state"),
)  # fmt: skip

webhook = Table(
    "webhook", metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, ForeignKey("user_account.id"), nullable=False),
    Column("job", Text),  # of one job only
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False),
    Column("events", Text, nullable=False),  # types with blanks between; "*"
    Column("disabled", Text),  # why
    _time("created", optional=False),
)  # fmt: skip

delivery = Table(
    "webhook_delivery", metadata,
    Column("id", Text, primary_key=True),
    Column("webhook", Text, ForeignKey("webhook.id", ondelete="CASCADE"), nullable=False),
    Column("event", BigInteger, nullable=False),
    Column("type", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("state", Text, nullable=False, server_default="waiting"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("status", Integer),
    Column("answer", Text),
    Column("worker", Text),  # that is sending it
    _time("lease"),
    _time("next", optional=False),
    _time("created", optional=False),
    UniqueConstraint("webhook", "event", name="uq_webhook_delivery_event"),
    _one_of("state", ("waiting", "sent", "failed"), "state"),
    Index("ix_webhook_delivery_next", "state", "next"),
)  # fmt: skip

idempotency = Table(
    "idempotency", metadata,
    Column("owner", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("sha256", Text, nullable=False),  # of the request
    Column("status", Integer),
    Column("body", Text),
    _time("at", optional=False),
)  # fmt: skip

audit = Table(
    "audit", metadata,
    _counted("id"),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("object", Text, nullable=False),
    Column("address", Text),
    _time("at", optional=False),
)  # fmt: skip

preset = Table(
    "preset", metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, ForeignKey("user_account.id")),  # none: an admin's, for everybody
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("params", Text, nullable=False),  # of a job
    _time("created", optional=False),
    UniqueConstraint("owner", "name", name="uq_preset_name"),
    _one_of("kind", JOB_KINDS, "kind"),
    Index("uq_preset_shared", "name", unique=True,
          sqlite_where=text("owner IS NULL"), postgresql_where=text("owner IS NULL")),
)  # fmt: skip

usage = Table(
    "usage", metadata,
    Column("owner", Text, ForeignKey("user_account.id"), primary_key=True),
    Column("month", Text, primary_key=True),  # YYYY-MM, UTC
    Column("device_time", BigInteger, nullable=False, server_default="0"),  # microseconds
)  # fmt: skip

job_log = Table(
    "job_log", metadata,
    _counted("id"),
    Column("job", Text, ForeignKey("job.id", ondelete="CASCADE"), nullable=False),
    _time("at", optional=False),
    Column("level", Text, nullable=False),
    Column("worker", Text),
    Column("number", Integer),  # of the step
    Column("fence", BigInteger),
    Column("text", Text, nullable=False),
    Index("ix_job_log_job", "job", "id"),
    sqlite_autoincrement=True,  # who has read up to an id misses none
)  # fmt: skip

paused_queue = Table(
    "paused_queue", metadata,
    Column("queue", Text, primary_key=True),
    _time("at", optional=False),
    _one_of("queue", ("gpu", "cpu"), "queue"),
)  # fmt: skip
