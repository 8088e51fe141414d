"""For operators: what people were told of, and whether it reached them."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from gateway.access.authenticate import require
from gateway.access.caller import Caller
from gateway.feedback.replies import list_reply
from gateway.notify.notifier import message_of
from gateway.notify.texts import text_of
from gateway.storage.notification_tables import Delivery, Notification
from gateway.storage.notifications import list_notifications

router = APIRouter(prefix="/admin/v1")


@router.get("/notifications")
async def list_notified(
    request: Request,
    caller: Annotated[Caller, Depends(require("admin"))],
    after: Annotated[str | None, Query(pattern=r"^note_[0-9a-z]{1,64}$")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 20,
) -> dict[str, Any]:
    """What came about, newest first, with the state of each delivery; the next page begins behind the id `after`."""
    async with request.app.state.services.database.read() as session:
        found = await list_notifications(session, limit + 1, after)
    return list_reply([_view(*one) for one in found[:limit]], has_more=len(found) > limit)


def _view(row: Notification, deliveries: list[Delivery]) -> dict[str, Any]:
    return {
        "id": row.id,
        "object": "notification",
        "event": row.event,
        "alias": row.alias,
        "text": text_of(message_of(row)),
        "facts": row.facts,
        "times": row.times,
        "created_at": row.created_at,
        "last_at": row.last_at,
        "deliveries": [_delivery(one) for one in deliveries],
    }


def _delivery(row: Delivery) -> dict[str, Any]:
    return {
        "target": row.target,
        "state": row.state,
        "attempts": row.attempts,
        "detail": row.detail,
        "updated_at": row.updated_at,
        "next_attempt_at": row.due_at if row.state == "waiting" else None,
    }
