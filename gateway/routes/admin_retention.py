"""`GET /admin/v1/retention`: how long records are kept, and when those too old were last deleted."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from gateway.access.authenticate import require
from gateway.access.caller import Caller
from gateway.privacy.retention import retention_view
from gateway.services import Services

router = APIRouter(prefix="/admin/v1")


@router.get("/retention")
async def show_retention(request: Request, caller: Annotated[Caller, Depends(require("admin"))]) -> dict[str, Any]:
    """By kind of record: how long it is kept (null: for good), the last run, and how much that and all runs deleted."""
    services: Services = request.app.state.services
    async with services.database.read() as session:
        return await retention_view(session, services.settings.privacy.retention)
