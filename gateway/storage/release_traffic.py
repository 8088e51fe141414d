"""What releases answered lately and what was said of them. Every query reads a bounded number of rows by an index."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.storage.feedback_tables import Completion, Feedback, PairRow
from gateway.storage.privacy_tables import CompletionVote
from gateway.storage.tables import Alias

COMPARING = ("preference", "ranking")
"""Bases of pairs in which somebody chose between two answers that lay side by side."""


async def counts_by_status(
    session: AsyncSession, release_id: str, since: float, until: float, limit: int
) -> dict[str, int]:
    """How the newest completions of a release in a span ended."""
    newest = _of(select(Completion.status), release_id, since, until, limit).subquery()
    found = await session.execute(select(newest.c.status, func.count()).group_by(newest.c.status))
    return {status: count for status, count in found}  # noqa: C416  (rows, for the type's sake)


async def newest_choices(
    session: AsyncSession, release_id: str, since: float, until: float, limit: int
) -> Sequence[list[Any]]:
    """What the newest finished completions say."""
    statement = select(Completion.choices).where(Completion.status == "finished")
    return (await session.scalars(_of(statement, release_id, since, until, limit))).all()


async def first_chunk_seconds(
    session: AsyncSession, release_id: str, since: float, until: float, limit: int
) -> tuple[float, ...]:
    """How long the newest answers let wait for their first token."""
    statement = select(Completion.first_chunk_seconds).where(Completion.first_chunk_seconds.is_not(None))
    found = await session.scalars(_of(statement, release_id, since, until, limit))
    return tuple(seconds for seconds in found if seconds is not None)


def _of(statement: Any, release_id: str, since: float, until: float, limit: int) -> Any:
    span = Completion.created_at >= since, Completion.created_at < until
    return (
        statement.where(Completion.release_id == release_id, *span).order_by(Completion.created_at.desc()).limit(limit)
    )


async def comparisons(
    session: AsyncSession, alias: str, releases: tuple[str, str], since: float, limit: int
) -> Sequence[tuple[str, str, str]]:
    """Rater, prompt and chosen release of pairs of the alias' own project between two releases, oldest first."""
    statement = (
        select(PairRow.rater_hash, PairRow.prompt_hash, PairRow.chosen_release)
        .join(Alias, (Alias.name == PairRow.alias) & (Alias.project_id == PairRow.project_id))
        .where(PairRow.alias == alias, PairRow.state == "eligible", PairRow.created_at >= since)
        .where(PairRow.basis.in_(COMPARING))
        .where(PairRow.chosen_release.in_(releases), PairRow.rejected_release.in_(releases))
        .where(PairRow.chosen_release != PairRow.rejected_release)
        .order_by(PairRow.created_at, PairRow.id)
        .limit(limit)
    )
    return [tuple(row) for row in await session.execute(statement)]  # type: ignore[misc]


async def thumbs(
    session: AsyncSession, alias: str, release_id: str, since: float, until: float, limit: int, *, newest: bool
) -> Sequence[tuple[str, str, float]]:
    """Rater, leaning and time of the newest or the oldest ratings of a release in a span, by the alias' own project."""
    # Looked up by its id for each rating: joined, SQLite would go through all that the release ever wrote instead.
    wrote = select(Completion.release_id).where(Completion.id == CompletionVote.completion_id).scalar_subquery()
    order = Feedback.created_at.desc() if newest else Feedback.created_at
    statement = (
        select(Feedback.rater_hash, Feedback.leaning, Feedback.created_at)
        .join(Alias, (Alias.name == Feedback.alias) & (Alias.project_id == Feedback.project_id))
        .join(CompletionVote, CompletionVote.feedback_id == Feedback.id)
        .where(Feedback.alias == alias, Feedback.type == "rating", Feedback.status == "active")
        .where(Feedback.leaning.is_not(None), Feedback.created_at >= since, Feedback.created_at < until)
        .where(wrote == release_id)
        .order_by(order)
        .limit(limit)
    )
    return [tuple(row) for row in await session.execute(statement)]  # type: ignore[misc]
