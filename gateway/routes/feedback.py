"""`/v1/feedback`: take votes in, show them, take them back."""

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.access.authenticate import require
from gateway.access.caller import Caller
from gateway.errors import InvalidRequest
from gateway.feedback.bodies import parse_body
from gateway.feedback.capture import Captured, FeedbackCapture
from gateway.feedback.identity import rater_of
from gateway.feedback.imports import InvalidPairs
from gateway.feedback.lookup import resolve
from gateway.feedback.reading import FeedbackNotFound, feedback_page, show_feedback
from gateway.feedback.targets import wait_for_targets
from gateway.redaction.configured import storage_redaction
from gateway.routes.body import read_body
from gateway.routes.voter import Voter, in_the_name_of
from gateway.services import Services
from gateway.wire.error_body import error_body
from gateway.wire.json_body import parse_json

router = APIRouter()

Retractor = Annotated[Caller, Depends(require("feedback"))]
Reader = Annotated[Caller, Depends(require("feedback:read"))]
FEEDBACK_ID = r"^fb_[0-9a-z]{1,64}$"
MAX_DEPTH = 64
"""Levels of nesting in a body."""


@router.post("/v1/feedback")
async def give_feedback(request: Request, caller: Voter) -> JSONResponse:
    """Store a vote, durably, before the answer: 201 if it is new, 200 if it was known or is revised."""
    services: Services = request.app.state.services
    raw = parse_json(await read_body(request))
    _require_storable_json(raw)
    if (redaction := storage_redaction(services.settings.privacy)) is not None:
        raw = await asyncio.to_thread(redaction.vote, raw)
    settings = services.settings.feedback
    body = in_the_name_of(request, caller, parse_body(await resolve(services.database, caller, raw, settings)))
    rater = rater_of(caller, body, services.secrets)
    services.vote_pace.count(key=caller.key_id, rater=rater.id_hash, address=request.client and request.client.host)
    await wait_for_targets(services.database, caller, body, settings)
    capture = FeedbackCapture(settings, services.secrets)

    async def store(session: AsyncSession) -> Captured:
        return await capture.capture(session, caller, body)

    try:
        captured = await services.votes.submit(store)
    except InvalidPairs as error:
        answer = error_body(error)
        answer["error"]["details"] = error.details
        return JSONResponse(answer, status_code=error.status)
    return JSONResponse(captured.reply, status_code=201 if captured.created else 200)


@router.get("/v1/feedback")
async def list_feedback(
    request: Request,
    caller: Reader,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(pattern=FEEDBACK_ID)] = None,
    order: Literal["asc", "desc"] = "desc",
) -> dict[str, Any]:
    """The project's votes, newest first unless asked otherwise."""
    async with request.app.state.services.database.read() as session:
        return await feedback_page(session, caller.project_id, limit=limit, after=after, order=order)


@router.get("/v1/feedback/{feedback_id}")
async def retrieve_feedback(request: Request, feedback_id: str, caller: Reader) -> dict[str, Any]:
    """One vote and what became of its pairs."""
    _require_storable(feedback_id)
    async with request.app.state.services.database.read() as session:
        return await show_feedback(session, caller.project_id, feedback_id)


@router.delete("/v1/feedback/{feedback_id}")
async def retract_feedback(request: Request, feedback_id: str, caller: Retractor) -> dict[str, Any]:
    """Take a vote back: it is kept, but trains no more."""
    _require_storable(feedback_id)
    services: Services = request.app.state.services
    capture = FeedbackCapture(services.settings.feedback, services.secrets)

    async def retract(session: AsyncSession) -> dict[str, Any]:
        return await capture.retract(session, caller, feedback_id)

    return await services.votes.submit(retract)


def _require_storable(feedback_id: str) -> None:
    if "\0" in feedback_id:  # PostgreSQL takes no such text, so it would be an error instead of an unknown id
        raise FeedbackNotFound(feedback_id)


def _require_storable_json(decoded: Any) -> None:
    waiting = [(decoded, 1)]
    while waiting:
        value, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise InvalidRequest(f"The body is nested more than {MAX_DEPTH} levels deep.", code="invalid_value")
        if isinstance(value, str) and "\0" in value:
            raise InvalidRequest(
                "The body holds a NUL character (\\u0000), which cannot be stored.", code="invalid_value"
            )
        if isinstance(value, dict):
            waiting += [(key, depth) for key in value] + [(item, depth + 1) for item in value.values()]
        elif isinstance(value, list):
            waiting += [(item, depth + 1) for item in value]
