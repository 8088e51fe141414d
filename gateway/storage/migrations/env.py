"""Alembic's entry: runs the migrations on the connection handed over by `gateway/storage/migrate.py`."""

from alembic import context

from gateway.storage.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
