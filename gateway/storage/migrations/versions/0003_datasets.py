"""What the rules of data sets look at beside the pairs; sides with clusters and signatures"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pair_columns: tuple[sa.Column[object], ...] = (
        sa.Column("chosen_digest", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("rejected_digest", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("rater_hash", sa.String(), nullable=False, server_default=""),
        sa.Column("rater_kind", sa.String(), nullable=False, server_default="end_user"),
        sa.Column("rater_trusted", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("basis", sa.String(), nullable=False, server_default="preference"),
        sa.Column("source", sa.String(), nullable=True),
        sa.Column("weight", sa.Float(precision=53), nullable=False, server_default="1"),
        sa.Column("chosen_release", sa.String(), nullable=True),
        sa.Column("rejected_release", sa.String(), nullable=True),
    )
    for column in pair_columns:
        op.add_column("feedback_pair", column)
    op.create_index(op.f("ix_feedback_pair_alias_prompt_hash"), "feedback_pair", ["alias", "prompt_hash"])
    op.drop_table("prompt_side")  # none was ever used: nothing of it could be kept without signatures
    op.create_table(
        "prompt_side",
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("prompt_hash", sa.String(), nullable=False),
        sa.Column("side", sa.String(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("cluster", sa.String(), nullable=False),
        sa.Column("bridges", sa.Boolean(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("alias", "prompt_hash", name=op.f("pk_prompt_side")),
    )
