"""Annotation queue"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "annotation_ballot",
        sa.Column("feedback_id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("item", sa.String(), nullable=False),
        sa.Column("rater_hash", sa.String(), nullable=False),
        sa.Column("rater_kind", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("feedback_id", name=op.f("pk_annotation_ballot")),
    )
    with op.batch_alter_table("annotation_ballot", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_annotation_ballot_alias_at"), ["alias", "at"], unique=False)
        batch_op.create_index(batch_op.f("ix_annotation_ballot_project_id_item"), ["project_id", "item"], unique=False)
        batch_op.create_index(batch_op.f("ix_annotation_ballot_rater_hash_item"), ["rater_hash", "item"], unique=False)

    op.create_table(
        "annotation_cursor",
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("updated_at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_annotation_cursor")),
    )
    op.create_table(
        "annotation_gold",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("item", sa.String(), nullable=False),
        sa.Column("sides", JSON, nullable=False),
        sa.Column("better", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.Column("retired_at", sa.Float(precision=53), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_annotation_gold")),
    )
    with op.batch_alter_table("annotation_gold", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_annotation_gold_project_id"), ["project_id"], unique=False)

    op.create_table(
        "annotation_judgement",
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("next_at", sa.Float(precision=53), nullable=False),
        sa.Column("feedback_id", sa.String(), nullable=True),
        sa.Column("at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_annotation_judgement")),
    )
    op.create_table(
        "annotation_rater",
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("rater_hash", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "rater_hash", name=op.f("pk_annotation_rater")),
    )
    op.create_table(
        "annotation_task",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("item", sa.String(), nullable=False),
        sa.Column("sides", JSON, nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("rater_hash", sa.String(), nullable=False),
        sa.Column("tier", sa.BigInteger(), nullable=False),
        sa.Column("place", sa.Float(precision=53), nullable=False),
        sa.Column("margin", sa.Float(precision=53), nullable=True),
        sa.Column("wanted", sa.BigInteger(), nullable=False),
        sa.Column("given", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("left_first", sa.Boolean(), nullable=False),
        sa.Column("holder", sa.String(), nullable=True),
        sa.Column("lease_expires_at", sa.Float(precision=53), nullable=True),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_annotation_task")),
        sa.UniqueConstraint(
            "project_id",
            "item",
            "purpose",
            "rater_hash",
            name=op.f("uq_annotation_task_project_id_item_purpose_rater_hash"),
        ),
    )
    with op.batch_alter_table("annotation_task", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_annotation_task_holder"), ["holder"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_annotation_task_project_id_state_margin"), ["project_id", "state", "margin"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_annotation_task_project_id_state_tier_place_created_at_id"),
            ["project_id", "state", "tier", "place", "created_at", "id"],
            unique=False,
        )

    op.create_table(
        "annotation_verdict",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("item", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("rater_hash", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("left_first", sa.Boolean(), nullable=False),
        sa.Column("right", sa.Boolean(), nullable=True),
        sa.Column("consistent", sa.Boolean(), nullable=True),
        sa.Column("feedback_ids", JSON, nullable=False),
        sa.Column("before", JSON, nullable=False),
        sa.Column("at", sa.Float(precision=53), nullable=False),
        sa.Column("undone_at", sa.Float(precision=53), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_annotation_verdict")),
    )
    with op.batch_alter_table("annotation_verdict", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_annotation_verdict_project_id_rater_hash_at"),
            ["project_id", "rater_hash", "at"],
            unique=False,
        )
        batch_op.create_index(batch_op.f("ix_annotation_verdict_rater_hash_item"), ["rater_hash", "item"], unique=False)
        batch_op.create_index(batch_op.f("ix_annotation_verdict_task_id"), ["task_id"], unique=False)

    with op.batch_alter_table("feedback", schema=None) as batch_op:
        batch_op.create_index("ix_feedback_project_id_updated_at", ["project_id", "updated_at"], unique=False)
