"""`GET /v1/models`: the aliases, and on request every release that can be called by name."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from sqlalchemy import or_, select

from gateway.access.authenticate import require
from gateway.access.caller import Caller
from gateway.errors import ModelNotFound
from gateway.storage.tables import Alias, ReleaseRow

router = APIRouter()
OWNER = "alignway"
_RELEASES = select(ReleaseRow).join(Alias, Alias.name == ReleaseRow.alias).where(Alias.task == "chat")
"""A model that is only passed on has no releases to choose from."""


@router.get("/v1/models")
async def list_models(
    request: Request, caller: Annotated[Caller, Depends(require("inference"))], releases: bool = False
) -> dict[str, Any]:
    """All aliases; with `?releases=true` all releases too."""
    async with request.app.state.services.database.read() as session:
        models = [_model(alias.name, alias.created_at) for alias in await session.scalars(select(Alias))]
        if releases:
            models += [_model(row.name, row.created_at) for row in await session.scalars(_RELEASES)]
    return {"object": "list", "data": sorted(models, key=lambda model: model["id"])}


@router.get("/v1/models/{model:path}")
async def retrieve_model(
    request: Request, model: str, caller: Annotated[Caller, Depends(require("inference"))]
) -> dict[str, Any]:
    """One alias, or a release by its name or by the id that answers have as `system_fingerprint`."""
    found: Alias | ReleaseRow | None = None
    if "\0" not in model:  # PostgreSQL takes no such text
        async with request.app.state.services.database.read() as session:
            named = or_(ReleaseRow.name == model, ReleaseRow.id == model)
            found = await session.get(Alias, model) or await session.scalar(_RELEASES.where(named))
    if found is None:
        raise ModelNotFound(f"There is no model `{model}` here. GET /v1/models lists those there are.")
    return _model(found.name, found.created_at)


def _model(name: str, created_at: float) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": int(created_at), "owned_by": OWNER}
