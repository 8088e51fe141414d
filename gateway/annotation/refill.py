"""Fills the queue from the votes: whatever contradicts itself, asks for a correction, waits for a look, or is drawn.

What was put once is not put again, so it may run as often as it likes, in as many workers as there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from gateway.annotation.items import BOTH_BAD, Sides, ballot_of, drawn, item_of, item_of_pair
from gateway.annotation.order import AUDIT, BAD, CONTESTED, HELD_FOR, TIERS, contested, entropy
from gateway.contracts.pair import FeedbackPair, Side
from gateway.feedback.bodies import ChoiceRef
from gateway.settings import AnnotationSettings
from gateway.storage.annotation import add_task, add_tasks, bar, close_unheld, held_pairs
from gateway.storage.ballots import (
    ballots_on,
    changed_preferences,
    drop_ballots,
    eligible_pairs_of,
    lock_cursor,
    put_ballots,
)
from gateway.storage.feedback_tables import Feedback, PairRow

PAGE_VOTES = 500
MAX_PAGES = 4
"""One run takes in no more; the next one goes on from there."""
LATE_SECONDS = 10.0
"""A vote may be committed this long after the time it bears, so the last votes are looked at again."""
HELD_PAIRS = 200
PEOPLE = ("end_user", "annotator")
"""Kinds of raters whose disagreement matters."""


@dataclass(frozen=True)
class Refill:
    """What filling the queue of one project needs."""

    project_id: str
    settings: AnnotationSettings
    audit_key: bytes
    """Draws the audited pairs."""

    async def run(self, session: AsyncSession, now: float) -> None:
        """Take in what changed since the last time."""
        cursor = await lock_cursor(session, self.project_id)
        since = cursor.updated_at
        behind: tuple[float, str] | None = None
        for _ in range(MAX_PAGES):
            votes = await changed_preferences(session, self.project_id, since, behind, PAGE_VOTES)
            if not votes:
                break
            await self._take(session, votes, now)
            behind = (votes[-1].updated_at, votes[-1].id)
        if behind is not None:
            cursor.updated_at = max(since, min(behind[0], now - LATE_SECONDS))
        for pair in await held_pairs(session, self.project_id, HELD_FOR, HELD_PAIRS):
            await self._put_held(session, pair, now)
        await session.flush()

    async def _take(self, session: AsyncSession, votes: Sequence[Feedback], now: float) -> None:
        sides: dict[str, Sides] = {}
        ballots, gone = [], []
        for vote in votes:
            found = ballot_of(vote.body)
            if found is None:
                continue
            sides[found[0]] = found[1]
            if vote.status == "active":
                ballots.append(_ballot(vote, found[0], found[2]))
            else:
                gone.append(vote.id)
        await put_ballots(session, ballots)
        await drop_ballots(session, gone)
        tasks = await self._contested(session, sides)
        for pair in await eligible_pairs_of(session, [ballot["feedback_id"] for ballot in ballots]):
            tasks += self._audited(pair)
        await add_tasks(session, now, tasks)

    async def _contested(self, session: AsyncSession, sides: dict[str, Sides]) -> list[dict[str, Any]]:
        """Tasks for those of the items on which people differ, or find nothing good."""
        found = await ballots_on(session, self.project_id, sides)
        tasks, agreed = [], []
        for item, both in sides.items():
            ballots = [ballot for ballot in found.get(item, ()) if ballot.rater_kind in PEOPLE]
            verdicts = [ballot.verdict for ballot in ballots]
            if contested(verdicts):
                tasks.append(self._task(ballots[0].alias, item, both, CONTESTED, -entropy(verdicts)))
            else:
                agreed.append(item)
            if BOTH_BAD in verdicts:
                tasks.append(self._task(ballots[0].alias, item, both, BAD))
        await close_unheld(session, self.project_id, agreed, CONTESTED)
        return tasks

    def _audited(self, pair: PairRow) -> list[dict[str, Any]]:
        """A task for a decided pair, if it is drawn."""
        if not drawn(self.audit_key, pair.id, self.settings.audit_share):
            return []
        record = FeedbackPair.model_validate(pair.body)
        chosen, rejected = _ref(record.chosen), _ref(record.rejected)
        if chosen is None or rejected is None:
            return []
        return [self._task(pair.alias, *item_of(chosen, rejected), AUDIT)]

    async def _put_held(self, session: AsyncSession, pair: PairRow, now: float) -> None:
        task = self._task(pair.alias, *item_of_pair(pair.id), HELD_FOR[pair.reason or ""])
        task_id = await add_task(session, now, **task)
        if task_id is not None:
            await bar(session, task_id, FeedbackPair.model_validate(pair.body).rater.id_hash)

    def _task(self, alias: str, item: str, sides: Sides, purpose: str, place: float = 0.0) -> dict[str, Any]:
        what = {"project_id": self.project_id, "alias": alias, "item": item, "sides": sides}
        return what | {"purpose": purpose, "tier": TIERS[purpose], "place": place}


def _ballot(vote: Feedback, item: str, verdict: str) -> dict[str, Any]:
    return {
        "feedback_id": vote.id,
        "project_id": vote.project_id,
        "alias": vote.alias,
        "item": item,
        "rater_hash": vote.rater_hash,
        "rater_kind": vote.rater_kind,
        "verdict": verdict,
        "at": vote.updated_at,
    }


def _ref(side: Side) -> ChoiceRef | None:
    return None if side.completion_id is None else ChoiceRef(completion_id=side.completion_id, index=side.index or 0)
