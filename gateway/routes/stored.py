"""`/v1/chat/completions`, the stored ones: list, show, tag, delete. Another project's id is as unknown as any other.

Every recorded completion is stored, those of `/v1/responses` too; a request with `store: false` leaves none.
"""

import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.access.authenticate import require
from gateway.access.caller import Caller
from gateway.contracts import ids
from gateway.errors import InvalidRequest, NotFound
from gateway.routes.body import read_model
from gateway.routes.idempotency import IdempotentRoute
from gateway.storage.stored import Page, Stored, delete_stored, find_stored, list_stored
from gateway.wire.stored import completion_view, list_view, message_views

router = APIRouter(prefix="/v1/chat/completions", route_class=IdempotentRoute)
User = Annotated[Caller, Depends(require("inference"))]
Limit = Annotated[int, Query(ge=1, le=100)]
Cursor = Annotated[str | None, Query(max_length=256)]
Order = Literal["asc", "desc"]
WITHOUT_NUL = r"^[^\x00]*$"
TagKey = Annotated[str, Field(min_length=1, max_length=64, pattern=WITHOUT_NUL)]
TagValue = Annotated[str, Field(max_length=512, pattern=WITHOUT_NUL)]
TAG = re.compile(r"metadata\[(.{1,64})\]", re.DOTALL)


class StoredNotFound(NotFound):
    """Unknown, not stored, deleted, or of another project: which of these is not told."""

    code, param = "completion_not_stored", "completion_id"

    def __init__(self, completion_id: str) -> None:
        super().__init__(
            f"No completion {completion_id!r} is stored here. GET /v1/chat/completions lists what there is."
        )


class MetadataBody(BaseModel):
    """What may be changed of a stored completion."""

    model_config = ConfigDict(extra="forbid")

    metadata: dict[TagKey, TagValue] | None = Field(max_length=16)


@router.get("")
async def list_completions(
    request: Request,
    caller: User,
    limit: Limit = 20,
    after: Cursor = None,
    order: Order = "asc",
    model: Annotated[str | None, Query(max_length=256)] = None,
) -> dict[str, Any]:
    """The project's completions, oldest first unless asked otherwise, filtered by model and `metadata[KEY]=VALUE`."""
    tags = _tags(request)
    if "\0" in (model or ""):
        return list_view([], has_more=False)
    async with request.app.state.services.database.read() as session:
        behind = None if after is None else await _place(session, caller.project_id, after, order)
        page = Page(limit, order, behind, model, tags)
        found = await list_stored(session, caller.project_id, page)
    views = [_shown(request, stored) for stored in found[:limit]]
    return list_view(views, has_more=len(found) > limit)


@router.get("/{completion_id}")
async def retrieve_completion(request: Request, caller: User, completion_id: str) -> dict[str, Any]:
    """One completion."""
    async with request.app.state.services.database.read() as session:
        stored = await _find(session, caller.project_id, completion_id)
    return _shown(request, stored)


@router.get("/{completion_id}/messages")
async def list_messages(
    request: Request, caller: User, completion_id: str, limit: Limit = 20, after: Cursor = None, order: Order = "asc"
) -> dict[str, Any]:
    """The messages of the prompt."""
    async with request.app.state.services.database.read() as session:
        stored = await _find(session, caller.project_id, completion_id)
    views = message_views(stored.row)
    if order == "desc":
        views.reverse()
    start = 0
    if after is not None:
        names = [view["id"] for view in views]
        if after not in names:
            raise InvalidRequest(f"`after`: the completion has no message {after!r}.", param="after")
        start = names.index(after) + 1
    return list_view(views[start : start + limit], has_more=len(views) > start + limit)


@router.post("/{completion_id}")
async def tag_completion(request: Request, caller: User, completion_id: str) -> dict[str, Any]:
    """Replace a completion's metadata."""
    body = await read_model(request, MetadataBody)
    async with request.app.state.services.database.write() as session:
        stored = await _find(session, caller.project_id, completion_id, lock=True)
        stored.row.call_metadata = dict(body.metadata or {})
    return _shown(request, stored)


@router.delete("/{completion_id}")
async def delete_completion(request: Request, caller: User, completion_id: str) -> dict[str, Any]:
    """Forget a completion for good. Pairs that votes on it made remain: they are the votes'."""
    _require_storable(completion_id)
    async with request.app.state.services.database.write() as session:
        if not await delete_stored(session, caller.project_id, completion_id):
            raise StoredNotFound(completion_id)
    return {"id": completion_id, "object": "chat.completion.deleted", "deleted": True}


def _shown(request: Request, stored: Stored) -> dict[str, Any]:
    reasoning = request.app.state.services.settings.surface.extensions != "strict"
    return completion_view(stored.row, stored.release_name, reasoning=reasoning)


async def _find(session: AsyncSession, project_id: str, completion_id: str, *, lock: bool = False) -> Stored:
    _require_storable(completion_id)
    stored = await find_stored(session, project_id, completion_id, lock=lock)
    if stored is None:
        raise StoredNotFound(completion_id)
    return stored


async def _place(session: AsyncSession, project_id: str, after: str, order: Order) -> tuple[float, str]:
    """Where the page before ended. Its last completion may have been deleted meanwhile: then its id says when it was.

    An id knows the millisecond only, so a page after a deleted completion may repeat what was made within it.
    """
    stored = None if "\0" in after else await find_stored(session, project_id, after)
    if stored is not None:
        return stored.row.created_at, stored.row.id
    minted = ids.minted_at(after)
    if minted is None:
        raise InvalidRequest(f"`after`: {after!r} is not the id of a completion.", param="after")
    return (minted, "") if order == "asc" else (minted + 0.001, "")


def _tags(request: Request) -> dict[str, str]:
    tags = {}
    for name, value in request.query_params.multi_items():
        if (found := TAG.fullmatch(name)) is not None:
            tags[found[1]] = value
        elif name not in ("limit", "after", "order", "model"):
            raise InvalidRequest(
                f"`{name}` is not taken here; filter by `model` or `metadata[KEY]`.",
                param=name,
                code="unknown_parameter",
            )
    if any("\0" in key + value for key, value in tags.items()):
        raise InvalidRequest("`metadata`: NUL characters cannot be stored, so none will be found.", param="metadata")
    return tags


def _require_storable(completion_id: str) -> None:
    if "\0" in completion_id:  # PostgreSQL takes no such text, so it would be an error instead of an unknown id
        raise StoredNotFound(completion_id)
