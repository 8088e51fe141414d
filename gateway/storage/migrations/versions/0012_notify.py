"""Notifications and their deliveries"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
IS_NEW = sa.text("state = 'new'")
IS_WAITING = sa.text("state = 'waiting'")


def upgrade() -> None:
    """What people are told, and how far each telling is."""
    op.create_table(
        "notification",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("feedback_id", sa.String(), nullable=True),
        sa.Column("facts", JSON, nullable=False),
        sa.Column("times", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.Column("last_at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notification")),
    )
    for columns in (["key", "created_at"], ["created_at"], ["feedback_id"]):
        op.create_index(op.f(f"ix_notification_{'_'.join(columns)}"), "notification", columns, unique=False)
    op.create_index(
        "ix_notification_new", "notification", ["state"], unique=False, sqlite_where=IS_NEW, postgresql_where=IS_NEW
    )
    op.create_table(
        "delivery",
        sa.Column("notification_id", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("feedback_id", sa.String(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.Float(precision=53), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(
            ["notification_id"], ["notification.id"], name=op.f("fk_delivery_notification_id_notification")
        ),
        sa.PrimaryKeyConstraint("notification_id", "target", name=op.f("pk_delivery")),
    )
    op.create_index(op.f("ix_delivery_feedback_id"), "delivery", ["feedback_id"], unique=False)
    op.create_index(op.f("ix_delivery_target_updated_at"), "delivery", ["target", "updated_at"], unique=False)
    op.create_index(
        "ix_delivery_waiting",
        "delivery",
        ["target", "due_at"],
        unique=False,
        sqlite_where=IS_WAITING,
        postgresql_where=IS_WAITING,
    )
