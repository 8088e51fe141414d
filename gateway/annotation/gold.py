"""Gold items: comparisons whose answer is known; `gateway/storage/gold.py` has how often each rater finds it."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from gateway.annotation.bodies import GoldBody
from gateway.annotation.errors import GoldNotFound
from gateway.annotation.items import item_of
from gateway.annotation.views import gold_view
from gateway.contracts.ids import GOLD, mint
from gateway.errors import Conflict
from gateway.feedback.completions import require_one_prompt
from gateway.feedback.identity import Caller
from gateway.feedback.replies import list_reply
from gateway.feedback.targets import load_targets
from gateway.settings import FeedbackSettings
from gateway.storage import gold as rows
from gateway.storage.annotation_tables import AnnotationGold


class GoldExists(Conflict):
    """The two answers are a gold item already."""

    code = "gold_exists"


async def create_gold(
    session: AsyncSession, caller: Caller, body: GoldBody, settings: FeedbackSettings, now: float
) -> dict[str, Any]:
    """Make a gold item. Raises `CompletionNotStored`, `PromptMismatch` or `GoldExists`."""
    project_id = caller.project_id
    choices = await load_targets(session, caller, [body.better, body.worse], settings)
    require_one_prompt(choices)
    item, sides = item_of(body.better, body.worse)
    if (known := await rows.active_gold(session, project_id, item)) is not None:
        raise GoldExists(f"These two answers are the gold item {known.id} already; delete that first to turn it round.")
    gold = AnnotationGold(
        id=mint(GOLD),
        project_id=project_id,
        alias=choices[0].alias,
        item=item,
        sides=sides,
        better="first" if sides[0] == body.better.model_dump() else "second",
        note=body.note,
        created_at=now,
    )
    session.add(gold)
    await session.flush()
    return gold_view(gold)


async def list_gold(session: AsyncSession, project_id: str) -> dict[str, Any]:
    """The gold items in use, oldest first, and the scores of raters."""
    scores = await rows.gold_scores(session, project_id)
    listed = list_reply([gold_view(gold) for gold in await rows.all_gold(session, project_id)])
    shown = {rater: {"right": one.right, "given": one.given, "share": one.share} for rater, one in scores.items()}
    return listed | {"scores": shown}


async def retire_gold(session: AsyncSession, project_id: str, gold_id: str, now: float) -> dict[str, Any]:
    """Hand a gold item out no more; what raters said of it still counts."""
    gold = await rows.find_gold(session, project_id, gold_id)
    if gold is None:
        raise GoldNotFound(gold_id)
    gold.retired_at = gold.retired_at or now
    return {"id": gold.id, "object": "annotation.gold.deleted", "deleted": True}
