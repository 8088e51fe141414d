"""Frozen data sets as rows, and the pairs they are frozen from."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts.pair import FeedbackPair
from gateway.storage.feedback_tables import Dataset, PairRow, PromptSide
from gateway.storage.tables import Alias


class SidedPair(NamedTuple):
    """An eligible pair and the side of the split on which its prompt lies."""

    pair: FeedbackPair
    side: str
    """train or holdout."""


async def eligible_sided_pairs(session: AsyncSession, alias: str) -> list[SidedPair]:
    """The pairs of an alias that may train it, oldest first: its own project's, each prompt's side settled."""
    own_project = (Alias.name == PairRow.alias) & (Alias.project_id == PairRow.project_id)
    same_prompt = (PromptSide.alias == PairRow.alias) & (PromptSide.prompt_hash == PairRow.prompt_hash)
    statement = (
        select(PairRow.body, PromptSide.side)
        .join(PromptSide, same_prompt)
        .join(Alias, own_project)
        .where(PairRow.alias == alias, PairRow.state == "eligible")
        .order_by(PairRow.created_at, PairRow.id)
    )
    rows = (await session.execute(statement)).all()
    return [SidedPair(FeedbackPair.model_validate(body), side) for body, side in rows]


async def record_dataset(
    session: AsyncSession, dataset_id: str, *, alias: str, location: str, card: dict[str, Any], now: float
) -> Dataset:
    """Record a frozen data set; `location` is its folder, relative to the release store."""
    row = Dataset(id=dataset_id, alias=alias, location=location, card=card, created_at=now)
    session.add(row)
    await session.flush()
    return row


async def find_dataset(session: AsyncSession, dataset_id: str) -> Dataset | None:
    """The data set with this id."""
    return await session.get(Dataset, dataset_id)


async def list_datasets(session: AsyncSession, alias: str | None = None) -> Sequence[Dataset]:
    """Data sets, newest first; of one alias, or of all."""
    statement = select(Dataset).order_by(Dataset.created_at.desc(), Dataset.id.desc())
    if alias is not None:
        statement = statement.where(Dataset.alias == alias)
    return (await session.scalars(statement)).all()
