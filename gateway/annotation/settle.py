"""What an adjudication does to the pairs it is about, and how it is taken back."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from gateway.annotation.items import DISCARD, FIRST, SECOND, UNCLEAR, Sides
from gateway.contracts.pair import FeedbackPair
from gateway.storage.annotation import pairs_by_id, pairs_of_votes
from gateway.storage.annotation_tables import AnnotationTask
from gateway.storage.ballots import ballots_on
from gateway.storage.feedback_tables import PairRow

ADJUDICATED = "adjudicated"
GUIDELINE_UNCLEAR = "guideline_unclear"


def settled(prefers: str | None, outcome: str) -> tuple[str, str | None]:
    """State and reason of a pair that prefers the side `prefers`, after the adjudicator said `outcome`."""
    if outcome == UNCLEAR:
        return "held", GUIDELINE_UNCLEAR
    if outcome == DISCARD or prefers != outcome:
        return "excluded", ADJUDICATED
    return "eligible", None


def preferred_side(pair: FeedbackPair, sides: Sides) -> str | None:
    """Which side of the item a pair prefers; None if it is about something else."""
    if "pair_id" in sides[0]:
        return FIRST if sides[0]["side"] == "chosen" else SECOND
    chosen = {"completion_id": pair.chosen.completion_id, "index": pair.chosen.index}
    rejected = {"completion_id": pair.rejected.completion_id, "index": pair.rejected.index}
    if [chosen, rejected] == sides:
        return FIRST
    return SECOND if [rejected, chosen] == sides else None


async def settle(session: AsyncSession, task: AnnotationTask, outcome: str) -> list[dict[str, Any]]:
    """Settle the pairs of a task; returns how they were."""
    before = []
    for row in await _pairs(session, task):
        prefers = preferred_side(FeedbackPair.model_validate(row.body), task.sides)
        if prefers is None:
            continue
        before.append({"pair_id": row.id, "state": row.state, "reason": row.reason})
        row.state, row.reason = settled(prefers, outcome)
    await session.flush()
    return before


async def restore(session: AsyncSession, before: Sequence[dict[str, Any]]) -> None:
    """Give pairs back the state they had, unless their vote was taken back meanwhile."""
    kept = {one["pair_id"]: one for one in before}
    for row in await pairs_by_id(session, list(kept)):
        if row.reason in (None, ADJUDICATED, GUIDELINE_UNCLEAR):
            row.state, row.reason = kept[row.id]["state"], kept[row.id]["reason"]


async def _pairs(session: AsyncSession, task: AnnotationTask) -> Sequence[PairRow]:
    if "pair_id" in task.sides[0]:
        return await pairs_by_id(session, [task.sides[0]["pair_id"]])
    ballots = (await ballots_on(session, task.project_id, [task.item])).get(task.item, [])
    return await pairs_of_votes(session, [ballot.feedback_id for ballot in ballots])
