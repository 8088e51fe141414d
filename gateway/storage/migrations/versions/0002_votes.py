"""Votes found by content, idempotency keys"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _completion_lookup()


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
