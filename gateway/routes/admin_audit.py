"""`GET /admin/v1/audit`: who made, changed and ended what."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from gateway.access.authenticate import require
from gateway.access.caller import Caller
from gateway.routes.views import audit_view
from gateway.storage.audit import list_audit

router = APIRouter(prefix="/admin/v1")


@router.get("/audit")
async def show_audit(
    request: Request,
    caller: Annotated[Caller, Depends(require("admin"))],
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    action: str | None = None,
    actor: str | None = None,
    subject: str | None = None,
) -> dict[str, Any]:
    """What was done, newest first; the next page begins behind the id `after`."""
    async with request.app.state.services.database.read() as session:
        found = await list_audit(session, limit + 1, behind=after, action=action, actor=actor, subject=subject)
    data = [audit_view(entry) for entry in found[:limit]]
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": len(found) > limit}
