"""What an annotator may see of his or her own work, in private, and how far the queue has come."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from gateway.annotation.order import asks
from gateway.annotation.views import verdict_view
from gateway.errors import NotFound
from gateway.feedback.replies import list_reply
from gateway.storage import annotation as rows
from gateway.storage.annotation_tables import AnnotationBallot, AnnotationVerdict
from gateway.storage.ballots import ballots_on, newest_ballots_by

COMPARED_BALLOTS = 1000
"""An annotator is compared with others on this many of the newest votes."""


class VerdictNotFound(NotFound):
    """Unknown, or another annotator's."""

    code, param = "verdict_not_found", "after"


async def history(
    session: AsyncSession, project_id: str, rater_hash: str, *, limit: int, after: str | None
) -> dict[str, Any]:
    """The annotator's verdicts, newest first, and how steady they are."""
    behind = None
    if after is not None:
        behind = await session.get(AnnotationVerdict, after)
        if behind is None or (behind.project_id, behind.rater_hash) != (project_id, rater_hash):
            raise VerdictNotFound(f"You gave no verdict {after!r}; page on with the `last_id` of a page.")
    found = await rows.verdicts_of(session, project_id, rater_hash, limit + 1, behind)
    listed = list_reply([verdict_view(verdict) for verdict in found[:limit]], has_more=len(found) > limit)
    return listed | {"consistency": await _consistency(session, project_id, rater_hash)}


async def _consistency(session: AsyncSession, project_id: str, rater_hash: str) -> dict[str, Any]:
    repeats = await rows.repeats_of(session, project_id, rater_hash)
    own = await newest_ballots_by(session, project_id, rater_hash, COMPARED_BALLOTS)
    others = await ballots_on(session, project_id, [ballot.item for ballot in own])
    agreed, compared = with_others(own, others)
    return {
        "own_repeats": {"same": sum(repeats), "of": len(repeats)},
        "with_others": {"agreed": agreed, "of": compared},
    }


def with_others(own: Sequence[AnnotationBallot], others: dict[str, list[AnnotationBallot]]) -> tuple[int, int]:
    """How many votes of other people on the same items say the same, and how many there are."""
    same = compared = 0
    for ballot in own:
        for other in others.get(ballot.item, ()):
            if other.rater_hash != ballot.rater_hash and other.rater_kind != "judge":
                compared += 1
                same += other.verdict == ballot.verdict
    return same, compared


async def queue_view(session: AsyncSession, project_id: str, rater_hash: str, now: float) -> dict[str, Any]:
    """How much waits, is held now and is done, by what is asked; and the annotator's own share."""
    totals = {"open": 0, "held": 0, "done": 0}
    by_purpose: dict[str, dict[str, int]] = {}
    for purpose, state, number, held in await rows.count_tasks(session, project_id, now):
        if state not in ("open", "done"):
            continue
        counts = by_purpose.setdefault(asks(purpose), {"open": 0, "held": 0, "done": 0})
        for each in (totals, counts):
            each[state] += number
            each["held"] += held
    yours = await rows.count_verdicts(session, project_id, rater_hash)
    return {"object": "annotation.queue", **totals, "by_kind": by_purpose, "yours": yours}
