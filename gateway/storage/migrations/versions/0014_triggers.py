"""Planned runs, where they run, and what they took"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Up to where a schedule is done, the devices of aligners and replicas, and what earlier runs took."""
    with op.batch_alter_table("alias", schema=None) as batch_op:
        batch_op.add_column(sa.Column("schedule", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("scheduled_until", sa.Float(precision=53), nullable=True))
        batch_op.add_column(sa.Column("schedule_remark", sa.Text(), nullable=True))
    with op.batch_alter_table("replica", schema=None) as batch_op:
        batch_op.add_column(sa.Column("devices", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("lent_to", sa.String(), nullable=True))
    with op.batch_alter_table("run", schema=None) as batch_op:
        batch_op.add_column(sa.Column("allow_downtime", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch_op.add_column(sa.Column("effort", JSON, nullable=True))
    with op.batch_alter_table("run", schema=None) as batch_op:
        batch_op.alter_column("allow_downtime", server_default=None)
    op.create_table(
        "aligner_host",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("devices", JSON, nullable=False),
        sa.Column("seen_at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_aligner_host")),
    )
