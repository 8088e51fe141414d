"""What annotators are to judge and what they said, as tables. Columns only.

An item is two answers to one prompt, known by `item`; its sides are `first` and `second`, in the order of `item`, which
says nothing of quality or origin. Times are unix seconds (float, UTC).
"""

from typing import Any

from sqlalchemy import Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from gateway.storage.feedback_tables import Feedback
from gateway.storage.tables import Table


class AnnotationTask(Table):
    """Something to judge; one annotator at a time holds it."""

    __tablename__ = "annotation_task"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str]
    alias: Mapped[str]
    item: Mapped[str]
    sides: Mapped[list[Any]]
    """First and second: `completion_id` and `index`, or `pair_id` and `side` where one of them is no model's text."""
    purpose: Mapped[str]
    """comparison, contested, both_bad, review, alarm, audit, gold or repeat."""
    rater_hash: Mapped[str] = mapped_column(default="")
    """The only rater who may have it (gold, repeat); empty: anybody."""
    tier: Mapped[int]
    """Lower comes first; see `gateway/annotation/order.py`."""
    place: Mapped[float] = mapped_column(default=0.0)
    """Within a tier, lower comes first."""
    margin: Mapped[float | None]
    """How much more likely the model finds the side that people prefer, in nats per token; below 0 it is of another
    mind. Whoever has scored the pair fills it in."""
    wanted: Mapped[int] = mapped_column(default=1)
    """Verdicts that close it."""
    given: Mapped[int] = mapped_column(default=0)
    state: Mapped[str] = mapped_column(default="open")
    """open, done or gone (its texts were deleted)."""
    outcome: Mapped[str | None]
    """Of one that was adjudicated: first, second, discard or guideline_unclear."""
    left_first: Mapped[bool] = mapped_column(default=True)
    """Whether the holder sees the first side on the left; drawn anew with each claim."""
    holder: Mapped[str | None]
    lease_expires_at: Mapped[float | None]
    created_at: Mapped[float]

    __table_args__ = (
        UniqueConstraint("project_id", "item", "purpose", "rater_hash"),
        Index(None, "project_id", "state", "tier", "place", "created_at", "id"),
        Index(None, "project_id", "state", "margin"),
        Index(None, "holder"),
    )


class AnnotationRater(Table):
    """A rater who may not have a task (again): submitted or skipped it, or has an interest in it."""

    __tablename__ = "annotation_rater"
    task_id: Mapped[str] = mapped_column(primary_key=True)
    rater_hash: Mapped[str] = mapped_column(primary_key=True)


class AnnotationVerdict(Table):
    """What a rater said of a task."""

    __tablename__ = "annotation_verdict"
    id: Mapped[str] = mapped_column(primary_key=True)
    task_id: Mapped[str] = mapped_column(index=True)
    project_id: Mapped[str]
    alias: Mapped[str]
    item: Mapped[str]
    purpose: Mapped[str]
    rater_hash: Mapped[str]
    verdict: Mapped[str]
    """first, second, tie, both_bad, skip, discard or guideline_unclear."""
    left_first: Mapped[bool]
    right: Mapped[bool | None]
    """Of a gold task: whether the verdict is the known answer."""
    consistent: Mapped[bool | None]
    """Of a repeat: whether the verdict is that of the first time."""
    feedback_ids: Mapped[list[Any]]
    """The votes it became."""
    before: Mapped[list[Any]]
    """State and reason of the pairs it settled, as they were."""
    at: Mapped[float]
    undone_at: Mapped[float | None]

    __table_args__ = (Index(None, "project_id", "rater_hash", "at"), Index(None, "rater_hash", "item"))


class AnnotationGold(Table):
    """A comparison whose answer is known, to measure annotators by."""

    __tablename__ = "annotation_gold"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(index=True)
    alias: Mapped[str]
    item: Mapped[str]
    sides: Mapped[list[Any]]
    better: Mapped[str]
    """first or second."""
    note: Mapped[str]
    created_at: Mapped[float]
    retired_at: Mapped[float | None]


class AnnotationBallot(Table):
    """An active vote between exactly two choices, found by its item; made anew whenever the vote changes."""

    __tablename__ = "annotation_ballot"
    feedback_id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str]
    alias: Mapped[str]
    item: Mapped[str]
    rater_hash: Mapped[str]
    rater_kind: Mapped[str]
    verdict: Mapped[str]
    """first, second, tie or both_bad."""
    at: Mapped[float]

    __table_args__ = (
        Index(None, "project_id", "item"),
        Index(None, "rater_hash", "item"),
        Index(None, "alias", "at"),
    )


class AnnotationCursor(Table):
    """Up to which vote the ballots of a project were made."""

    __tablename__ = "annotation_cursor"
    project_id: Mapped[str] = mapped_column(primary_key=True)
    updated_at: Mapped[float]


class AnnotationJudgement(Table):
    """What the judge made of a task."""

    __tablename__ = "annotation_judgement"
    task_id: Mapped[str] = mapped_column(primary_key=True)
    alias: Mapped[str]
    state: Mapped[str]
    """consistent, inconsistent, unreadable, waiting (to be tried again) or failed."""
    attempts: Mapped[int]
    next_at: Mapped[float]
    feedback_id: Mapped[str | None]
    at: Mapped[float]


VOTES_BY_CHANGE = Index("ix_feedback_project_id_updated_at", Feedback.project_id, Feedback.updated_at)
"""So that what changed since the last look is found without reading all votes."""
