"""Hands tasks out: one holder at a time, sides drawn by us, now and then one whose answer is known or was given before.

Everything happens in the session that is handed in; the caller commits.
"""

import random
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from gateway.annotation.bodies import AnnotatorBody, ClaimBody
from gateway.annotation.errors import TaskNotFound, TaskNotHeld
from gateway.annotation.items import CHOICE_VERDICTS
from gateway.annotation.order import GOLD, MARGIN_TIER, REPEAT, TIERS, asks
from gateway.annotation.raters import annotator_of
from gateway.annotation.texts import load_texts
from gateway.annotation.views import lease_view, task_view
from gateway.feedback.identity import Caller, KeyedHashes
from gateway.settings import AnnotationSettings
from gateway.storage import annotation as rows
from gateway.storage.annotation_tables import AnnotationTask, AnnotationVerdict

REPEAT_BEHIND = 5
"""A repeat comes after at least this many other verdicts, so that it is judged and not remembered."""
REPEAT_AMONG = 200
MAX_GONE = 200
"""Tasks whose texts are gone that one claim clears away."""


@dataclass(frozen=True)
class Claims:
    """The counter where annotators get their tasks."""

    settings: AnnotationSettings
    hashes: KeyedHashes
    chance: random.Random = field(default_factory=random.SystemRandom)

    async def claim(self, session: AsyncSession, caller: Caller, body: ClaimBody, now: float) -> dict[str, Any] | None:
        """The task the annotator holds already, or the next one; None if there is none.

        To be committed either way: tasks whose texts are gone were cleared away.
        """
        rater, project = annotator_of(caller, body, self.hashes).id_hash, caller.project_id
        held = await rows.held_task(session, project, rater, body.alias, now)
        if held is None:
            await self._slip_in(session, project, rater, body.alias, now)
        for _ in range(MAX_GONE):
            task = held or await rows.next_task(session, project, rater, body.alias, now, conflict_tier=MARGIN_TIER)
            if task is None:
                return None
            texts = await load_texts(session, project, task.sides)
            if texts is None:
                task.state, task.holder, held = "gone", None, None
                await session.flush()
                continue
            if task is not held:
                task.left_first = await self._draw_sides(session, task, rater)
            task.holder, task.lease_expires_at = rater, now + self.settings.lease_seconds
            await session.flush()
            return task_view(task, texts, self.settings.guideline)
        return None

    async def renew(
        self, session: AsyncSession, caller: Caller, task_id: str, body: AnnotatorBody, now: float
    ) -> dict[str, Any]:
        """Give the holder more time; also one whose time ran out, while nobody else has taken the task."""
        task = await self._held(session, caller, task_id, body)
        task.lease_expires_at = now + self.settings.lease_seconds
        return lease_view(task)

    async def release(self, session: AsyncSession, caller: Caller, task_id: str, body: AnnotatorBody) -> dict[str, Any]:
        """Put a task back as if it had not been claimed."""
        task = await self._held(session, caller, task_id, body)
        task.holder = task.lease_expires_at = None
        return lease_view(task)

    async def _held(self, session: AsyncSession, caller: Caller, task_id: str, body: AnnotatorBody) -> AnnotationTask:
        task = await rows.lock_task(session, caller.project_id, task_id)
        if task is None:
            raise TaskNotFound(task_id)
        if task.holder != annotator_of(caller, body, self.hashes).id_hash or task.state != "open":
            raise TaskNotHeld
        return task

    async def _slip_in(self, session: AsyncSession, project: str, rater: str, alias: str | None, now: float) -> None:
        """Now and then put a task into the queue that is for this annotator alone."""
        lot = self.chance.random()
        if lot < self.settings.gold_share:
            gold = await rows.gold_for(session, project, rater, alias)
            if gold:
                one = self.chance.choice(gold)
                values: dict[str, Any] = {"alias": one.alias, "item": one.item, "sides": one.sides, "purpose": GOLD}
                await rows.add_task(session, now, project_id=project, rater_hash=rater, tier=TIERS[GOLD], **values)
        elif lot < self.settings.gold_share + self.settings.repeat_share:
            given = await rows.verdicts_of(session, project, rater, REPEAT_AMONG)
            again = [
                verdict for verdict in given[REPEAT_BEHIND:] if alias in (None, verdict.alias) and _repeats(verdict)
            ]
            if again:
                await self._repeat(session, self.chance.choice(again), now)

    async def _repeat(self, session: AsyncSession, verdict: AnnotationVerdict, now: float) -> None:
        task = await session.get(AnnotationTask, verdict.task_id)
        if task is not None:
            values: dict[str, Any] = {"alias": task.alias, "item": task.item, "sides": task.sides, "purpose": REPEAT}
            values |= {"project_id": task.project_id, "rater_hash": verdict.rater_hash, "tier": TIERS[REPEAT]}
            await rows.add_task(session, now, **values)

    async def _draw_sides(self, session: AsyncSession, task: AnnotationTask, rater: str) -> bool:
        if task.purpose == REPEAT:
            earlier = await rows.first_verdict(session, task.project_id, task.item, rater)
            if earlier is not None:
                return not earlier.left_first
        return self.chance.random() < 0.5


def _repeats(verdict: AnnotationVerdict) -> bool:
    plain = verdict.purpose not in (GOLD, REPEAT) and asks(verdict.purpose) == "verdict"
    return plain and verdict.verdict in CHOICE_VERDICTS
