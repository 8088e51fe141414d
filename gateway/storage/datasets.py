"""Frozen data sets as rows, and what they are made from: narrow rows first, texts only of what is left."""

from collections.abc import AsyncIterator, Sequence
from functools import lru_cache
from typing import Any, TypeVarTuple

from sqlalchemy import Select, func, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DataError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.elements import ColumnElement

from gateway.contracts import notice
from gateway.storage.bare import Spoken, fetch
from gateway.storage.feedback_tables import Dataset, Feedback, PairRow, PromptSide
from gateway.storage.notifications import note
from gateway.storage.tables import Alias
from gateway.storage.upsert import plain_table

ROWS_AT_A_TIME = 1000
Columns = TypeVarTuple("Columns")
_PAIR, _ALIAS = plain_table(PairRow).c, plain_table(Alias).c
"""A statement on columns of the tables alone passes the ORM by, which matters for a million rows."""
NARROW = (
    _PAIR.id,
    _PAIR.feedback_id,
    _PAIR.prompt_hash,
    _PAIR.chosen_digest,
    _PAIR.rejected_digest,
    _PAIR.rater_hash,
    _PAIR.rater_kind,
    _PAIR.rater_trusted,
    _PAIR.basis,
    _PAIR.source,
    _PAIR.weight,
    _PAIR.created_at,
    _PAIR.chosen_release,
    _PAIR.rejected_release,
)

_SETTLED = ("alias", "prompt_hash", "side", "number", "cluster", "bridges", "signature")
_BODIES = Spoken(
    sqlite="SELECT CAST(group_concat(json_quote(id) || ':' || body) AS BLOB) "
    "FROM feedback_pair WHERE id IN (SELECT value FROM json_each(?))",
    postgresql="SELECT convert_to(string_agg(to_json(id)::text || ':' || body::text, ','), 'UTF8') "
    "FROM feedback_pair WHERE id = ANY($1::text[])",
)


async def count_pairs(session: AsyncSession, alias: str) -> dict[tuple[str, str | None], int]:
    """The pairs of an alias and its own project by state and reason."""
    own = select(func.count()).select_from(PairRow).join(Alias, own_project()).where(PairRow.alias == alias)
    eligible = await session.scalar(own.where(PairRow.state == "eligible"))  # most of them, and grouping sorts
    others = own.add_columns(PairRow.state, PairRow.reason).where(PairRow.state != "eligible")
    grouped = await session.execute(others.group_by(PairRow.state, PairRow.reason))
    return {("eligible", None): eligible or 0} | {(row[1], row[2]): row[0] for row in grouped}


async def narrow_pairs(session: AsyncSession, alias: str) -> AsyncIterator[Sequence[Any]]:
    """The eligible pairs of an alias and its own project, as `NARROW`, those of one prompt together; many at a time."""
    statement = (
        select(*NARROW)
        .join_from(plain_table(PairRow), plain_table(Alias), own_project())
        .where(_PAIR.alias == alias, _PAIR.state == "eligible")
        .order_by(_PAIR.prompt_hash, _PAIR.created_at, _PAIR.id)
        .execution_options(yield_per=10_000)
    )
    result = await session.stream(statement)
    async for rows in result.partitions():
        yield rows


async def has_unsettled(session: AsyncSession, alias: str) -> bool:
    """Whether there is a prompt with eligible pairs and no side yet."""
    return await session.scalar(_unsettled(select(PairRow.id), alias).limit(1)) is not None


async def unsettled_prompts(session: AsyncSession, alias: str) -> list[tuple[str, str]]:
    """Prompts with eligible pairs and no side yet, oldest first: the hash, and the id of a pair that has its text."""
    wanted = _unsettled(select(PairRow.prompt_hash, func.min(PairRow.id)), alias)
    statement = wanted.group_by(PairRow.prompt_hash).order_by(func.min(PairRow.created_at), PairRow.prompt_hash)
    return [(row[0], row[1]) for row in await session.execute(statement)]


def _unsettled(wanted: Select[*Columns], alias: str) -> Select[*Columns]:
    known = (
        select(PromptSide.prompt_hash)
        .where(PromptSide.alias == PairRow.alias, PromptSide.prompt_hash == PairRow.prompt_hash)
        .exists()
    )
    return wanted.join(Alias, own_project()).where(PairRow.alias == alias, PairRow.state == "eligible", ~known)


async def pairs_of_prompts(session: AsyncSession, alias: str, hashes: Sequence[str]) -> dict[str, str]:
    """The id of some pair about each of these prompts; those that no pair is about any more are left out."""
    some: dict[str, str] = {}
    for begin in range(0, len(hashes), ROWS_AT_A_TIME):
        about = PairRow.prompt_hash.in_(hashes[begin : begin + ROWS_AT_A_TIME])
        statement = select(PairRow.prompt_hash, func.min(PairRow.id)).where(PairRow.alias == alias, about)
        some.update((row[0], row[1]) for row in await session.execute(statement.group_by(PairRow.prompt_hash)))
    return some


async def bodies_of(session: AsyncSession, ids: Sequence[str]) -> list[bytes]:
    """The pairs (a `FeedbackPair` each) by id, in JSON objects of many.

    One row of a thousand pairs, not a thousand rows: whatever else is at work, each row waits for Python's lock.
    """
    found: list[bytes] = []
    for begin in range(0, len(ids), ROWS_AT_A_TIME):
        found += await _bodies(session, ids[begin : begin + ROWS_AT_A_TIME])
    return found


async def _bodies(session: AsyncSession, ids: Sequence[str]) -> list[bytes]:
    try:
        return [b"{%b}" % (members or b"") for (members,) in await fetch(session, _BODIES, ids)]
    except DataError:  # longer than a value may be on SQLite
        if len(ids) == 1:
            raise
    half = len(ids) // 2
    return await _bodies(session, ids[:half]) + await _bodies(session, ids[half:])


async def settle_prompts(session: AsyncSession, rows: Sequence[dict[str, Any]]) -> None:
    """Write the sides of prompts for good; one that somebody settled meanwhile stays."""
    connection = await session.connection()
    for begin in range(0, len(rows), ROWS_AT_A_TIME):
        some = rows[begin : begin + ROWS_AT_A_TIME]
        if connection.dialect.name == "postgresql":
            await session.execute(postgresql.insert(plain_table(PromptSide)).on_conflict_do_nothing(), list(some))
        else:  # one statement, as with `bodies_of`
            values = tuple(row[name] for row in some for name in _SETTLED)
            await connection.exec_driver_sql(_settling(len(some)), values)


@lru_cache(maxsize=1)
def _settling(rows: int) -> str:
    places = ", ".join(["(" + ", ".join("?" * len(_SETTLED)) + ")"] * rows)
    return f"INSERT INTO prompt_side ({', '.join(_SETTLED)}) VALUES {places} ON CONFLICT DO NOTHING"


async def record_dataset(
    session: AsyncSession, dataset_id: str, *, alias: str, location: str, card: dict[str, Any], now: float
) -> Dataset:
    """Record a frozen data set; `location` is its folder, relative to the release store."""
    row = Dataset(id=dataset_id, alias=alias, location=location, card=card, created_at=now)
    session.add(row)
    await session.flush()
    if (alarming := notice.alarm(alias, dataset_id, card.get("alarms", {}))) is not None:
        await note(session, alarming)
    return row


async def find_dataset(session: AsyncSession, dataset_id: str) -> Dataset | None:
    """The data set with this id."""
    return await session.get(Dataset, dataset_id)


async def list_datasets(session: AsyncSession, alias: str | None = None) -> Sequence[Dataset]:
    """The data sets, newest first; those of one alias, or all."""
    statement = select(Dataset).order_by(Dataset.created_at.desc(), Dataset.id.desc())
    if alias is not None:
        statement = statement.where(Dataset.alias == alias)
    return (await session.scalars(statement)).all()


async def shown_first(session: AsyncSession, alias: str) -> dict[str, tuple[int, int]]:
    """By rater, how often the choice stood first where the order is known, and how often it is known."""
    first = Feedback.body["shown"][0].as_string()
    statement = (
        select(Feedback.rater_hash, first, func.count())
        .join(Alias, (Alias.name == Feedback.alias) & (Alias.project_id == Feedback.project_id))
        .where(Feedback.alias == alias, Feedback.type == "preference", Feedback.status == "active", first.is_not(None))
        .group_by(Feedback.rater_hash, first)
    )
    found: dict[str, tuple[int, int]] = {}
    for rater, side, count in await session.execute(statement):
        left, total = found.get(rater, (0, 0))
        found[rater] = (left + count * (side == "chosen"), total + count)
    return found


async def taken_back(session: AsyncSession, feedback_ids: Sequence[str], since: float) -> int:
    """How many of these votes were retracted, changed or erased since a moment."""
    standing = 0
    for begin in range(0, len(feedback_ids), ROWS_AT_A_TIME):
        piece = feedback_ids[begin : begin + ROWS_AT_A_TIME]
        counted = select(func.count()).where(
            Feedback.id.in_(piece), Feedback.status == "active", Feedback.updated_at <= since
        )
        standing += await session.scalar(counted) or 0
    return len(feedback_ids) - standing


def own_project() -> ColumnElement[bool]:
    """Joins pairs with their alias where they are of its own project: another's votes never train it."""
    return (_ALIAS.name == _PAIR.alias) & (_ALIAS.project_id == _PAIR.project_id)
