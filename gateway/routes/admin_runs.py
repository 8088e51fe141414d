"""For operators: ask for a training run, follow it, cancel it."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.access.authenticate import require
from gateway.access.caller import Caller
from gateway.contracts.training import TrainingOptions
from gateway.errors import NotFound
from gateway.rollout.forecast import why_waiting
from gateway.rollout.retraining import Wish, queue_run, try_out
from gateway.rollout.run_changes import change_run
from gateway.rollout.triggers import automatic_views
from gateway.routes.body import read_model
from gateway.routes.idempotency import IdempotentRoute
from gateway.routes.views import run_view
from gateway.services import Services
from gateway.storage.feedback_tables import Run
from gateway.storage.runs import find_run, list_run_events, list_runs, queue_position

router = APIRouter(prefix="/admin/v1", route_class=IdempotentRoute)
Trainer = Annotated[Caller, Depends(require("train"))]


class RetrainBody(BaseModel):
    """Which alias to train, and how."""

    model_config = ConfigDict(extra="forbid")

    alias: str | None = None
    """May be left out where there is only one."""
    options: TrainingOptions = TrainingOptions()
    allow_downtime: bool = False
    """With `aligner.devices = "borrow"`: the only engine of the alias may be stopped for it at any time."""
    dry_run: bool = False
    """Only say what a run would train on, where, for how long, and when it would start."""


@router.post("/retrain", status_code=202)
async def retrain(request: Request, caller: Trainer) -> dict[str, Any]:
    """Queue a training run of an alias; the answer is the run, to be followed by its id."""
    body = await read_model(request, RetrainBody)
    services: Services = request.app.state.services
    wish = Wish(body.alias, body.options, body.allow_downtime)
    if body.dry_run:
        return await try_out(services.database, services.settings, wish, time.time())
    queued = await queue_run(services.database, services.settings, wish, caller.key_id, time.time())
    counted = {"train_pairs": queued.pairs.train, "holdout_pairs": queued.pairs.holdout}
    return run_view(queued.run) | {"queue_position": queued.position, **counted}


@router.get("/runs")
async def show_runs(request: Request, caller: Trainer, alias: str | None = None) -> dict[str, Any]:
    """Runs, newest first, and when each alias is trained next without being asked."""
    services: Services = request.app.state.services
    async with services.database.read() as session:
        data = [run_view(run) for run in await list_runs(session, alias)]
        automatic = await automatic_views(session, services.settings.aligner, time.time(), alias)
    return {"object": "list", "data": data, "has_more": False, "automatic": automatic}


@router.get("/runs/{run_id}")
async def show_run(request: Request, run_id: str, caller: Trainer) -> dict[str, Any]:
    """One run."""
    services: Services = request.app.state.services
    async with services.database.read() as session:
        run = await _found(session, run_id)
        waits_for = await why_waiting(session, services.settings.aligner, run, time.time())
        return run_view(run) | {"queue_position": await queue_position(session, run), "waits_for": waits_for}


@router.get("/runs/{run_id}/events")
async def show_run_events(request: Request, run_id: str, caller: Trainer) -> dict[str, Any]:
    """What happened in a run, oldest first."""
    async with request.app.state.services.database.read() as session:
        await _found(session, run_id)
        events = await list_run_events(session, run_id)
    data = [
        {"id": event.id, "type": event.type, "level": event.level, "message": event.message, "data": event.data,
         "created_at": int(event.at)}
        for event in events
    ]  # fmt: skip
    return {"object": "list", "data": data, "has_more": False}


@router.post("/runs/{run_id}/cancel")
async def cancel_run(request: Request, run_id: str, caller: Trainer) -> dict[str, Any]:
    """Stop a run; cancelling one that has ended changes nothing."""
    async with request.app.state.services.database.write() as session:
        run = await _found(session, run_id, locked=True)
        await change_run(session, run, "cancelled", caller.key_id, time.time())
        return run_view(run)


async def _found(session: AsyncSession, run_id: str, *, locked: bool = False) -> Run:
    run = await find_run(session, run_id, locked=locked)
    if run is None:
        raise NotFound(f"There is no run `{run_id}`. GET /admin/v1/runs lists them.", code="run_not_found")
    return run
