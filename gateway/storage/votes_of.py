"""Which votes are about which completions, as rows: written with each vote, and kept longer than the completions."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import literal, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.storage.feedback_tables import Completion
from gateway.storage.privacy_tables import CompletionVote


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
    named = sorted(set(completions_in(body)))
    if not named:
        return
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    rows = select(Completion.id, literal(feedback_id), Completion.end_user_hash).where(Completion.id.in_(named))
    columns = ["completion_id", "feedback_id", "end_user_hash"]
    await session.execute(insert(CompletionVote).from_select(columns, rows).on_conflict_do_nothing())
