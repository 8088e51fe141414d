"""Counts over votes and pairs, and pairs page by page, over all projects or for one alias. No decision lives here.

Counts are read from where the database keeps them: a million votes are counted as fast as ten.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVarTuple

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.storage.database import Database
from gateway.storage.feedback_tables import PairRow, PairTally, RaterTally, VoteTally

PAGE = 1000
Counts = Sequence[Any]
Columns = TypeVarTuple("Columns")
Tallied = VoteTally | PairTally


async def count_votes(session: AsyncSession, alias: str | None) -> Counts:
    """(type, status, votes)."""
    return await _counts(session, VoteTally, alias, VoteTally.type, VoteTally.status)


async def count_pairs_by_state(session: AsyncSession, alias: str | None) -> Counts:
    """(state, reason or None, pairs)."""
    return await _counts(session, PairTally, alias, PairTally.state, PairTally.reason)


async def count_sources(session: AsyncSession, alias: str | None) -> Counts:
    """(source, licence, pairs) of the eligible pairs; both None where a vote made them."""
    eligible = PairTally.state == "eligible"
    return await _counts(session, PairTally, alias, PairTally.source, PairTally.licence, only=eligible)


async def count_raters(session: AsyncSession, alias: str | None) -> Counts:
    """(kind, raters) of the active votes."""
    voted = select(RaterTally.rater_kind, RaterTally.rater_hash).group_by(RaterTally.rater_kind, RaterTally.rater_hash)
    raters = _of_alias(voted, RaterTally, alias).having(func.sum(RaterTally.count) > 0).subquery()
    kind = raters.c.rater_kind
    return (await session.execute(select(kind, func.count()).group_by(kind).order_by(kind))).all()


async def count_days(session: AsyncSession, alias: str | None, since: float) -> Counts:
    """(day as `2026-11-27` in UTC, votes), from the day of `since` on, newest first."""
    first = datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%d")
    counted = await _counts(session, VoteTally, alias, VoteTally.day, only=VoteTally.day >= first)
    return counted[::-1]


async def eligible_bodies(database: Database, alias: str | None) -> AsyncIterator[dict[str, Any]]:
    """The body of every pair that may train, by id, each page in a transaction of its own: writers wait for none."""
    after = ""
    while True:
        statement = select(PairRow.id, PairRow.body).where(PairRow.state == "eligible", PairRow.id > after)
        async with database.read() as session:
            page = (await session.execute(_of_alias(statement, PairRow, alias).order_by(PairRow.id).limit(PAGE))).all()
        for _, body in page:
            yield body
        if len(page) < PAGE:
            return
        after = page[-1][0]


async def _counts(
    session: AsyncSession, table: type[Tallied], alias: str | None, *by: Any, only: ColumnElement[bool] | None = None
) -> Counts:
    """What is counted by these columns, None where there is nothing, and how many; those with nothing first."""
    total = func.sum(table.count)
    grouped = _of_alias(select(*by, total), table, alias).group_by(*by).having(total > 0).order_by(*by)
    rows = await session.execute(grouped if only is None else grouped.where(only))
    return [(*(value or None for value in row[:-1]), int(row[-1])) for row in rows]


def _of_alias(
    statement: Select[*Columns], table: type[PairRow | VoteTally | PairTally | RaterTally], alias: str | None
) -> Select[*Columns]:
    return statement if alias is None else statement.where(table.alias == alias)
