"""`/v1/feedback`: take votes in, show them, change them, take them back."""

import asyncio
import re
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.access.authenticate import require
from gateway.access.caller import Caller
from gateway.errors import InvalidRequest
from gateway.feedback.batch import Ballot
from gateway.feedback.bodies import parse_body
from gateway.feedback.capture import Captured
from gateway.feedback.identity import hash_of_rater, rater_of
from gateway.feedback.imports import InvalidPairs
from gateway.feedback.lookup import resolve
from gateway.feedback.reading import FeedbackNotFound, feedback_page, show_feedback
from gateway.feedback.targets import CompletionNotStored, wait_for_targets
from gateway.redaction.configured import storage_redaction
from gateway.routes.body import read_body
from gateway.routes.idempotency import IdempotentRoute, PlainRoute, is_claimed, kept_with
from gateway.routes.voter import in_the_name_of, voter
from gateway.services import Services
from gateway.storage.feedback import Wanted
from gateway.wire.error_body import error_body
from gateway.wire.json_body import is_deeper, parse_json

router = APIRouter(route_class=IdempotentRoute)

Retractor = Annotated[Caller, Depends(require("feedback"))]
Reader = Annotated[Caller, Depends(require("feedback:read"))]
FEEDBACK_ID = r"^fb_[0-9a-z]{1,64}$"
WORD = r"^[a-z_]{1,64}$"
WITHOUT_NUL = r"^[^\x00]*$"
METADATA = re.compile(r"metadata\[(.{1,64})\]", re.DOTALL)
FILTERS = frozenset(
    {"limit", "after", "order", "type", "status", "rater", "completion_id", "created_after", "created_before"}
)
NUL = b"\\u0000"
"""The only way to write the character into JSON."""
MAX_DEPTH = 64
"""Levels of nesting in a body."""


async def give_feedback(request: Request) -> Response:
    """Store a vote, durably, before the answer: 201 if it is new, 200 if it was known or is revised."""
    services: Services = request.app.state.services
    caller = await voter(request)
    raw = _storable(await read_body(request))
    if (redaction := storage_redaction(services.settings.privacy)) is not None:
        raw = await asyncio.to_thread(redaction.vote, raw)
    resolved = await resolve(services.database, caller, raw, services.settings.feedback)
    body = in_the_name_of(request, caller, parse_body(resolved))

    async def keep(session: AsyncSession, captured: Captured) -> None:
        await kept_with(request, session, _answer(captured))

    rater = rater_of(caller, body, services.secrets)
    services.vote_pace.count(key=caller.key_id, rater=rater.id_hash, address=request.client and request.client.host)
    try:
        return _answer(await _taken_in(services, Ballot(caller, body, rater, keep if is_claimed(request) else None)))
    except InvalidPairs as error:
        refusal = error_body(error)
        refusal["error"]["details"] = error.details
        return JSONResponse(refusal, status_code=error.status)


router.add_api_route("/v1/feedback", give_feedback, methods=["POST"], route_class_override=PlainRoute)


async def _taken_in(services: Services, ballot: Ballot) -> Captured:
    """Store a vote; one on a completion that is still being written waits for it."""
    try:
        return await services.votes.submit_to(services.vote_batch, ballot)
    except CompletionNotStored:
        await wait_for_targets(services.database, ballot.caller, ballot.body, services.settings.feedback)
    return await services.votes.submit_to(services.vote_batch, ballot)


def _answer(captured: Captured) -> Response:
    body = msgspec.json.encode(captured.reply)
    return Response(body, status_code=201 if captured.created else 200, media_type="application/json")


@router.get("/v1/feedback")
async def list_feedback(
    request: Request,
    caller: Reader,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(pattern=FEEDBACK_ID)] = None,
    order: Literal["asc", "desc"] = "desc",
    type: Annotated[str | None, Query(pattern=WORD)] = None,
    status: Annotated[str | None, Query(pattern=WORD)] = None,
    rater: Annotated[str | None, Query(min_length=1, max_length=256, pattern=WITHOUT_NUL)] = None,
    completion_id: Annotated[str | None, Query(pattern=r"^[0-9A-Za-z_-]{1,256}$")] = None,
    created_after: Annotated[float | None, Query(allow_inf_nan=False)] = None,
    created_before: Annotated[float | None, Query(allow_inf_nan=False)] = None,
) -> dict[str, Any]:
    """The project's votes, newest first unless asked otherwise; also filtered by `metadata[KEY]=VALUE`.

    `rater` is the `id_hash` of a reply, or the id that a vote was sent with.
    """
    services: Services = request.app.state.services
    wanted = Wanted(
        type=type,
        status=status,
        rater_hash=rater and hash_of_rater(services.secrets, caller.project_id, rater),
        completion_id=completion_id,
        metadata=_metadata(request),
        created_after=created_after,
        created_before=created_before,
    )
    async with services.database.read() as session:
        return await feedback_page(session, caller.project_id, limit=limit, after=after, order=order, wanted=wanted)


@router.get("/v1/feedback/{feedback_id}")
async def retrieve_feedback(request: Request, feedback_id: str, caller: Reader) -> dict[str, Any]:
    """One vote and what became of its pairs."""
    _require_storable(feedback_id)
    async with request.app.state.services.database.read() as session:
        return await show_feedback(session, caller.project_id, feedback_id)


@router.post("/v1/feedback/{feedback_id}")
async def update_feedback(request: Request, feedback_id: str, caller: Retractor) -> JSONResponse:
    """Change a vote: its tags, comment or metadata, or what it says of the choices; a new revision."""
    _require_storable(feedback_id)
    services: Services = request.app.state.services
    changes = _storable(await read_body(request))
    capture = services.vote_batch.capture

    async def update(session: AsyncSession) -> JSONResponse:
        answer = JSONResponse(await capture.update(session, caller, feedback_id, changes))
        await kept_with(request, session, answer)
        return answer

    return await services.votes.submit(update)


@router.delete("/v1/feedback/{feedback_id}")
async def retract_feedback(request: Request, feedback_id: str, caller: Retractor) -> dict[str, Any]:
    """Take a vote back: it is kept, but trains no more."""
    _require_storable(feedback_id)
    services: Services = request.app.state.services
    capture = services.vote_batch.capture

    async def retract(session: AsyncSession) -> dict[str, Any]:
        return await capture.retract(session, caller, feedback_id)

    return await services.votes.submit(retract)


def _metadata(request: Request) -> dict[str, str]:
    """The filters `metadata[KEY]=VALUE`. Raises `InvalidRequest` for any other parameter that is not taken."""
    found = {}
    for name, value in request.query_params.multi_items():
        if (match := METADATA.fullmatch(name)) is not None:
            found[match[1]] = value
        elif name not in FILTERS:
            raise InvalidRequest(
                f"`{name}` is not taken here; filter by {', '.join(sorted(FILTERS))} or `metadata[KEY]`.",
                param=name,
                code="unknown_parameter",
            )
    if any("\0" in key + value for key, value in found.items()):
        raise InvalidRequest("`metadata`: NUL characters cannot be stored, so none will be found.", param="metadata")
    return found


def _require_storable(feedback_id: str) -> None:
    if "\0" in feedback_id:  # PostgreSQL takes no such text, so it would be an error instead of an unknown id
        raise FeedbackNotFound(feedback_id)


def _storable(body: bytes) -> Any:
    """Decoded JSON that both databases can store. Raises `InvalidRequest`."""
    decoded = parse_json(body)
    brackets = body.count(b"{") + body.count(b"[")
    if brackets > MAX_DEPTH and is_deeper(decoded, MAX_DEPTH):
        raise InvalidRequest(f"The body is nested more than {MAX_DEPTH} levels deep.", code="invalid_value")
    if NUL in body and _holds_nul(decoded):
        raise InvalidRequest("The body holds a NUL character (\\u0000), which cannot be stored.", code="invalid_value")
    return decoded


def _holds_nul(decoded: Any) -> bool:
    waiting = [decoded]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str) and "\0" in value:
            return True
        if isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value
    return False
