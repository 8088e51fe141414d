"""Votes found by content, idempotency keys"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _completion_lookup()
    with op.batch_alter_table("feedback", schema=None) as batch_op:
        batch_op.add_column(sa.Column("rater_trusted", sa.Boolean(), server_default=sa.false(), nullable=False))
        batch_op.add_column(sa.Column("key_id", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("prompt_hash", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("leaning", sa.String(), nullable=True))
        batch_op.create_index(
            batch_op.f("ix_feedback_project_id_prompt_hash_rater_hash"),
            ["project_id", "prompt_hash", "rater_hash"],
            unique=False,
        )
    op.create_table(
        "idempotency_key",
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("claimed_at", sa.Float(precision=53), nullable=False),
        sa.Column("status", sa.BigInteger(), nullable=True),
        sa.Column("reply", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("key_id", "name", name=op.f("pk_idempotency_key")),
    )
    with op.batch_alter_table("idempotency_key", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_idempotency_key_claimed_at"), ["claimed_at"], unique=False)


def _completion_lookup() -> None:
    op.create_table(
        "completion_lookup",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("completion_id", sa.String(), nullable=False),
        sa.Column("choice", sa.BigInteger(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("digest", "completion_id", "choice", name=op.f("pk_completion_lookup")),
    )
    op.create_index(op.f("ix_completion_lookup_completion_id"), "completion_lookup", ["completion_id"])
    op.create_index(
        op.f("ix_completion_lookup_project_id_created_at"), "completion_lookup", ["project_id", "created_at"]
    )
