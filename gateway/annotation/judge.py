"""A model that judges sampled comparisons, both ways round: one gateway worker at a time, by lease, asks it.

What it says consistently becomes a vote of the kind `judge`. It never holds a task: people get the same ones.
"""

import asyncio
import time
from typing import Any

import aiohttp
import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.access.caller import Caller
from gateway.annotation.items import FIRST, TIE, drawn
from gateway.annotation.texts import load_texts
from gateway.errors import AlignwayError, DatabaseUnavailable
from gateway.feedback.bodies import ChoiceRef, PreferenceBody, Rater
from gateway.feedback.capture import FeedbackCapture
from gateway.feedback.identity import DELEGATE, KeyedHashes
from gateway.judging.endpoint import JudgeEndpoint, JudgeFailed
from gateway.settings import Settings
from gateway.storage.annotation_tables import AnnotationJudgement, AnnotationTask
from gateway.storage.database import Database
from gateway.storage.group_commit import GroupCommit
from gateway.storage.judgements import due_tasks, put_judgement
from gateway.storage.leases import release_lease, take_lease

LEASE = "judge"
LEASE_SECONDS = 30.0
POLL_SECONDS = 2.0
WAVES = 4
"""Comparisons taken at a time, in multiples of `judge.concurrency`."""

log = structlog.get_logger(__name__)


class Judge:
    """Asks the endpoint about every sampled comparison once, and again where it did not answer."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        hashes: KeyedHashes,
        votes: GroupCommit,
        holder: str,
        api_key: str | None = None,
    ) -> None:
        self._database, self._settings, self._hashes, self._votes = database, settings, hashes, votes
        self._holder = holder
        self._endpoint = JudgeEndpoint(settings.judge, settings.annotation.guideline, api_key)
        self._capture = FeedbackCapture(settings.feedback, hashes)
        self._room = asyncio.Semaphore(settings.judge.concurrency)

    async def run(self) -> None:
        """Judge until cancelled."""
        try:
            while True:
                judged = 0
                try:
                    judged = await self.step(time.time())
                except DatabaseUnavailable as error:
                    log.warning("judge_interrupted", error=error.message)
                except Exception:
                    log.exception("judge_failed")
                if not judged:
                    await asyncio.sleep(POLL_SECONDS)
        finally:
            async with self._database.write("relaxed") as session:
                await release_lease(session, LEASE, self._holder)

    async def step(self, now: float) -> int:
        """Judge some of what is due, if the lease is ours; how many comparisons were looked at."""
        async with self._database.write("relaxed") as session:
            if await take_lease(session, LEASE, self._holder, self._lease_seconds, now) is None:
                return 0
            due = await due_tasks(session, now, WAVES * self._settings.judge.concurrency)
        async with self._endpoint.session() as http:
            await asyncio.gather(*(self._judge(http, task, attempts, now) for task, attempts in due))
        return len(due)

    @property
    def _lease_seconds(self) -> float:
        """Long enough for a whole batch of calls that take as long as they may."""
        return LEASE_SECONDS + 2 * WAVES * self._settings.judge.timeout_seconds

    async def _judge(self, http: aiohttp.ClientSession, task: AnnotationTask, attempts: int, now: float) -> None:
        judge = self._settings.judge
        if not drawn(self._hashes.derive("judge"), task.id, judge.share):
            await self._put(task, "left_out", attempts, now)
            return
        async with self._room:
            async with self._database.read() as session:
                texts = await load_texts(session, task.project_id, task.sides)
            if texts is None:
                await self._put(task, "failed", attempts, now)
                return
            try:
                sides = (texts.first.text, texts.second.text)
                outcome, verdict = await self._endpoint.compare(http, texts.prompt, *sides)
            except JudgeFailed as error:
                await self._try_later(task, attempts + 1, str(error), now)
                return
        try:
            await self._put(task, outcome, attempts + 1, now, verdict)
        except AlignwayError as error:
            await self._try_later(task, attempts + 1, error.code, now)

    async def _try_later(self, task: AnnotationTask, attempts: int, reason: str, now: float) -> None:
        judge = self._settings.judge
        log.warning("judge_call_failed", task_id=task.id, attempts=attempts, reason=reason)
        last = attempts >= judge.max_attempts
        wait = judge.retry_seconds * 2 ** (attempts - 1)
        await self._put(task, "failed" if last else "waiting", attempts, now, next_at=now + wait)

    async def _put(
        self,
        task: AnnotationTask,
        state: str,
        attempts: int,
        now: float,
        verdict: str | None = None,
        next_at: float = 0.0,
    ) -> None:
        """Store what came of it, and the vote if there is one, in one commit."""

        async def put(session: AsyncSession) -> None:
            feedback_id = None if verdict is None else await self._vote(session, task, verdict)
            judgement = AnnotationJudgement(
                task_id=task.id,
                alias=task.alias,
                state=state,
                attempts=attempts,
                next_at=next_at,
                feedback_id=feedback_id,
                at=now,
            )
            await put_judgement(session, judgement)

        await self._votes.submit(put)

    async def _vote(self, session: AsyncSession, task: AnnotationTask, verdict: str) -> str:
        first, second = (ChoiceRef.model_validate(side) for side in task.sides)
        common: dict[str, Any] = {
            "type": "preference",
            "rater": Rater(id=f"judge:{self._settings.judge.model}"[:256], kind="judge"),
            "metadata": {"annotation_task": task.id},
        }
        if verdict == TIE:
            vote = PreferenceBody(verdict="tie", choices=(first, second), **common)
        else:
            better, worse = (first, second) if verdict == FIRST else (second, first)
            vote = PreferenceBody(chosen=better, rejected=(worse,), **common)
        caller = Caller("key_judge", task.project_id, frozenset({"feedback", DELEGATE}), "judge")
        return str((await self._capture.capture(session, caller, vote)).reply["id"])
