"""Imported pairs, many at a time: a few statements for a thousand. What they mean is decided in `gateway/feedback`."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Insert, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.storage.feedback_tables import Feedback, FeedbackRevision, PairRow
from gateway.storage.tables import Table

Values = dict[str, Any]


async def insert_votes(session: AsyncSession, rows: Sequence[Values]) -> set[str]:
    """Store those votes whose natural key the project does not have; returns the ids of the stored ones."""
    statement = _insert_new(session, Feedback).returning(Feedback.id)
    return set(await session.scalars(statement, list(rows)))


async def votes_by_key(session: AsyncSession, project_id: str, natural_keys: Collection[str]) -> dict[str, Feedback]:
    """The votes with these natural keys, by key, kept from other writers until the transaction ends."""
    statement = (
        select(Feedback)
        .where(Feedback.project_id == project_id, Feedback.natural_key.in_(list(natural_keys)))
        .order_by(Feedback.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return {vote.natural_key: vote for vote in await session.scalars(statement)}


async def insert_revisions(session: AsyncSession, rows: Sequence[Values]) -> None:
    """Append to the histories of votes."""
    await session.execute(insert(FeedbackRevision), list(rows))


async def insert_pairs(session: AsyncSession, rows: Sequence[Values]) -> None:
    """Store pairs."""
    await session.execute(insert(PairRow), list(rows))


def _insert_new(session: AsyncSession, table: type[Table]) -> Insert:
    if session.get_bind().dialect.name == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()
