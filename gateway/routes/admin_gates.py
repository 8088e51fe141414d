"""For operators: the cases that every candidate of an alias must pass."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from gateway.access.authenticate import require
from gateway.access.caller import Caller
from gateway.contracts.case import CaseBody
from gateway.rollout.cases import case_view, drop_case, keep_cases
from gateway.routes.body import read_model
from gateway.routes.idempotency import IdempotentRoute
from gateway.storage.gate_cases import list_cases

router = APIRouter(prefix="/admin/v1/gates", route_class=IdempotentRoute)
Admin = Annotated[Caller, Depends(require("admin"))]


class CasesBody(BaseModel):
    """Cases of one alias."""

    model_config = ConfigDict(extra="forbid")

    alias: str = Field(min_length=1, max_length=256, pattern=r"^[^\x00]*$")
    cases: tuple[CaseBody, ...] = Field(min_length=1, max_length=100)


@router.get("/cases")
async def show_cases(
    request: Request, caller: Admin, alias: Annotated[str | None, Query(pattern=r"^[^\x00]*$")] = None
) -> dict[str, Any]:
    """Cases, oldest first."""
    async with request.app.state.services.database.read() as session:
        data = [case_view(row) for row in await list_cases(session, alias)]
    return {"object": "list", "data": data, "has_more": False}


@router.post("/cases", status_code=201)
async def create_cases(request: Request, caller: Admin) -> dict[str, Any]:
    """Add cases, all or none."""
    body = await read_model(request, CasesBody)
    async with request.app.state.services.database.write() as session:
        rows = await keep_cases(session, body.alias, body.cases, caller.key_id, time.time())
        return {"object": "list", "data": [case_view(row) for row in rows], "has_more": False}


@router.delete("/cases/{case_id}")
async def delete_case(
    request: Request, case_id: Annotated[str, Path(pattern=r"^[^\x00]*$")], caller: Admin
) -> dict[str, Any]:
    """Remove a case."""
    async with request.app.state.services.database.write() as session:
        return await drop_case(session, case_id, caller.key_id)
