"""Counts over votes and pairs, and pairs page by page, over all projects or for one alias. No decision lives here."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.storage.database import Database
from gateway.storage.feedback_tables import Feedback, PairRow

PAGE = 1000
Counts = Sequence[Any]


async def count_votes(session: AsyncSession, alias: str | None) -> Counts:
    """(type, status, votes)."""
    return await _counts(session, Feedback, alias, Feedback.type, Feedback.status)


async def count_pairs_by_state(session: AsyncSession, alias: str | None) -> Counts:
    """(state, reason or None, pairs)."""
    return await _counts(session, PairRow, alias, PairRow.state, PairRow.reason)


async def count_sources(session: AsyncSession, alias: str | None) -> Counts:
    """(source, licence, pairs) of the eligible pairs; both None where a vote made them."""
    columns = (PairRow.body["source"].as_string(), PairRow.body["licence"].as_string())
    return await _counts(session, PairRow, alias, *columns, only=PairRow.state == "eligible")


async def count_raters(session: AsyncSession, alias: str | None) -> Counts:
    """(kind, raters) of the active votes."""
    conditions = [Feedback.status == "active"] + ([] if alias is None else [Feedback.alias == alias])
    raters = select(Feedback.rater_kind, func.count(Feedback.rater_hash.distinct())).where(*conditions)
    return (await session.execute(raters.group_by(Feedback.rater_kind).order_by(Feedback.rater_kind))).all()


async def count_days(session: AsyncSession, alias: str | None, since: float) -> Counts:
    """(day as `2026-11-27` in UTC, votes), from the day of `since` on, newest first."""
    if session.get_bind().dialect.name == "postgresql":
        day: ColumnElement[str] = func.to_char(
            func.timezone("UTC", func.to_timestamp(Feedback.created_at)), "YYYY-MM-DD"
        )
    else:
        day = func.date(Feedback.created_at, "unixepoch")
    days = _of_alias(select(day.label("day")), Feedback, alias).where(Feedback.created_at >= since).subquery()
    statement = select(days.c.day, func.count()).group_by(days.c.day).order_by(days.c.day.desc())
    return (await session.execute(statement)).all()


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
    session: AsyncSession,
    table: type[Feedback] | type[PairRow],
    alias: str | None,
    *columns: Any,
    only: ColumnElement[bool] | None = None,
) -> Counts:
    places = [f"c{number}" for number in range(len(columns))]
    chosen = _of_alias(select(*(one.label(place) for one, place in zip(columns, places, strict=True))), table, alias)
    rows = (chosen if only is None else chosen.where(only)).subquery()
    grouped = [rows.c[place] for place in places]
    statement = select(*grouped, func.count()).group_by(*grouped).order_by(*(one.nulls_first() for one in grouped))
    return (await session.execute(statement)).all()


def _of_alias(statement: Select[Any], table: type[Feedback] | type[PairRow], alias: str | None) -> Select[Any]:
    return statement if alias is None else statement.where(table.alias == alias)
