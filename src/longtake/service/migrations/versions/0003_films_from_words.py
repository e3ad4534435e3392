"""films from words: another kind of job, and the steps of its sampler"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_BEFORE = "kind IN ('upscale')"
_SINCE = "kind IN ('upscale', 'generate')"


def upgrade() -> None:
    op.add_column("step", sa.Column("sampled", sa.Integer(), nullable=True))
    op.add_column("step", sa.Column("sampling", sa.Integer(), nullable=True))
    op.add_column("attempt", sa.Column("step_time", sa.BigInteger(), nullable=True))
    op.add_column("attempt", sa.Column("decode_time", sa.BigInteger(), nullable=True))
    _allow(_BEFORE, _SINCE)


def downgrade() -> None:
    """Raises an integrity error where there are rows that the older tables do not allow."""
    _allow(_SINCE, _BEFORE)
    op.drop_column("attempt", "decode_time")
    op.drop_column("attempt", "step_time")
    op.drop_column("step", "sampling")
    op.drop_column("step", "sampled")


def _allow(now: str, then: str) -> None:
    """Change which kinds of jobs and presets there may be."""
    connection = op.get_bind()
    if connection.dialect.name != "sqlite":
        for table in ("job", "preset"):
            op.drop_constraint(op.f(f"ck_{table}_kind"), table, type_="check")
            op.create_check_constraint(op.f(f"ck_{table}_kind"), table, then)
        return
    # SQLite knows no other way than a new table: to drop the old one would take the logs of jobs
    # along. A check says nothing of how rows are stored, so its words may be changed in place:
    # https://www.sqlite.org/lang_altertable.html#otheralter
    version = connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
    connection.exec_driver_sql("PRAGMA writable_schema = ON")
    connection.exec_driver_sql(
        "UPDATE sqlite_master SET sql = replace(sql, ?, ?) "
        "WHERE type = 'table' AND name IN ('job', 'preset')",
        (now, then),
    )
    connection.exec_driver_sql(f"PRAGMA schema_version = {version + 1}")
    connection.exec_driver_sql("PRAGMA writable_schema = OFF")
    for table in ("job", "preset"):
        wrong = connection.exec_driver_sql(
            f"SELECT count(*) FROM {table} WHERE NOT ({then})"
        ).scalar_one()
        if wrong:
            raise ValueError(f"{wrong} rows of {table} are of a kind that {revision} brought.")
