"""Feedback pairs and the side of their prompts as rows. What is eligible is decided in `gateway/feedback`."""

import hashlib
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts.message import Message
from gateway.contracts.pair import FeedbackPair
from gateway.contracts.prompt import normal_text
from gateway.storage.feedback_tables import PairRow, PromptSide
from gateway.storage.upsert import plain_table
from gateway.storage.votes_of import link_pairs

_SIDE = plain_table(PromptSide).c
SIGNATURE: ColumnElement[Any] = _SIDE.signature
"""For `sides_of`."""
SIDES_AT_A_TIME = 5000


async def add_pair(session: AsyncSession, pair: FeedbackPair, alias: str, state: str, reason: str | None) -> PairRow:
    """Store a pair derived from the first of its votes."""
    row = PairRow(**pair_values(pair, alias, state, reason))
    session.add(row)
    await session.flush()
    await link_pairs(session, [pair])
    return row


def pair_values(pair: FeedbackPair, alias: str, state: str, reason: str | None) -> dict[str, Any]:
    """The columns of a pair."""
    return pair_columns(pair, alias, state, reason) | {"body": pair.model_dump(mode="json", exclude_none=True)}


def pair_columns(pair: FeedbackPair, alias: str, state: str, reason: str | None) -> dict[str, Any]:
    """The columns of a pair but for its body."""
    return {
        "id": pair.id,
        "feedback_id": pair.feedback_ids[0],
        "project_id": pair.project_id,
        "alias": alias,
        "prompt_hash": pair.prompt_hash,
        "state": state,
        "reason": reason,
        "created_at": pair.judged_at.timestamp(),
        "chosen_digest": digest_of(pair.chosen.message),
        "rejected_digest": digest_of(pair.rejected.message),
        "rater_hash": pair.rater.id_hash,
        "rater_kind": pair.rater.kind,
        "rater_trusted": pair.rater.trusted,
        "basis": pair.basis,
        "source": pair.source,
        "weight": pair.weight,
        "chosen_release": pair.chosen.release_id if pair.chosen.origin == "model" else None,
        "rejected_release": pair.rejected.release_id if pair.rejected.origin == "model" else None,
    }


def digest_of(message: Message) -> int:
    """63 bits that stand for what an answer says and calls."""
    calls = [call.get("function", call) for call in message.tool_calls or ()]
    said = json.dumps([normal_text(message.text), calls], sort_keys=True).encode()
    return int.from_bytes(hashlib.sha256(said).digest()[:8]) >> 1


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


async def count_sides(session: AsyncSession, alias: str) -> dict[str, int]:
    """How many eligible pairs of the alias lie on each side."""
    statement = (
        select(PromptSide.side, func.count())
        .join(PairRow, same_prompt())
        .where(PairRow.alias == alias, PairRow.state == "eligible", PromptSide.bridges.is_(False))
        .group_by(PromptSide.side)
    )
    return {row[0]: row[1] for row in await session.execute(statement)}


async def sides_of(session: AsyncSession, alias: str, *more: ColumnElement[Any]) -> AsyncIterator[Sequence[Any]]:
    """Every settled prompt of the alias (prompt_hash, side, cluster, bridges) in the order of settling, many at a time.

    `more`: further columns. A signature is half a kilobyte, and there may be a million: rows are read as they are used.
    """
    columns = (_SIDE.prompt_hash, _SIDE.side, _SIDE.cluster, _SIDE.bridges)
    statement = select(*columns, *more).where(_SIDE.alias == alias).order_by(_SIDE.number)
    result = await session.stream(statement.execution_options(yield_per=SIDES_AT_A_TIME))
    async for rows in result.partitions():
        yield rows


async def next_number(session: AsyncSession, alias: str) -> int:
    """Of the prompt of the alias that is settled next."""
    last: int | None = await session.scalar(select(func.max(PromptSide.number)).where(PromptSide.alias == alias))
    return 0 if last is None else last + 1


def same_prompt() -> ColumnElement[bool]:
    """Joins pairs with the side of their prompt."""
    return (PromptSide.alias == PairRow.alias) & (PromptSide.prompt_hash == PairRow.prompt_hash)
