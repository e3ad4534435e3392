"""Run by Alembic: applies the revisions to the connection that `upgrade.py` hands over."""

from __future__ import annotations

from alembic import context

from longtake.service.tables import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=connection.dialect.name == "sqlite",
    compare_type=True,
    compare_server_default=False,
)
with context.begin_transaction():
    context.run_migrations()
