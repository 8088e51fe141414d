"""Releases that are kept, and those whose weights were removed"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Two columns: pinned releases are never pruned, pruned ones have no weights any more."""
    with op.batch_alter_table("release", schema=None) as batch_op:
        batch_op.add_column(sa.Column("pinned", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch_op.add_column(sa.Column("pruned_at", sa.Float(precision=53), nullable=True))
    with op.batch_alter_table("release", schema=None) as batch_op:
        batch_op.alter_column("pinned", server_default=None)
