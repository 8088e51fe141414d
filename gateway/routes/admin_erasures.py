"""For operators: erase everything about a user, follow that, and give out what is stored about one."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict

from gateway.access.authenticate import require
from gateway.access.caller import Caller
from gateway.privacy.erasure import Policy, erasure_view, find_erasure, request_erasure
from gateway.routes.body import read_model
from gateway.routes.idempotency import IdempotentRoute
from gateway.services import Services
from gateway.storage.erasures import list_erasures

router = APIRouter(prefix="/admin/v1", route_class=IdempotentRoute)
Admin = Annotated[Caller, Depends(require("admin"))]


class ErasureBody(BaseModel):
    """Whom to erase, and what that means for what was trained on them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    user: str
    """The name that clients send as `user`, `safety_identifier` or `rater.id`."""
    policy: Policy = "flag"
    project: str | None = None
    """Id or name; default: in all projects."""


@router.post("/erasures", status_code=202)
async def erase_user(request: Request, caller: Admin) -> dict[str, Any]:
    """Queue the erasure of a user; the answer is to be followed by its id."""
    body = await read_model(request, ErasureBody)
    services: Services = request.app.state.services
    async with services.database.write() as session:
        erasure = await request_erasure(
            session, services.secrets, body.user, body.policy, caller.key_id, project=body.project
        )
        return erasure_view(erasure)


@router.get("/erasures")
async def show_erasures(
    request: Request, caller: Admin, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> dict[str, Any]:
    """Erasures, newest first."""
    async with request.app.state.services.database.read() as session:
        found = await list_erasures(session, limit + 1)
    return {"object": "list", "data": [erasure_view(one) for one in found[:limit]], "has_more": len(found) > limit}


@router.get("/erasures/{erasure_id}")
async def show_erasure(request: Request, erasure_id: str, caller: Admin) -> dict[str, Any]:
    """One erasure: how far it is, and its receipt once it is done."""
    async with request.app.state.services.database.read() as session:
        return erasure_view(await find_erasure(session, erasure_id))
