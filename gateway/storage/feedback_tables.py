"""What models wrote, what people said of it, and what was trained on that, as tables. Columns only.

Times are unix seconds (float, UTC). Ids are those of `gateway/contracts/ids.py`.
"""

from typing import Any

from sqlalchemy import ForeignKey, Index, LargeBinary, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from gateway.storage.privacy_tables import OF_SOMEBODY
from gateway.storage.tables import Table

WITHOUT_ROWID = {"sqlite_with_rowid": False}
"""SQLite keeps the rows in their key's own tree: one is found and counted up in half the time."""
NOT_ACTIVE = text("status <> 'active'")
"""Few votes have an index of their own, which a query must name in these words to be answered from it."""


class Completion(Table):
    """What a release wrote for a prompt."""

    __tablename__ = "completion"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str]
    key_id: Mapped[str]
    alias: Mapped[str]
    release_id: Mapped[str]
    status: Mapped[str]
    """finished, failed (the engine broke off) or aborted (the client left)."""
    messages: Mapped[list[Any]]
    parameters: Mapped[dict[str, Any]]
    """Everything of the request but its messages: sampling, tools, response format."""
    choices: Mapped[list[Any]]
    """Per choice: index, message, finish_reason."""
    usage: Mapped[dict[str, Any]]
    end_user_hash: Mapped[str | None]
    created_at: Mapped[float]
    first_chunk_seconds: Mapped[float | None]
    total_seconds: Mapped[float]
    call_metadata: Mapped[dict[str, Any]]

    __table_args__ = (
        Index(None, "project_id", "created_at"),
        Index(None, "release_id", "created_at"),
        Index(None, "end_user_hash", sqlite_where=OF_SOMEBODY, postgresql_where=OF_SOMEBODY),
    )


class Feedback(Table):
    """One voter's current word on one thing; `natural_key` makes a repeated vote the same record."""

    __tablename__ = "feedback"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str]
    alias: Mapped[str | None]
    natural_key: Mapped[str]
    type: Mapped[str]
    status: Mapped[str]
    """active, held, superseded or retracted."""
    revision: Mapped[int]
    rater_hash: Mapped[str]
    rater_kind: Mapped[str]
    rater_trusted: Mapped[bool] = mapped_column(default=False)
    key_id: Mapped[str | None]
    """The key that sent it."""
    prompt_hash: Mapped[str | None]
    leaning: Mapped[str | None]
    """Of a rating: up, down or neither."""
    body: Mapped[dict[str, Any]]
    target: Mapped[dict[str, Any]]
    created_at: Mapped[float]
    updated_at: Mapped[float]

    __table_args__ = (
        UniqueConstraint("project_id", "natural_key"),
        Index("ix_feedback_page", "project_id", "created_at", "id", "type", "status"),
        Index(
            "ix_feedback_not_active", "project_id", "status", "created_at", "id",
            sqlite_where=NOT_ACTIVE, postgresql_where=NOT_ACTIVE,
        ),
        Index(None, "rater_hash"),
        Index(None, "project_id", "prompt_hash", "rater_hash"),
    )  # fmt: skip


class FeedbackRevision(Table):
    """Every body a feedback ever had; append-only."""

    __tablename__ = "feedback_revision"
    feedback_id: Mapped[str] = mapped_column(ForeignKey("feedback.id"), primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[dict[str, Any]]
    at: Mapped[float]


class PairRow(Table):
    """A pair derived from feedback, and whether it may train."""

    __tablename__ = "feedback_pair"
    id: Mapped[str] = mapped_column(primary_key=True)
    feedback_id: Mapped[str] = mapped_column(ForeignKey("feedback.id"), index=True)
    project_id: Mapped[str]
    alias: Mapped[str]
    prompt_hash: Mapped[str]
    state: Mapped[str]
    """eligible, held or excluded."""
    reason: Mapped[str | None]
    body: Mapped[dict[str, Any]]
    """A `FeedbackPair`."""
    created_at: Mapped[float]
    # What the rules of data sets look at, so that they need not read the texts of a million pairs:
    chosen_digest: Mapped[int] = mapped_column(default=0)
    rejected_digest: Mapped[int] = mapped_column(default=0)
    """Of the texts, 64 bits; the same for the same text."""
    rater_hash: Mapped[str] = mapped_column(default="")
    rater_kind: Mapped[str] = mapped_column(default="end_user")
    rater_trusted: Mapped[bool] = mapped_column(default=False)
    basis: Mapped[str] = mapped_column(default="preference")
    source: Mapped[str | None]
    weight: Mapped[float] = mapped_column(default=1.0)
    chosen_release: Mapped[str | None]
    rejected_release: Mapped[str | None]

    __table_args__ = (
        Index(None, "alias", "state", "created_at"),
        Index(
            "ix_feedback_pair_rules", "alias", "prompt_hash", "created_at", "id", "state", "reason", "project_id",
            "feedback_id", "chosen_digest", "rejected_digest", "rater_hash", "rater_kind", "rater_trusted", "basis",
            "source", "weight", "chosen_release", "rejected_release",
        ),
    )  # fmt: skip


class VoteTally(Table):
    """How many votes there are of a kind, a day. Triggers of the database keep the tallies (migration 0017)."""

    __tablename__ = "vote_tally"
    __table_args__ = WITHOUT_ROWID
    alias: Mapped[str] = mapped_column(primary_key=True)
    """Empty for a vote without one, as whatever else a tally knows nothing of."""
    day: Mapped[str] = mapped_column(primary_key=True)
    """As `2026-11-27`, in UTC."""
    type: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(primary_key=True)
    slot: Mapped[int] = mapped_column(primary_key=True)
    """Of PostgreSQL's connection, so that none waits for another one; a count is the sum over slots."""
    count: Mapped[int]


class PairTally(Table):
    """How many pairs there are of a kind; as `VoteTally`."""

    __tablename__ = "pair_tally"
    __table_args__ = WITHOUT_ROWID
    alias: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(primary_key=True)
    licence: Mapped[str] = mapped_column(primary_key=True)
    slot: Mapped[int] = mapped_column(primary_key=True)
    count: Mapped[int]


class RaterTally(Table):
    """How many active votes a rater has; as `VoteTally`."""

    __tablename__ = "rater_tally"
    __table_args__ = WITHOUT_ROWID
    alias: Mapped[str] = mapped_column(primary_key=True)
    rater_kind: Mapped[str] = mapped_column(primary_key=True)
    rater_hash: Mapped[str] = mapped_column(primary_key=True, index=True)
    slot: Mapped[int] = mapped_column(primary_key=True)
    count: Mapped[int]


class PromptSide(Table):
    """On which side of the split a prompt lies; written once, never changed."""

    __tablename__ = "prompt_side"
    alias: Mapped[str] = mapped_column(primary_key=True)
    prompt_hash: Mapped[str] = mapped_column(primary_key=True)
    side: Mapped[str]
    """train or holdout."""
    number: Mapped[int]
    """Counts the prompts of an alias in the order in which they were settled."""
    cluster: Mapped[str]
    """The prompt with which its cluster of near-duplicates began."""
    bridges: Mapped[bool] = mapped_column(default=False)
    """It resembles prompts of both sides, and is used on neither."""
    signature: Mapped[bytes] = mapped_column(LargeBinary)
    """MinHash; see `gateway/datasets/signatures.py`."""


class Dataset(Table):
    """A frozen set of pairs in the release store."""

    __tablename__ = "dataset"
    id: Mapped[str] = mapped_column(primary_key=True)
    alias: Mapped[str] = mapped_column(ForeignKey("alias.name"), index=True)
    location: Mapped[str] = mapped_column(Text)
    card: Mapped[dict[str, Any]]
    created_at: Mapped[float]
    unused_since: Mapped[float | None]
    """When the last release trained on it could be deployed no more."""
    removed_at: Mapped[float | None]
    """When its files were deleted: too old, or by an erasure."""
    erasure_id: Mapped[str | None]
    """The erasure that removed it: what was trained on it is tainted."""
    replaced_by: Mapped[str | None]
    """The data set without the pairs that were erased."""


class Run(Table):
    """A training run: asked for by a trigger, carried out by an aligner that holds its lease."""

    __tablename__ = "run"
    id: Mapped[str] = mapped_column(primary_key=True)
    alias: Mapped[str] = mapped_column(ForeignKey("alias.name"), index=True)
    state: Mapped[str]
    trigger: Mapped[str]
    actor: Mapped[str]
    options: Mapped[dict[str, Any]]
    training_file: Mapped[str | None]
    """An uploaded file or a frozen data set; None: the votes of the alias."""
    validation_file: Mapped[str | None]
    """The same, to measure on; None: what the data holds out."""
    asked: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Of a fine-tuning job: what its creator said and gets back (`gateway/rollout/fine_tuning.py`)."""
    asked_sha256: Mapped[str | None]
    """Of the request that made it: a repeated one gets the same job."""
    dataset_id: Mapped[str | None]
    release_id: Mapped[str | None]
    stage: Mapped[str] = mapped_column(default="")
    progress: Mapped[float] = mapped_column(default=0.0)
    """Share of the whole run that is done, 0 to 1."""
    error: Mapped[str | None] = mapped_column(Text)
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    pause_requested: Mapped[bool] = mapped_column(default=False)
    holder: Mapped[str | None]
    lease_expires_at: Mapped[float | None]
    attempts: Mapped[int] = mapped_column(default=0)
    allow_downtime: Mapped[bool] = mapped_column(default=False)
    """Whether it may borrow the only engine of its alias outside the maintenance window."""
    effort: Mapped[dict[str, Any] | None]
    """What training took: device, peak memory, seconds and steps (`gateway/contracts/placement.py`)."""
    created_at: Mapped[float]
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]


class RunEvent(Table):
    """What happened in a run, in order; metrics carry `data`."""

    __tablename__ = "run_event"
    id: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("run.id"), index=True)
    type: Mapped[str]
    """message, metrics or checkpoint."""
    level: Mapped[str]
    message: Mapped[str] = mapped_column(Text)
    data: Mapped[dict[str, Any]]
    at: Mapped[float]
