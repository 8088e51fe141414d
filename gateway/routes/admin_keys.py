"""For operators: make, list, rotate and revoke keys. A secret is in the answer that makes it, and nowhere else."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict

from gateway.access import issue
from gateway.access.authenticate import require
from gateway.access.caller import DEFAULT_SCOPES, Caller, KeyLimits
from gateway.routes.body import read_model
from gateway.routes.idempotency import SecretRoute
from gateway.storage import keys
from gateway.storage.tables import ApiKey

router = APIRouter(prefix="/admin/v1/keys", route_class=SecretRoute)
Admin = Annotated[Caller, Depends(require("admin"))]
SECRET_HEADERS = {"cache-control": "no-store"}


class KeyBody(BaseModel):
    """A key to make."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    scopes: list[str] = list(DEFAULT_SCOPES)
    project: str = keys.DEFAULT_PROJECT
    expires_in: str | None = None
    expires_at: float | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    streams: int | None = None
    images: bool = False
    train: bool = True
    """Whether its completions and votes may make pairs."""


class RotationBody(BaseModel):
    """How a key is rotated."""

    model_config = ConfigDict(extra="forbid", strict=True)

    grace: str = "1h"


@router.get("")
async def list_keys(request: Request, caller: Admin) -> dict[str, Any]:
    """All keys, oldest first, the revoked and expired ones too."""
    async with request.app.state.services.database.read() as session:
        views = [_view(key) for key in await keys.list_keys(session)]
    return {"object": "list", "data": views, "has_more": False}


@router.post("", status_code=201)
async def create_key(request: Request, response: Response, caller: Admin) -> dict[str, Any]:
    """Make a key; `key` in the answer is its secret, shown this once."""
    body = await read_model(request, KeyBody)
    limits = KeyLimits(body.requests_per_minute, body.tokens_per_minute, body.streams)
    terms = issue.checked_terms(body.expires_in, body.expires_at, limits, body.images, body.train)
    async with request.app.state.services.database.write() as session:
        key, secret = await issue.issue_key(session, body.project, body.name, body.scopes, terms, caller.key_id)
    response.headers.update(SECRET_HEADERS)
    return _view(key) | {"key": secret}


@router.get("/{key_id}")
async def show_key(request: Request, key_id: str, caller: Admin) -> dict[str, Any]:
    """One key."""
    async with request.app.state.services.database.read() as session:
        return _view(await issue.find_by_id(session, key_id))


@router.delete("/{key_id}")
async def revoke_key(request: Request, key_id: str, caller: Admin) -> dict[str, Any]:
    """Turn a key off for good, on every worker within a second."""
    async with request.app.state.services.database.write() as session:
        return _view(await issue.revoke(session, key_id, caller.key_id))


@router.post("/{key_id}/rotate")
async def rotate_key(request: Request, response: Response, key_id: str, caller: Admin) -> dict[str, Any]:
    """Give a key a new secret, shown this once; the old one works until the grace is over."""
    body = await read_model(request, RotationBody)
    async with request.app.state.services.database.write() as session:
        key, secret = await issue.rotate(session, key_id, body.grace, caller.key_id)
    response.headers.update(SECRET_HEADERS)
    return _view(key) | {"key": secret}


def _view(key: ApiKey) -> dict[str, Any]:
    return {"object": "key"} | issue.key_view(key, time.time())
