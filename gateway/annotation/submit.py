"""Takes verdicts in: votes go the way of every vote, adjudications settle pairs, gold and repeats measure the rater.

Everything happens in the session that is handed in; the caller commits.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from gateway.annotation.bodies import AnnotatorBody, SubmitBody
from gateway.annotation.errors import (
    AlreadySubmitted,
    NoTextToCorrect,
    NothingToUndo,
    TaskNotFound,
    TaskNotHeld,
    WrongVerdict,
)
from gateway.annotation.items import SKIP, masked, unmasked
from gateway.annotation.order import GOLD, REPEAT, allowed_verdicts, asks
from gateway.annotation.raters import annotator_of
from gateway.annotation.settle import restore, settle
from gateway.annotation.views import verdict_view
from gateway.contracts.ids import VERDICT, mint
from gateway.contracts.pair import Rater
from gateway.feedback.bodies import ChoiceRef, CorrectedMessage, CorrectionBody, PreferenceBody
from gateway.feedback.capture import FeedbackCapture
from gateway.feedback.identity import Caller, KeyedHashes
from gateway.settings import AnnotationSettings
from gateway.storage import annotation as rows
from gateway.storage.annotation_tables import AnnotationTask, AnnotationVerdict


@dataclass(frozen=True)
class Submissions:
    """The counter where annotators hand their verdicts in."""

    settings: AnnotationSettings
    capture: FeedbackCapture
    hashes: KeyedHashes

    async def submit(
        self, session: AsyncSession, caller: Caller, task_id: str, body: SubmitBody, now: float
    ) -> dict[str, Any]:
        """Store a verdict; sent again, it is answered again. Raises an `AlignwayError` that says what is wrong."""
        rater = annotator_of(caller, body, self.hashes)
        task = await rows.lock_task(session, caller.project_id, task_id)
        if task is None:
            raise TaskNotFound(task_id)
        earlier = await rows.verdict_on(session, task.id, rater.id_hash)
        if earlier is not None:
            if masked(earlier.verdict, earlier.left_first) != body.verdict:
                raise AlreadySubmitted
            return verdict_view(earlier)
        if task.holder != rater.id_hash or task.state != "open":
            raise TaskNotHeld
        if body.verdict not in allowed_verdicts(task.purpose):
            raise WrongVerdict(body.verdict, allowed_verdicts(task.purpose))
        verdict = await self._take(session, caller, rater, task, body, now)
        session.add(verdict)
        _close(task, verdict)
        await rows.bar(session, task.id, rater.id_hash)
        await session.flush()
        return verdict_view(verdict)

    async def undo(self, session: AsyncSession, caller: Caller, body: AnnotatorBody, now: float) -> dict[str, Any]:
        """Take the annotator's last verdict back, and hand its task out again. Raises `NothingToUndo`."""
        rater = annotator_of(caller, body, self.hashes)
        given = await rows.verdicts_of(session, caller.project_id, rater.id_hash, 1)
        if not given:
            raise NothingToUndo
        verdict = given[0]
        task = await rows.lock_task(session, caller.project_id, verdict.task_id)
        for feedback_id in verdict.feedback_ids:
            await self.capture.retract(session, caller, feedback_id)
        await restore(session, verdict.before)
        verdict.undone_at = now
        if task is not None and task.state != "gone":
            self._reopen(task, verdict, now)
            await rows.unbar(session, task.id, rater.id_hash)
        await session.flush()
        return {"id": verdict.id, "object": "annotation.verdict.undone", "task_id": verdict.task_id, "undone": True}

    def _reopen(self, task: AnnotationTask, verdict: AnnotationVerdict, now: float) -> None:
        if verdict.verdict != SKIP:
            task.given -= 1
        task.state, task.outcome = "open", None
        if task.holder is None:
            task.holder, task.lease_expires_at = verdict.rater_hash, now + self.settings.lease_seconds

    async def _take(
        self, session: AsyncSession, caller: Caller, rater: Rater, task: AnnotationTask, body: SubmitBody, now: float
    ) -> AnnotationVerdict:
        said = unmasked(body.verdict, task.left_first)
        verdict = _new_verdict(task, rater, said, now)
        if task.purpose == GOLD:
            verdict.right = (
                None if said == SKIP else said == await rows.gold_answer(session, task.project_id, task.item)
            )
        elif task.purpose == REPEAT:
            earlier = await rows.first_verdict(session, task.project_id, task.item, rater.id_hash)
            verdict.consistent = None if said == SKIP or earlier is None else said == earlier.verdict
        elif said != SKIP:
            verdict.feedback_ids = await self._vote(session, caller, rater, task, body)
            if asks(task.purpose) == "adjudication":
                verdict.before = await settle(session, task, said)
        if body.correction is not None:
            verdict.feedback_ids = [*verdict.feedback_ids, await self._correct(session, caller, rater, task, body)]
        return verdict

    async def _vote(
        self, session: AsyncSession, caller: Caller, rater: Rater, task: AnnotationTask, body: SubmitBody
    ) -> list[str]:
        """The verdict as a vote, where it is one about two choices; the ids of the votes."""
        if "pair_id" in task.sides[0] or body.verdict not in ("left", "right", "tie", "both_bad"):
            return []
        left, right = _refs(task)
        common = {"tags": body.tags, "comment": body.comment, "metadata": {"annotation_task": task.id}}
        if body.verdict in ("left", "right"):
            vote = PreferenceBody(
                type="preference",
                chosen=left if body.verdict == "left" else right,
                rejected=(right if body.verdict == "left" else left,),
                shown=("chosen", "rejected") if body.verdict == "left" else ("rejected", "chosen"),
                strength=body.strength,
                **common,
            )
        else:
            vote = PreferenceBody(type="preference", verdict=body.verdict, choices=(left, right), **common)
        captured = await self.capture.capture(session, caller, vote, rater)
        return [captured.reply["id"]]

    async def _correct(
        self, session: AsyncSession, caller: Caller, rater: Rater, task: AnnotationTask, body: SubmitBody
    ) -> str:
        if body.correction is None or "pair_id" in task.sides[0]:
            raise NoTextToCorrect
        left, right = _refs(task)
        correction = CorrectionBody(
            type="correction",
            target=left if body.correction.side == "left" else right,
            message=CorrectedMessage(content=body.correction.content),
            edit_kind=body.correction.edit_kind,
            metadata={"annotation_task": task.id},
        )
        captured = await self.capture.capture(session, caller, correction, rater)
        return str(captured.reply["id"])


def _new_verdict(task: AnnotationTask, rater: Rater, said: str, now: float) -> AnnotationVerdict:
    return AnnotationVerdict(
        id=mint(VERDICT),
        task_id=task.id,
        project_id=task.project_id,
        alias=task.alias,
        item=task.item,
        purpose=task.purpose,
        rater_hash=rater.id_hash,
        verdict=said,
        left_first=task.left_first,
        feedback_ids=[],
        before=[],
        at=now,
    )


def _refs(task: AnnotationTask) -> tuple[ChoiceRef, ChoiceRef]:
    """Left and right, as the holder sees them."""
    first, second = (ChoiceRef.model_validate(side) for side in task.sides)
    return (first, second) if task.left_first else (second, first)


def _close(task: AnnotationTask, verdict: AnnotationVerdict) -> None:
    """The task after a verdict: done, or free for somebody else."""
    task.holder = task.lease_expires_at = None
    if verdict.verdict == SKIP:
        if task.rater_hash:
            task.state = "done"
        return
    task.given += 1
    if task.given >= task.wanted:
        task.state = "done"
        if asks(task.purpose) == "adjudication":
            task.outcome = verdict.verdict
