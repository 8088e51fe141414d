"""Fine-tuning jobs: what a run was asked to train on, pauses, and the outbox of webhooks"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0007"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Columns of runs, and a table of its own."""
    with op.batch_alter_table("run", schema=None) as batch_op:
        batch_op.add_column(sa.Column("training_file", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("validation_file", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("asked", JSON, nullable=False, server_default=sa.text("'{}'")))
        batch_op.add_column(sa.Column("asked_sha256", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("pause_requested", sa.Boolean(), nullable=False, server_default=sa.false()))
    with op.batch_alter_table("run", schema=None) as batch_op:
        batch_op.alter_column("asked", server_default=None)
        batch_op.alter_column("pause_requested", server_default=None)
    op.create_table(
        "webhook_delivery",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("next_at", sa.Float(precision=53), nullable=True),
        sa.Column("delivered_at", sa.Float(precision=53), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_delivery")),
    )
    op.create_index(op.f("ix_webhook_delivery_next_at"), "webhook_delivery", ["next_at"], unique=False)
