"""Feedback pairs and the side of their prompts as rows. What is eligible is decided in `gateway/feedback`."""

from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts.pair import FeedbackPair
from gateway.storage.feedback_tables import PairRow, PromptSide
from gateway.storage.upsert import plain_table


async def add_pair(session: AsyncSession, pair: FeedbackPair, alias: str, state: str, reason: str | None) -> PairRow:
    """Store a pair derived from the first of its votes."""
    row = pair_row(pair, alias, state, reason)
    session.add(row)
    await session.flush()
    return row


async def add_pairs(session: AsyncSession, many: Sequence[PairRow]) -> None:
    """Store pairs with one statement; the objects are not the session's."""
    table = plain_table(PairRow)
    columns = table.columns.keys()
    if many:
        await session.execute(insert(table), [{name: getattr(row, name) for name in columns} for row in many])


def pair_row(pair: FeedbackPair, alias: str, state: str, reason: str | None) -> PairRow:
    """A pair as a row, not stored yet."""
    return PairRow(
        id=pair.id,
        feedback_id=pair.feedback_ids[0],
        project_id=pair.project_id,
        alias=alias,
        prompt_hash=pair.prompt_hash,
        state=state,
        reason=reason,
        body=pair.model_dump(mode="json", exclude_none=True),
        created_at=pair.judged_at.timestamp(),
    )


async def exclude_pairs(session: AsyncSession, feedback_id: str, reason: str, *, but_not: str) -> None:
    """Take all pairs of a vote out of training, except those already taken out for the reason `but_not`."""
    still_counting = or_(PairRow.reason.is_(None), PairRow.reason != but_not)
    await session.execute(
        update(PairRow)
        .where(PairRow.feedback_id == feedback_id, still_counting)
        .values(state="excluded", reason=reason)
        .execution_options(synchronize_session=False)
    )


async def pairs_of_feedback(
    session: AsyncSession, feedback_ids: Iterable[str], *, but_not: str
) -> dict[str, list[PairRow]]:
    """The pairs of each vote, in the order they were derived, without those excluded for the reason `but_not`."""
    pairs: dict[str, list[PairRow]] = {feedback_id: [] for feedback_id in feedback_ids}
    statement = (
        select(PairRow)
        .where(PairRow.feedback_id.in_(list(pairs)), or_(PairRow.reason.is_(None), PairRow.reason != but_not))
        .order_by(PairRow.id)
        .execution_options(populate_existing=True)
    )
    for row in await session.scalars(statement):
        pairs[row.feedback_id].append(row)
    return pairs


async def eligible_pairs(session: AsyncSession, alias: str, side: str | None = None) -> Sequence[PairRow]:
    """The pairs of an alias that may train, oldest first; of one side of the split, or of both."""
    statement = select(PairRow).where(PairRow.alias == alias, PairRow.state == "eligible")
    if side is not None:
        statement = statement.join(PromptSide, _same_prompt()).where(PromptSide.side == side)
    return (await session.scalars(statement.order_by(PairRow.created_at, PairRow.id))).all()


async def count_held_out(session: AsyncSession, alias: str, *, at_most: int) -> int:
    """How many eligible pairs of the alias are held out; counts no further than `at_most`."""
    held_out = (
        select(PairRow.id)
        .join(PromptSide, _same_prompt())
        .where(PairRow.alias == alias, PairRow.state == "eligible", PromptSide.side == "holdout")
        .limit(at_most)
    )
    return await session.scalar(select(func.count()).select_from(held_out.subquery())) or 0


async def side_of_prompt(session: AsyncSession, alias: str, prompt_hash: str) -> str | None:
    """The side that was settled for a prompt, if any was."""
    statement = select(PromptSide.side).where(PromptSide.alias == alias, PromptSide.prompt_hash == prompt_hash)
    return await session.scalar(statement)


async def settle_side(session: AsyncSession, alias: str, prompt_hash: str, side: str) -> str:
    """Settle the side of a prompt for good; returns what stands, which is another's word if that came first."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    values = {"alias": alias, "prompt_hash": prompt_hash, "side": side}
    await session.execute(insert(PromptSide).values(values).on_conflict_do_nothing())
    settled = await side_of_prompt(session, alias, prompt_hash)
    return side if settled is None else settled


async def settle_sides(session: AsyncSession, alias: str, sides: Sequence[tuple[str, str]]) -> None:
    """Settle the sides of prompts (hash, side) that have none yet."""
    insert_into = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    values = [{"alias": alias, "prompt_hash": prompt_hash, "side": side} for prompt_hash, side in sides]
    await session.execute(insert_into(plain_table(PromptSide)).on_conflict_do_nothing(), values)


def _same_prompt() -> ColumnElement[bool]:
    return (PromptSide.alias == PairRow.alias) & (PromptSide.prompt_hash == PairRow.prompt_hash)
