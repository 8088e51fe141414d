"""Canary: steps of a rollout and their evidence"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """How far a canary is and why, whose training is paused, and the index by which a release's traffic is found."""
    with op.batch_alter_table("alias", schema=None) as batch_op:
        batch_op.add_column(sa.Column("auto_training_paused_reason", sa.Text(), nullable=True))
    with op.batch_alter_table("rollout", schema=None) as batch_op:
        batch_op.add_column(sa.Column("step", sa.BigInteger(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("step_began_at", sa.Float(precision=53), nullable=True))
        batch_op.add_column(sa.Column("restarts_before", JSON, nullable=False, server_default="{}"))
        batch_op.add_column(sa.Column("evidence", JSON, nullable=True))
    with op.batch_alter_table("rollout", schema=None) as batch_op:
        batch_op.alter_column("step", server_default=None)
        batch_op.alter_column("restarts_before", server_default=None)
    with op.batch_alter_table("rollout_step", schema=None) as batch_op:
        batch_op.add_column(sa.Column("evidence", JSON, nullable=True))
    op.create_index(
        op.f("ix_completion_release_id_created_at"), "completion", ["release_id", "created_at"], unique=False
    )
