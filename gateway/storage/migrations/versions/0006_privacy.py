"""Erasures, raters, retention"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
OF_SOMEBODY = sa.text("end_user_hash IS NOT NULL")


def upgrade() -> None:
    """Tables of their own, the indexes by which a person is found, and what keys, releases and data sets say anew."""
    _make_tables()
    _find_people()
    with op.batch_alter_table("api_key", schema=None) as batch_op:
        batch_op.add_column(sa.Column("train", sa.Boolean(), nullable=False, server_default=sa.true()))
    with op.batch_alter_table("api_key", schema=None) as batch_op:
        batch_op.alter_column("train", server_default=None)
    with op.batch_alter_table("release", schema=None) as batch_op:
        batch_op.add_column(sa.Column("blocked_by", sa.String(), nullable=True))
    with op.batch_alter_table("dataset", schema=None) as batch_op:
        batch_op.add_column(sa.Column("unused_since", sa.Float(precision=53), nullable=True))
        batch_op.add_column(sa.Column("removed_at", sa.Float(precision=53), nullable=True))
        batch_op.add_column(sa.Column("erasure_id", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("replaced_by", sa.String(), nullable=True))


def _make_tables() -> None:
    op.create_table(
        "erasure",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=True),
        sa.Column("end_user_hash", sa.String(), nullable=False),
        sa.Column("rater_hashes", JSON, nullable=False),
        sa.Column("policy", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("counts", JSON, nullable=False),
        sa.Column("datasets", JSON, nullable=False),
        sa.Column("releases", JSON, nullable=False),
        sa.Column("runs", JSON, nullable=False),
        sa.Column("receipt", JSON, nullable=True),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.Column("updated_at", sa.Float(precision=53), nullable=False),
        sa.Column("finished_at", sa.Float(precision=53), nullable=True),
        sa.Column("checked_at", sa.Float(precision=53), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_erasure")),
    )
    op.create_table(
        "tombstone",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("erasure_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["erasure_id"], ["erasure.id"], name=op.f("fk_tombstone_erasure_id_erasure")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tombstone")),
    )
    op.create_index(op.f("ix_tombstone_erasure_id"), "tombstone", ["erasure_id"], unique=False)
    op.create_table(
        "completion_vote",
        sa.Column("completion_id", sa.String(), nullable=False),
        sa.Column("feedback_id", sa.String(), nullable=False),
        sa.Column("end_user_hash", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["feedback_id"], ["feedback.id"], name=op.f("fk_completion_vote_feedback_id_feedback")),
        sa.PrimaryKeyConstraint("completion_id", "feedback_id", name=op.f("pk_completion_vote")),
    )
    op.create_index(op.f("ix_completion_vote_feedback_id"), "completion_vote", ["feedback_id"], unique=False)
    op.create_table(
        "pair_vote",
        sa.Column("pair_id", sa.String(), nullable=False),
        sa.Column("feedback_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["feedback_id"], ["feedback.id"], name=op.f("fk_pair_vote_feedback_id_feedback")),
        sa.ForeignKeyConstraint(["pair_id"], ["feedback_pair.id"], name=op.f("fk_pair_vote_pair_id_feedback_pair")),
        sa.PrimaryKeyConstraint("pair_id", "feedback_id", name=op.f("pk_pair_vote")),
    )
    op.create_index(op.f("ix_pair_vote_feedback_id"), "pair_vote", ["feedback_id"], unique=False)
    op.create_table(
        "rater",
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("id_hash", sa.String(), nullable=False),
        sa.Column("blocked", sa.Boolean(), nullable=False),
        sa.Column("trusted", sa.Boolean(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.Float(precision=53), nullable=False),
        sa.Column("updated_by", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "id_hash", name=op.f("pk_rater")),
    )
    op.create_table(
        "retention",
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("last_run_at", sa.Float(precision=53), nullable=False),
        sa.Column("last_deleted", sa.BigInteger(), nullable=False),
        sa.Column("deleted", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", name=op.f("pk_retention")),
    )


def _find_people() -> None:
    for table in ("completion", "completion_vote"):
        op.create_index(
            op.f(f"ix_{table}_end_user_hash"),
            table,
            ["end_user_hash"],
            unique=False,
            sqlite_where=OF_SOMEBODY,
            postgresql_where=OF_SOMEBODY,
        )
    op.create_index(op.f("ix_feedback_rater_hash"), "feedback", ["rater_hash"], unique=False)
