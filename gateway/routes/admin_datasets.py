"""For operators: what training would use now, freeze it, look at what was frozen."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict

from gateway.access.authenticate import require
from gateway.access.caller import Caller
from gateway.annotation.agreement_report import agreement_of
from gateway.datasets.build import alias_to_build, build, preview, show
from gateway.feedback.replies import list_reply
from gateway.redaction.configured import training_redaction
from gateway.routes.body import read_model
from gateway.routes.idempotency import IdempotentRoute
from gateway.routes.views import dataset_view
from gateway.services import Services
from gateway.settings import Settings
from gateway.storage.database import Database
from gateway.storage.datasets import list_datasets

router = APIRouter(prefix="/admin/v1", route_class=IdempotentRoute)
Trainer = Annotated[Caller, Depends(require("train"))]


class BuildBody(BaseModel):
    """Which alias's pairs to freeze."""

    model_config = ConfigDict(extra="forbid")

    alias: str | None = None
    """May be left out where there is only one."""
    dry_run: bool = False
    """Only say what a data set would hold."""


@router.post("/datasets")
async def build_dataset(request: Request, caller: Trainer) -> dict[str, Any]:
    """Freeze the pairs that are eligible now; the answer is the card. With `dry_run` nothing is kept."""
    services: Services = request.app.state.services
    body = await read_model(request, BuildBody)
    alias = await alias_to_build(services.database, body.alias)
    return await build_apart(services.settings, alias, body.dry_run)


@router.get("/datasets")
async def list_frozen(request: Request, caller: Trainer, alias: str | None = None) -> dict[str, Any]:
    """The data sets, newest first."""
    async with request.app.state.services.database.read() as session:
        return list_reply([dataset_view(row) for row in await list_datasets(session, alias)])


@router.get("/datasets/{dataset_id}")
async def show_dataset(request: Request, dataset_id: str, caller: Trainer) -> dict[str, Any]:
    """The card of a data set, with the votes that were taken back since."""
    services: Services = request.app.state.services
    card = await show(services.database, services.settings.store_path, dataset_id.replace("\0", ""))
    return {"object": "dataset"} | card


async def build_apart(settings: Settings, alias: str, dry_run: bool = False) -> dict[str, Any]:
    """The card of what the alias's votes make now, frozen unless `dry_run`.

    In a thread of its own: a large data set takes a minute, in which this worker has others to answer.
    """
    return await asyncio.to_thread(lambda: asyncio.run(_build(settings, alias, dry_run)))


async def _build(settings: Settings, alias: str, dry_run: bool) -> dict[str, Any]:
    database = Database(settings.database_url)
    redact = training_redaction(settings.privacy)
    try:
        if dry_run:
            return await preview(database, alias, settings.datasets, redact)
        extra = await agreement_of(database, alias)
        card = await build(database, settings.store_path, alias, settings.datasets, redact, extra)
        return {"object": "dataset"} | card
    finally:
        await database.close()
