"""For operators: who votes, how much, and whose votes are held or trusted. Raters are known by keyed hashes alone."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from gateway.access.authenticate import require
from gateway.access.caller import Caller
from gateway.privacy.raters import Decision, decide, list_raters, show_rater
from gateway.routes.body import read_model
from gateway.routes.idempotency import IdempotentRoute

router = APIRouter(prefix="/admin/v1/raters", route_class=IdempotentRoute)
Admin = Annotated[Caller, Depends(require("admin"))]


class RaterBody(BaseModel):
    """What to change about a rater; what is left out stays."""

    model_config = ConfigDict(extra="forbid", strict=True)

    blocked: bool | None = None
    """Hold this rater's votes and pairs, those given and those to come; `false` lets them count again."""
    trusted: bool | None = None
    """No cap binds the votes to come."""
    note: str | None = Field(default=None, max_length=2000)


@router.get("")
async def show_raters(
    request: Request,
    caller: Admin,
    after: Annotated[str | None, Query(pattern=r"^r_[0-9a-z]{1,64}$")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> dict[str, Any]:
    """Raters by hash: votes by type, pairs by state, first and last vote, and what was decided about them."""
    async with request.app.state.services.database.read() as session:
        found = await list_raters(session, after or "", limit + 1)
    data = found[:limit]
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": len(found) > limit}


@router.get("/{id_hash}")
async def show_one_rater(request: Request, id_hash: str, caller: Admin) -> dict[str, Any]:
    """One rater."""
    async with request.app.state.services.database.read() as session:
        return await show_rater(session, id_hash)


@router.post("/{id_hash}")
async def change_rater(request: Request, id_hash: str, caller: Admin) -> dict[str, Any]:
    """Block, trust, or write a note."""
    body = await read_model(request, RaterBody)
    async with request.app.state.services.database.write() as session:
        decision = Decision(body.blocked, body.trusted, body.note)
        return await decide(session, id_hash, decision, caller.key_id)
