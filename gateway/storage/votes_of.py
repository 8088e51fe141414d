"""Which votes are about which completions, as rows: written with each vote, and kept longer than the completions."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import insert, select
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


async def link_completions(session: AsyncSession, votes: Sequence[tuple[str, Any]]) -> None:
    """Note which completions votes (their ids and bodies) are about, and which end users those answered."""
    await _link(session, {(named, vote) for vote, body in votes for named in completions_in(body)})


async def link_pairs(session: AsyncSession, pairs: Iterable[FeedbackPair]) -> None:
    """Note the further votes that pairs follow from, and that the vote a pair belongs to is also about the completions
    of the others. A pair of one vote needs nothing: that vote is linked to its completions already."""
    shared = [pair for pair in pairs if len(pair.feedback_ids) > 1]
    further = [{"pair_id": pair.id, "feedback_id": vote} for pair in shared for vote in pair.feedback_ids[1:]]
    if further:
        await session.execute(insert(PairVote), further)
    sides = [(side.completion_id, pair.feedback_ids[0]) for pair in shared for side in (pair.chosen, pair.rejected)]
    await _link(session, {(completion, vote) for completion, vote in sides if completion is not None})


async def _link(session: AsyncSession, links: set[tuple[str, str]]) -> None:
    """Link those of the completions that are stored."""
    if not links:
        return
    named = Completion.id.in_({completion for completion, _ in links})
    known = await session.execute(select(Completion.id, Completion.end_user_hash).where(named))
    users = {row.id: row.end_user_hash for row in known}
    rows = [
        {"completion_id": completion, "feedback_id": vote, "end_user_hash": users[completion]}
        for completion, vote in sorted(links)
        if completion in users
    ]
    if rows:
        insert_into = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
        await session.execute(insert_into(CompletionVote).on_conflict_do_nothing(), rows)
