"""Cases that every candidate must pass"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """A table of its own."""
    op.create_table(
        "gate_case",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("body", JSON, nullable=False),
        sa.Column("severity", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(["alias"], ["alias.name"], name=op.f("fk_gate_case_alias_alias")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gate_case")),
    )
    op.create_index(op.f("ix_gate_case_alias"), "gate_case", ["alias"], unique=False)
