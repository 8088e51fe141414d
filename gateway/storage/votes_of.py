"""Which votes are about which completions, as rows: written with each vote, and kept longer than the completions."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import literal, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts.pair import FeedbackPair
from gateway.storage.feedback_tables import Completion
from gateway.storage.privacy_tables import CompletionVote, PairVote


def completions_in(body: Any) -> Iterator[str]:
    """The ids of the completions that the stored body of a vote names, wherever they stand in it."""
    if isinstance(body, dict):
        named = body.get("completion_id")
        if isinstance(named, str):
            yield named
        for value in body.values():
            yield from completions_in(value)
    elif isinstance(body, list | tuple):
        for value in body:
            yield from completions_in(value)


async def link_completions(session: AsyncSession, feedback_id: str, body: Any) -> None:
    """Note that a vote is about the completions in its body, and which end users those answered."""
    await _link(session, feedback_id, sorted(set(completions_in(body))))


async def link_pair(session: AsyncSession, pair: FeedbackPair) -> None:
    """Note the further votes that a pair follows from, and that the vote it belongs to is also about their
    completions. A pair of one vote needs nothing: that vote is linked to its completions already."""
    first, *others = pair.feedback_ids
    if not others:
        return
    session.add_all(PairVote(pair_id=pair.id, feedback_id=other) for other in others)
    await session.flush()
    sides = (pair.chosen.completion_id, pair.rejected.completion_id)
    await _link(session, first, sorted({side for side in sides if side is not None}))


async def _link(session: AsyncSession, feedback_id: str, named: Sequence[str]) -> None:
    if not named:
        return
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    rows = select(Completion.id, literal(feedback_id), Completion.end_user_hash).where(Completion.id.in_(named))
    columns = ["completion_id", "feedback_id", "end_user_hash"]
    await session.execute(insert(CompletionVote).from_select(columns, rows).on_conflict_do_nothing())
