"""An index of the votes that do not stand, so that a list of those held or taken back reads no others"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

NOT_ACTIVE = sa.text("status <> 'active'")


def upgrade() -> None:
    """Nearly every vote stands: they are not in it, and cost nothing."""
    op.create_index(
        "ix_feedback_not_active",
        "feedback",
        ["project_id", "status", "created_at", "id"],
        unique=False,
        sqlite_where=NOT_ACTIVE,
        postgresql_where=NOT_ACTIVE,
    )
