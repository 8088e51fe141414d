"""Alembic's entry: runs the migrations on the connection handed over by `gateway/storage/migrate.py`."""

from alembic import context

from gateway.storage import feedback_tables, idempotency_tables  # noqa: F401  (their tables belong to the schema)
from gateway.storage.tables import Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
