"""For operators: aliases, releases, rollouts and replicas; promote and roll back."""

import time
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from gateway.access.authenticate import require
from gateway.access.caller import Caller
from gateway.errors import NotFound, NotPermitted
from gateway.rollout.by_address import find_servers, promote_at
from gateway.rollout.disk import require_room
from gateway.rollout.gate_report import find_report
from gateway.rollout.pausing import pause_training, resume_training
from gateway.rollout.promotion import Promotion, Strategy, find_alias, roll_back
from gateway.routes.body import read_model
from gateway.routes.idempotency import IdempotentRoute
from gateway.routes.views import alias_view, canary_view, release_view, replica_view, rollout_view
from gateway.storage.releases import find_release, list_releases
from gateway.storage.replicas import list_replicas, requests_in_flight
from gateway.storage.rollouts import list_rollouts, steps_of
from gateway.storage.tables import Alias, ReleaseRow, Rollout

router = APIRouter(prefix="/admin/v1", route_class=IdempotentRoute)
Admin = Annotated[Caller, Depends(require("admin"))]
Promoter = Annotated[Caller, Depends(require("promote"))]


class PromoteBody(BaseModel):
    """What to promote, and how."""

    model_config = ConfigDict(extra="forbid")

    release: str
    strategy: Strategy = "immediate"
    expected_current: str | None = None
    reason: str = Field(default="", max_length=2000)
    canary_share: float | None = Field(default=None, gt=0, lt=1)
    urls: list[Annotated[str, Field(max_length=2000)]] = Field(default=[], max_length=64)
    served_model: str | None = Field(default=None, min_length=1, max_length=500)


class PauseBody(BaseModel):
    """Why."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(default="", max_length=2000)


class RollbackBody(BaseModel):
    """Where to go back to; by default, to what was served before."""

    model_config = ConfigDict(extra="forbid")

    release: str | None = None
    reason: str = Field(default="", max_length=2000)


@router.get("/aliases")
async def list_aliases(request: Request, caller: Admin) -> dict[str, Any]:
    """All aliases."""
    async with request.app.state.services.database.read() as session:
        return _listed([alias_view(alias) for alias in await session.scalars(select(Alias).order_by(Alias.name))])


@router.get("/aliases/{alias}")
async def show_alias(request: Request, alias: str, caller: Admin) -> dict[str, Any]:
    """One alias."""
    async with request.app.state.services.database.read() as session:
        return alias_view(await find_alias(session, alias))


@router.post("/aliases/{alias}/promote", status_code=202)
async def promote_release(request: Request, alias: str, caller: Promoter) -> dict[str, Any]:
    """Begin to serve a release under the alias; the answer is the rollout, to be followed by its id.

    `urls`: where servers run that hold it already. They will read what users write, so it takes the scope `admin`.
    """
    body = await read_model(request, PromoteBody)
    services = request.app.state.services
    if body.urls and not caller.may("admin"):
        raise NotPermitted(
            "`urls` sends what users write to servers of your choice, for which a key needs the scope `admin`. Make "
            "one with `alignway keys create --scopes admin`, or leave `urls` out.",
            param="urls",
        )
    first_share = services.settings.canary.steps[0]
    asked = Promotion(
        alias=alias,
        release=body.release,
        strategy=body.strategy,
        actor=caller.key_id,
        reason=body.reason,
        expected_current=body.expected_current,
        canary_share=first_share if body.canary_share is None else body.canary_share,
    )
    require_room(services.settings.store_path, services.settings.releases.min_free_disk_mib)
    servers = await find_servers(services.database, alias, body.release, body.urls, body.served_model)
    async with services.database.write() as session:
        return rollout_view(await promote_at(session, asked, servers, time.time()))


@router.post("/aliases/{alias}/rollback", status_code=202)
async def roll_alias_back(request: Request, alias: str, caller: Promoter) -> dict[str, Any]:
    """Serve again what was served before."""
    body = await read_model(request, RollbackBody)
    async with request.app.state.services.database.write() as session:
        return rollout_view(await roll_back(session, alias, body.release, caller.key_id, body.reason))


@router.post("/aliases/{alias}/pause-training")
async def pause_alias_training(request: Request, alias: str, caller: Promoter) -> dict[str, Any]:
    """Let no training of the alias begin by itself; runs that were asked for go on."""
    body = await read_model(request, PauseBody)
    async with request.app.state.services.database.write() as session:
        return alias_view(await pause_training(session, alias, caller.key_id, body.reason))


@router.post("/aliases/{alias}/resume-training")
async def resume_alias_training(request: Request, alias: str, caller: Promoter) -> dict[str, Any]:
    """Let training begin by itself again, after it was paused or a release was rolled back by itself."""
    async with request.app.state.services.database.write() as session:
        return alias_view(await resume_training(session, alias, caller.key_id))


@router.get("/releases")
async def show_releases(request: Request, caller: Admin, alias: str | None = None) -> dict[str, Any]:
    """Releases, newest first."""
    async with request.app.state.services.database.read() as session:
        return _listed([release_view(row) for row in await list_releases(session, alias)])


@router.get("/releases/{release}")
async def show_release(request: Request, release: str, caller: Admin) -> dict[str, Any]:
    """One release, with its metrics and gates."""
    async with request.app.state.services.database.read() as session:
        row = await find_release(session, release)
    if row is None:
        raise NotFound(f"There is no release `{release}`. GET /admin/v1/releases lists them.", code="release_not_found")
    return release_view(row)


@router.get("/releases/{release}/gates")
async def show_gates(request: Request, release: str, caller: Admin) -> dict[str, Any]:
    """What its gates say of a release: every figure beside its limit, and the most changed answers."""
    services = request.app.state.services
    report = await find_report(services.database, services.settings, release)
    return {"object": "release.gates"} | report.model_dump(mode="json")


@router.get("/rollouts")
async def show_rollouts(request: Request, caller: Admin, alias: str | None = None) -> dict[str, Any]:
    """Rollouts, newest first."""
    async with request.app.state.services.database.read() as session:
        return _listed([rollout_view(row) for row in await list_rollouts(session, alias)])


@router.get("/rollouts/{rollout_id}")
async def show_rollout(request: Request, rollout_id: str, caller: Admin) -> dict[str, Any]:
    """One rollout, every step it took, and where its canary stands."""
    async with request.app.state.services.database.read() as session:
        row = await session.get(Rollout, rollout_id)
        if row is None:
            raise NotFound(f"There is no rollout `{rollout_id}`.", code="rollout_not_found")
        candidate = await session.get(ReleaseRow, row.candidate_id)
        rules = request.app.state.services.settings.canary
        canary = canary_view(row, candidate, rules, time.time())
        return rollout_view(row, await steps_of(session, rollout_id)) | {"canary": canary}


@router.get("/replicas")
async def show_replicas(request: Request, caller: Admin) -> dict[str, Any]:
    """What every engine holds and should hold."""
    async with request.app.state.services.database.read() as session:
        in_flight = await requests_in_flight(session, time.time())
        return _listed([replica_view(row, in_flight[row.url or ""]) for row in await list_replicas(session)])


def _listed(views: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"object": "list", "data": list(views), "has_more": False}
