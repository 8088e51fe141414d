"""For operators: gold items, and how far raters agree."""

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request

from gateway.access.authenticate import require
from gateway.access.caller import Caller
from gateway.annotation import gold
from gateway.annotation.agreement_report import agreement_ballots, agreement_report
from gateway.annotation.bodies import GoldBody
from gateway.annotation.refill import Refill
from gateway.errors import ModelNotFound
from gateway.routes.body import read_model
from gateway.routes.idempotency import IdempotentRoute
from gateway.services import Services
from gateway.storage.judgements import count_judgements
from gateway.storage.tables import Alias

router = APIRouter(prefix="/admin/v1", route_class=IdempotentRoute)
GoldId = Annotated[str, Path(pattern=r"^[^\x00]*$")]
Admin = Annotated[Caller, Depends(require("admin"))]


@router.get("/annotation/gold")
async def list_gold_items(request: Request, caller: Admin) -> dict[str, Any]:
    """The gold items in use, and each rater's score."""
    async with request.app.state.services.database.read() as session:
        return await gold.list_gold(session, caller.project_id)


@router.post("/annotation/gold", status_code=201)
async def create_gold_item(request: Request, caller: Admin) -> dict[str, Any]:
    """Make a gold item of two answers to one prompt."""
    body = await read_model(request, GoldBody)
    services: Services = request.app.state.services
    async with services.database.write() as session:
        return await gold.create_gold(session, caller, body, services.settings.feedback, time.time())


@router.delete("/annotation/gold/{gold_id}")
async def retire_gold_item(request: Request, gold_id: GoldId, caller: Admin) -> dict[str, Any]:
    """Hand a gold item out no more."""
    async with request.app.state.services.database.write() as session:
        return await gold.retire_gold(session, caller.project_id, gold_id, time.time())


@router.get("/agreement")
async def show_agreement(
    request: Request, caller: Admin, alias: Annotated[str, Query(min_length=1, max_length=256)]
) -> dict[str, Any]:
    """Agreement of the people who compared answers of an alias, and how often the judge came to what."""
    services: Services = request.app.state.services
    async with services.database.read() as session:
        row = await session.get(Alias, alias) if "\0" not in alias else None
        if row is None or row.project_id != caller.project_id:
            raise ModelNotFound(f"There is no alias {alias!r} here. GET /admin/v1/aliases lists them.", param="alias")
    refill = Refill(row.project_id, services.settings.annotation, services.secrets.derive("audit"))
    async with services.database.write("relaxed") as session:
        await refill.run(session, time.time())
        ballots = await agreement_ballots(session, alias)
        judged = await count_judgements(session, alias)
    return await asyncio.to_thread(agreement_report, alias, ballots) | {"judge": judged}
