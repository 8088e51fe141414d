"""Erasures, what is known of raters, and when old records were last deleted, as tables. Columns only; no text of users.

Times are unix seconds (float, UTC). Ids are those of `gateway/contracts/ids.py`.
"""

from typing import Any

from sqlalchemy import ForeignKey, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from gateway.storage.tables import Table

OF_SOMEBODY = text("end_user_hash IS NOT NULL")


class CompletionVote(Table):
    """Which votes are about which completions, and whose those were; outlives the completion, as its pairs do."""

    __tablename__ = "completion_vote"
    completion_id: Mapped[str] = mapped_column(primary_key=True)
    feedback_id: Mapped[str] = mapped_column(ForeignKey("feedback.id"), primary_key=True)
    end_user_hash: Mapped[str | None]

    __table_args__ = (
        Index(None, "feedback_id"),
        Index(None, "end_user_hash", sqlite_where=OF_SOMEBODY, postgresql_where=OF_SOMEBODY),
    )


class PairVote(Table):
    """A further vote that a pair follows from, besides the one it belongs to: the first of two ratings."""

    __tablename__ = "pair_vote"
    pair_id: Mapped[str] = mapped_column(ForeignKey("feedback_pair.id"), primary_key=True)
    feedback_id: Mapped[str] = mapped_column(ForeignKey("feedback.id"), primary_key=True, index=True)


class Erasure(Table):
    """The erasure of everything about one user: asked for, carried out step by step, and its receipt."""

    __tablename__ = "erasure"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str | None]
    """None: in all projects."""
    end_user_hash: Mapped[str]
    rater_hashes: Mapped[dict[str, Any]]
    """Project id to the user's hash as a rater there."""
    policy: Mapped[str]
    """flag, schedule_retrain or block."""
    state: Mapped[str]
    """queued, rows, datasets, releases or done: the step that is under way."""
    counts: Mapped[dict[str, Any]]
    """How many of what were deleted so far."""
    datasets: Mapped[dict[str, Any]]
    """Data sets that held pairs of the user, each with the one that replaces it; None: nothing was left."""
    releases: Mapped[list[Any]]
    """Ids of the releases that were trained on them."""
    runs: Mapped[list[Any]]
    """Ids of the training runs that were queued."""
    receipt: Mapped[dict[str, Any] | None]
    actor: Mapped[str]
    created_at: Mapped[float]
    updated_at: Mapped[float]
    finished_at: Mapped[float | None]
    checked_at: Mapped[float | None]
    """When it was looked again for what was under way while it ran."""


class Tombstone(Table):
    """The id of something that was erased."""

    __tablename__ = "tombstone"
    id: Mapped[str] = mapped_column(primary_key=True)
    erasure_id: Mapped[str] = mapped_column(ForeignKey("erasure.id"), index=True)


class RaterRow(Table):
    """What an operator decided about a rater."""

    __tablename__ = "rater"
    project_id: Mapped[str] = mapped_column(primary_key=True)
    id_hash: Mapped[str] = mapped_column(primary_key=True)
    blocked: Mapped[bool] = mapped_column(default=False)
    """Votes are held, the ones before and those to come."""
    trusted: Mapped[bool] = mapped_column(default=False)
    """No cap binds this rater."""
    note: Mapped[str] = mapped_column(Text, default="")
    updated_at: Mapped[float]
    updated_by: Mapped[str]


class RetentionRow(Table):
    """When records of a kind that are too old were last deleted, and how many."""

    __tablename__ = "retention"
    kind: Mapped[str] = mapped_column(primary_key=True)
    last_run_at: Mapped[float]
    last_deleted: Mapped[int]
    deleted: Mapped[int]
    """In all."""
