"""Where a replica comes from, how it takes weights, and what each worker has in flight"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Replicas known so far stand in the settings; agents and workers tell the rest when they next write."""
    with op.batch_alter_table("replica", schema=None) as batch_op:
        batch_op.add_column(sa.Column("origin", sa.String(), nullable=False, server_default="settings"))
        batch_op.add_column(sa.Column("in_place", sa.Boolean(), nullable=False, server_default=sa.true()))
    with op.batch_alter_table("replica", schema=None) as batch_op:
        batch_op.alter_column("origin", server_default=None)
        batch_op.alter_column("in_place", server_default=None)
    with op.batch_alter_table("gateway_worker", schema=None) as batch_op:
        batch_op.add_column(sa.Column("in_flight", JSON, nullable=False, server_default="{}"))
    with op.batch_alter_table("gateway_worker", schema=None) as batch_op:
        batch_op.alter_column("in_flight", server_default=None)
