"""Digests of completions as rows: which are missing, put them in, find by them."""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import exists, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.storage.feedback_tables import Completion
from gateway.storage.lookup_tables import CompletionLookup

ROWS_PER_STATEMENT = 1000


class Found(NamedTuple):
    """A choice of a completion."""

    completion_id: str
    choice: int


async def unindexed(
    session: AsyncSession, project_id: str, marker: str, overlap_seconds: float, limit: int
) -> Sequence[Completion]:
    """Completions of the project that have no row with the digest `marker`, oldest first.

    Looked for from `overlap_seconds` before the newest that has one: answers that took long were begun before others
    that were recorded earlier.
    """
    newest = await session.scalar(
        select(func.max(CompletionLookup.created_at)).where(
            CompletionLookup.project_id == project_id, CompletionLookup.digest == marker
        )
    )
    known = exists().where(CompletionLookup.digest == marker, CompletionLookup.completion_id == Completion.id)
    statement = select(Completion).where(Completion.project_id == project_id, ~known)
    if newest is not None:
        statement = statement.where(Completion.created_at >= newest - overlap_seconds)
    return (await session.scalars(statement.order_by(Completion.created_at, Completion.id).limit(limit))).all()


async def add_digests(session: AsyncSession, rows: Sequence[dict[str, object]]) -> None:
    """Put rows in; those that another worker put in meanwhile stay."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    for begin in range(0, len(rows), ROWS_PER_STATEMENT):
        piece = rows[begin : begin + ROWS_PER_STATEMENT]
        await session.execute(insert(CompletionLookup).on_conflict_do_nothing(), piece)


async def find_by_digests(session: AsyncSession, project_id: str, digests: Collection[str]) -> list[Found]:
    """The choices that have every one of the digests, at most a few more than one."""
    has = (CompletionLookup.project_id == project_id, CompletionLookup.digest.in_(digests))
    statement = (
        select(CompletionLookup.completion_id, CompletionLookup.choice)
        .where(*has)
        .group_by(CompletionLookup.completion_id, CompletionLookup.choice)
        .having(func.count() == len(digests))
        .order_by(CompletionLookup.completion_id.desc())
        .limit(10)
    )
    return [Found(*row) for row in await session.execute(statement)]


async def keys_of(session: AsyncSession, ids: Iterable[str]) -> dict[str, str]:
    """Which key each completion was made with."""
    rows = await session.execute(select(Completion.id, Completion.key_id).where(Completion.id.in_(list(ids))))
    return {row.id: row.key_id for row in rows}
