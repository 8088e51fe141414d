"""`/v1/annotation`: hand tasks to annotators and take their verdicts in."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.access.authenticate import require
from gateway.access.caller import Caller
from gateway.annotation.bodies import Annotator, AnnotatorBody, ClaimBody, SubmitBody
from gateway.annotation.claim import Claims
from gateway.annotation.errors import QueueEmpty
from gateway.annotation.history import history, queue_view
from gateway.annotation.raters import annotator_of
from gateway.annotation.refill import Refill
from gateway.annotation.submit import Submissions
from gateway.feedback.capture import FeedbackCapture
from gateway.routes.body import read_model
from gateway.routes.idempotency import IdempotentRoute
from gateway.services import Services

router = APIRouter(prefix="/v1/annotation", route_class=IdempotentRoute)

Asking = Annotated[Caller, Depends(require("annotate"))]
TaskId = Annotated[str, Path(pattern=r"^[^\x00]*$")]
RaterId = Annotated[str | None, Query(min_length=1, max_length=256, pattern=r"^[^\x00]*$")]


@router.post("/claim")
async def claim_task(request: Request, caller: Asking) -> dict[str, Any]:
    """The next task for the annotator, held for `annotation.lease_seconds`."""
    services, body = _services(request), await read_model(request, ClaimBody)
    refill = Refill(caller.project_id, services.settings.annotation, services.secrets.derive("audit"))
    async with services.database.write("relaxed") as session:
        await refill.run(session, time.time())
    async with services.database.write("relaxed") as session:
        task = await _claims(services).claim(session, caller, body, time.time())
    if task is None:
        raise QueueEmpty
    return task


@router.post("/tasks/{task_id}/submit")
async def submit_verdict(request: Request, task_id: TaskId, caller: Asking) -> dict[str, Any]:
    """Store a verdict, durably, before the answer."""
    services, body = _services(request), await read_model(request, SubmitBody)

    async def submit(session: AsyncSession) -> dict[str, Any]:
        return await _submissions(services).submit(session, caller, task_id, body, time.time())

    return await services.votes.submit(submit)


@router.post("/tasks/{task_id}/renew")
async def renew_lease(request: Request, task_id: TaskId, caller: Asking) -> dict[str, Any]:
    """More time for a task."""
    services, body = _services(request), await read_model(request, AnnotatorBody)
    async with services.database.write("relaxed") as session:
        return await _claims(services).renew(session, caller, task_id, body, time.time())


@router.post("/tasks/{task_id}/release")
async def release_task(request: Request, task_id: TaskId, caller: Asking) -> dict[str, Any]:
    """Put a task back for others, or for later."""
    services, body = _services(request), await read_model(request, AnnotatorBody)
    async with services.database.write("relaxed") as session:
        return await _claims(services).release(session, caller, task_id, body)


@router.post("/undo")
async def undo_verdict(request: Request, caller: Asking) -> dict[str, Any]:
    """Take the annotator's last verdict back; the next claim hands out its task again."""
    services, body = _services(request), await read_model(request, AnnotatorBody)

    async def undo(session: AsyncSession) -> dict[str, Any]:
        return await _submissions(services).undo(session, caller, body, time.time())

    return await services.votes.submit(undo)


@router.get("/history")
async def show_history(
    request: Request,
    caller: Asking,
    rater: RaterId = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(pattern=r"^verdict_[0-9a-z]{1,64}$")] = None,
) -> dict[str, Any]:
    """The annotator's own verdicts and consistency."""
    services = _services(request)
    async with services.database.read() as session:
        own = _rater_hash(services, caller, rater)
        return await history(session, caller.project_id, own, limit=limit, after=after)


@router.get("/queue")
async def show_queue(request: Request, caller: Asking, rater: RaterId = None) -> dict[str, Any]:
    """How much waits and how much is done."""
    services = _services(request)
    async with services.database.read() as session:
        return await queue_view(session, caller.project_id, _rater_hash(services, caller, rater), time.time())


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


def _claims(services: Services) -> Claims:
    return Claims(services.settings.annotation, services.secrets)


def _submissions(services: Services) -> Submissions:
    capture = FeedbackCapture(services.settings.feedback, services.secrets, services.settings.notify.harmful_tags)
    return Submissions(services.settings.annotation, capture, services.secrets)


def _rater_hash(services: Services, caller: Caller, rater: str | None) -> str:
    body = AnnotatorBody(rater=None if rater is None else Annotator(id=rater))
    return annotator_of(caller, body, services.secrets).id_hash
