"""Shows stored votes: one by id, or a page of them. Only those of the caller's project."""

from dataclasses import replace
from typing import Any, Literal

from sqlalchemy.ext.asyncio import AsyncSession

from gateway.errors import NotFound
from gateway.feedback.completions import prompt_of
from gateway.feedback.pairing import SUPERSEDED
from gateway.feedback.replies import feedback_reply, list_reply
from gateway.storage.feedback import Wanted, find_completions, find_feedback, list_feedback
from gateway.storage.pairs import pairs_of_feedback


class FeedbackNotFound(NotFound):
    """Unknown here, or of another project."""

    code, param = "feedback_not_found", "feedback_id"

    def __init__(self, feedback_id: str) -> None:
        super().__init__(f"There is no feedback {feedback_id!r} in this project. GET /v1/feedback lists what there is.")


async def show_feedback(session: AsyncSession, project_id: str, feedback_id: str) -> dict[str, Any]:
    """One vote, with the pairs of its newest revision."""
    feedback = await find_feedback(session, project_id, feedback_id)
    if feedback is None:
        raise FeedbackNotFound(feedback_id)
    pairs = await pairs_of_feedback(session, [feedback.id], but_not=SUPERSEDED)
    return feedback_reply(feedback, pairs[feedback.id])


async def feedback_page(
    session: AsyncSession,
    project_id: str,
    *,
    limit: int,
    after: str | None,
    order: Literal["asc", "desc"],
    wanted: Wanted,
) -> dict[str, Any]:
    """`limit` votes by age, from the one behind `after` on."""
    cursor = None
    if after is not None:
        cursor = await find_feedback(session, project_id, after)
        if cursor is None:
            raise FeedbackNotFound(after)
    if wanted.completion_id is not None:
        completions = await find_completions(session, project_id, [wanted.completion_id])
        for completion in completions.values():
            wanted = replace(wanted, prompt_hash=prompt_of(completion).hash)
    found = await list_feedback(session, project_id, limit=limit + 1, after=cursor, order=order, wanted=wanted)
    page = found[:limit]
    pairs = await pairs_of_feedback(session, [feedback.id for feedback in page], but_not=SUPERSEDED)
    return list_reply([feedback_reply(feedback, pairs[feedback.id]) for feedback in page], has_more=len(found) > limit)
