"""presets, usage and the logs of jobs"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "preset",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("params", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind IN ('upscale')", name=op.f("ck_preset_kind")),
        sa.ForeignKeyConstraint(["owner"], ["user_account.id"], name=op.f("fk_preset_owner")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_preset")),
        sa.UniqueConstraint("owner", "name", name="uq_preset_name"),
    )
    shared = sa.text("owner IS NULL")
    op.create_index(
        "uq_preset_shared",
        "preset",
        ["name"],
        unique=True,
        sqlite_where=shared,
        postgresql_where=shared,
    )
    op.create_table(
        "usage",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("month", sa.Text(), nullable=False),
        sa.Column("device_time", sa.BigInteger(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["owner"], ["user_account.id"], name=op.f("fk_usage_owner")),
        sa.PrimaryKeyConstraint("owner", "month", name=op.f("pk_usage")),
    )
    op.create_table(
        "job_log",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("number", sa.Integer(), nullable=True),
        sa.Column("fence", sa.BigInteger(), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job"], ["job.id"], name=op.f("fk_job_log_job"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_log")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_job_log_job", "job_log", ["job", "id"], unique=False)
    op.create_index("ix_job_state", "job", ["state"])
    op.drop_index("ix_step_claim", "step")
    op.create_index("ix_step_claim", "step", ["job", "state", "number"])
    op.add_column("job", sa.Column("pixels", sa.BigInteger(), nullable=True))
    op.add_column("worker", sa.Column("gpu", sa.Text(), nullable=True))
    op.add_column("worker", sa.Column("drained", sa.BigInteger(), nullable=True))
    op.create_table(
        "paused_queue",
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("queue IN ('gpu', 'cpu')", name=op.f("ck_paused_queue_queue")),
        sa.PrimaryKeyConstraint("queue", name=op.f("pk_paused_queue")),
    )
    _rename_in_tasks("preset", "effort")


def downgrade() -> None:
    _rename_in_tasks("effort", "preset")
    op.drop_index("ix_step_claim", "step")
    op.create_index("ix_step_claim", "step", ["queue", "state", "not_before"])
    op.drop_index("ix_job_state", "job")
    op.drop_table("paused_queue")
    op.drop_column("worker", "drained")
    op.drop_column("worker", "gpu")
    op.drop_column("job", "pixels")
    op.drop_table("job_log")
    op.drop_table("usage")
    op.drop_table("preset")


def _rename_in_tasks(old: str, new: str) -> None:
    """The encoder's effort was called preset."""
    job = sa.table("job", sa.column("id"), sa.column("task"))
    connection = op.get_bind()
    for name, stored in connection.execute(sa.select(job.c.id, job.c.task)).all():
        task = json.loads(stored)
        if old in task:
            task[new] = task.pop(old)
            changed = sa.update(job).where(job.c.id == name).values(task=json.dumps(task))
            connection.execute(changed)
