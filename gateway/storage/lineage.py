"""From votes to what they made, and back, as rows."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.storage.among import among
from gateway.storage.datasets import ROWS_AT_A_TIME
from gateway.storage.feedback_tables import Dataset, Feedback, PairRow
from gateway.storage.privacy_tables import CompletionVote, PairVote
from gateway.storage.tables import Alias, Replica
from gateway.storage.upsert import plain_table

_FOLLOWS = plain_table(PairVote).c


@dataclass
class Places:
    """Where a release is served now."""

    serving: list[str] = field(default_factory=list)
    """Aliases that it serves."""
    canary: list[str] = field(default_factory=list)
    """Aliases that give it a share of their traffic."""
    replicas: list[str] = field(default_factory=list)
    """Replicas that hold it, as weights or as an adapter."""


async def further_votes(session: AsyncSession, pair_ids: Sequence[str]) -> dict[str, list[str]]:
    """By pair, the votes that it follows from besides the one it belongs to; pairs without any are left out."""
    found: dict[str, list[str]] = {}
    for begin in range(0, len(pair_ids), ROWS_AT_A_TIME):
        piece = among(session, _FOLLOWS.pair_id, pair_ids[begin : begin + ROWS_AT_A_TIME])
        statement = select(_FOLLOWS.pair_id, _FOLLOWS.feedback_id).where(piece).order_by(_FOLLOWS.feedback_id)
        for pair_id, feedback_id in await session.execute(statement):
            found.setdefault(pair_id, []).append(feedback_id)
    return found


async def pairs_following_from(session: AsyncSession, feedback_id: str) -> Sequence[PairRow]:
    """Every pair that a vote ever had part in, those that stand no more included, in the order they were derived."""
    shared = select(PairVote.pair_id).where(PairVote.feedback_id == feedback_id)
    mine = or_(PairRow.feedback_id == feedback_id, PairRow.id.in_(shared))
    return (await session.scalars(select(PairRow).where(mine).order_by(PairRow.id))).all()


async def completions_voted_on(session: AsyncSession, feedback_id: str) -> Sequence[str]:
    """The ids of the completions that a vote is about."""
    statement = select(CompletionVote.completion_id).where(CompletionVote.feedback_id == feedback_id)
    return (await session.scalars(statement.order_by(CompletionVote.completion_id))).all()


async def datasets_since(session: AsyncSession, aliases: Collection[str], since: float) -> Sequence[Dataset]:
    """The data sets of some aliases that were frozen since then, oldest first."""
    statement = select(Dataset).where(Dataset.alias.in_(aliases), Dataset.created_at >= since)
    return (await session.scalars(statement.order_by(Dataset.created_at, Dataset.id))).all()


async def find_vote(session: AsyncSession, feedback_id: str) -> Feedback | None:
    """A vote of whatever project."""
    return await session.get(Feedback, feedback_id)


async def places_of(session: AsyncSession, releases: Collection[str]) -> dict[str, Places]:
    """Where each of the releases is served now."""
    found = {release: Places() for release in releases}
    for alias in await session.scalars(select(Alias).order_by(Alias.name)):
        for release, part in ((alias.serving_release_id, "serving"), (alias.canary_release_id, "canary")):
            if release in found:
                getattr(found[release], part).append(alias.name)
    for replica in await session.scalars(select(Replica).order_by(Replica.id)):
        for release in {replica.weights_release_id, *replica.adapters} & found.keys():
            found[release].replicas.append(replica.id)
    return found
