"""For operators: ask for a training run, follow it, cancel it."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.access.authenticate import require
from gateway.access.caller import Caller
from gateway.contracts.training import MINIMUM_PAIRS_BY_HAND, TrainingOptions
from gateway.datasets.settle import settle
from gateway.errors import InvalidRequest, NotFound
from gateway.rollout.job_sources import require_weights
from gateway.rollout.promotion import find_trainable
from gateway.rollout.triggers import PairCounts, count_pairs
from gateway.routes.body import read_model
from gateway.routes.idempotency import IdempotentRoute
from gateway.routes.views import run_view
from gateway.services import Services
from gateway.storage.audit import write_audit
from gateway.storage.feedback_tables import Run
from gateway.storage.runs import create_run, find_run, list_run_events, list_runs, queue_position, request_cancel
from gateway.storage.tables import Alias

router = APIRouter(prefix="/admin/v1", route_class=IdempotentRoute)
Trainer = Annotated[Caller, Depends(require("train"))]


class RetrainBody(BaseModel):
    """Which alias to train, and how."""

    model_config = ConfigDict(extra="forbid")

    alias: str | None = None
    """May be left out where there is only one."""
    options: TrainingOptions = TrainingOptions()
    dry_run: bool = False
    """Only say what a run would train on."""


@router.post("/retrain", status_code=202)
async def retrain(request: Request, caller: Trainer) -> dict[str, Any]:
    """Queue a training run of an alias; the answer is the run, to be followed by its id."""
    body = await read_model(request, RetrainBody)
    services: Services = request.app.state.services
    async with services.database.read() as session:
        name = (await _alias_to_train(session, body.alias)).name
    await settle(services.database, name, services.settings.datasets)
    async with services.database.write() as session:
        alias = await _alias_to_train(session, name)
        pairs = await count_pairs(session, alias.name)
        counted = {"train_pairs": pairs.train, "holdout_pairs": pairs.holdout}
        if body.dry_run:
            return {"object": "run.dry_run", "alias": alias.name, "would_start": _enough(pairs), **counted}
        if not _enough(pairs):
            raise InvalidRequest(
                f"`{alias.name}` has {pairs.train + pairs.holdout} eligible pairs ({pairs.train} to train on); a run "
                f"asked for by hand needs {MINIMUM_PAIRS_BY_HAND}. Send more feedback to POST /v1/feedback.",
                code="not_enough_pairs",
            )
        await require_weights(session, alias)
        run = await create_run(
            session, alias=alias.name, trigger="manual", actor=caller.key_id, options=body.options, now=time.time()
        )
        after = {"run": run.id, "options": run.options, **counted}
        await write_audit(session, actor=caller.key_id, action="run.queued", subject=alias.name, after=after)
        return run_view(run) | {"queue_position": await queue_position(session, run), **counted}


@router.get("/runs")
async def show_runs(request: Request, caller: Trainer, alias: str | None = None) -> dict[str, Any]:
    """Runs, newest first."""
    async with request.app.state.services.database.read() as session:
        data = [run_view(run) for run in await list_runs(session, alias)]
    return {"object": "list", "data": data, "has_more": False}


@router.get("/runs/{run_id}")
async def show_run(request: Request, run_id: str, caller: Trainer) -> dict[str, Any]:
    """One run."""
    async with request.app.state.services.database.read() as session:
        run = await _found(session, run_id)
        return run_view(run) | {"queue_position": await queue_position(session, run)}


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
        run = await _found(session, run_id)
        before = {"state": run.state, "cancel_requested": run.cancel_requested}
        await request_cancel(session, run, time.time())
        after = {"state": run.state, "cancel_requested": run.cancel_requested}
        if after != before:
            actor = caller.key_id
            await write_audit(session, actor=actor, action="run.cancelled", subject=run.id, before=before, after=after)
        return run_view(run)


def _enough(pairs: PairCounts) -> bool:
    return pairs.train + pairs.holdout >= MINIMUM_PAIRS_BY_HAND and pairs.train > 0


async def _found(session: AsyncSession, run_id: str) -> Run:
    run = await find_run(session, run_id)
    if run is None:
        raise NotFound(f"There is no run `{run_id}`. GET /admin/v1/runs lists them.", code="run_not_found")
    return run


async def _alias_to_train(session: AsyncSession, name: str | None) -> Alias:
    if name is not None:
        return await find_trainable(session, name)
    aliases = (await session.scalars(select(Alias).where(Alias.task == "chat").order_by(Alias.name))).all()
    if len(aliases) != 1:
        known = ", ".join(alias.name for alias in aliases) or "none"
        raise InvalidRequest(f"Say which alias to train; there are: {known}.", param="alias", code="alias_required")
    return aliases[0]
