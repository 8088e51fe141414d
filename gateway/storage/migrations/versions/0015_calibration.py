"""What an A/A run found about the limits of an alias's gates"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """A table of its own."""
    op.create_table(
        "gate_calibration",
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("body", JSON, nullable=False),
        sa.Column("made_at", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(["alias"], ["alias.name"], name=op.f("fk_gate_calibration_alias_alias")),
        sa.PrimaryKeyConstraint("alias", name=op.f("pk_gate_calibration")),
    )
