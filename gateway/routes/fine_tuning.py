"""`/v1/fine_tuning/jobs`: training runs as OpenAI's clients know them. One that `succeeded` is measured, not served."""

import time
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.access.authenticate import require
from gateway.access.caller import Caller
from gateway.contracts import ids
from gateway.datasets.settle import settle
from gateway.errors import NotFound
from gateway.feedback.replies import list_reply
from gateway.rollout import fine_tuning as jobs
from gateway.rollout.job_sources import Rows, check_rows, find_model, look_at
from gateway.rollout.run_changes import Change, change_run
from gateway.rollout.triggers import count_pairs
from gateway.routes.admin_datasets import build_apart
from gateway.routes.body import read_fields
from gateway.routes.idempotency import IdempotentRoute
from gateway.services import Services
from gateway.storage import fine_tuning as stored
from gateway.storage.audit import write_audit
from gateway.storage.feedback_tables import Run
from gateway.storage.routing_state import lock_alias
from gateway.storage.runs import create_run
from gateway.wire.json_body import invalid_field, invalid_value, unsupported_parameter

router = APIRouter(prefix="/v1/fine_tuning/jobs", route_class=IdempotentRoute)
Trainer = Annotated[Caller, Depends(require("train"))]
Cursor = Annotated[str | None, Query(max_length=256, pattern=r"^[^\x00]*$")]
Limit = Annotated[int, Query(ge=1, le=100)]
RETRY = "x-stainless-retry-count"
REPEAT_SECONDS = 600.0
"""A retry of the SDK within this time gets the job that the first try made."""


class JobUnknown(NotFound):
    """Unknown, or of another project."""

    code, param = "job_not_found", "fine_tuning_job_id"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"There is no job {job_id!r} in this project. GET /v1/fine_tuning/jobs lists them.")


@router.post("")
async def create_job(request: Request, caller: Trainer) -> dict[str, Any]:
    """Queue a run; the answer is the job. Where `feedback:auto` is asked for, votes are frozen first."""
    fields, _ = await read_fields(request)
    services: Services = request.app.state.services
    digest = jobs.digest_of(fields)
    async with services.database.read() as session:
        if made := await _made_before(session, request, caller, digest):
            return await _view(session, caller, made)
    try:
        body = jobs.JobBody.model_validate(fields)
    except ValidationError as error:
        raise invalid_field(error) from error
    plan = jobs.plan_of(body)
    sources = await _sources(services, caller, body, plan)
    async with services.database.write() as session:
        await lock_alias(session, sources.alias)
        run = await _made_before(session, request, caller, digest)
        if run is None:
            asked = {"asked": jobs.asked_of(body, plan), "asked_sha256": digest}
            run = await _queue(session, caller, sources, plan, asked)
        return await _view(session, caller, run)


@router.get("")
async def list_jobs(request: Request, caller: Trainer, limit: Limit = 20, after: Cursor = None) -> dict[str, Any]:
    """The project's jobs, newest first; `metadata[name]=value` leaves those that have it."""
    wanted = _metadata_wanted(request)
    async with request.app.state.services.database.read() as session:
        behind = None if after is None else await _found(session, caller, after)
        found = await stored.list_jobs(session, caller.project_id, limit=limit + 1, after=behind, metadata=wanted)
        names = await stored.names_of(session, found)
    now = time.time()
    data = [jobs.job_view(run, caller.project_id, names.get(run.release_id or ""), now) for run in found[:limit]]
    return list_reply(data, has_more=len(found) > limit)


@router.get("/{job_id}")
async def retrieve_job(request: Request, job_id: str, caller: Trainer) -> dict[str, Any]:
    """One job."""
    async with request.app.state.services.database.read() as session:
        return await _view(session, caller, await _found(session, caller, job_id))


@router.get("/{job_id}/events")
async def list_events(
    request: Request, job_id: str, caller: Trainer, limit: Limit = 20, after: Cursor = None
) -> dict[str, Any]:
    """What happened in a job, newest first."""
    async with request.app.state.services.database.read() as session:
        run = await _found(session, caller, job_id)
        found = await stored.page_of_events(session, run.id, limit=limit + 1, after=after)
    return list_reply([jobs.event_view(event) for event in found[:limit]], has_more=len(found) > limit)


@router.get("/{job_id}/checkpoints")
async def list_checkpoints(
    request: Request, job_id: str, caller: Trainer, limit: Limit = 10, after: Cursor = None
) -> dict[str, Any]:
    """Where the run could go on from, newest first. The last one is the release; the others go when it is made."""
    async with request.app.state.services.database.read() as session:
        run = await _found(session, caller, job_id)
        events = await stored.checkpoints_of(session, run.id)
        names = await stored.names_of(session, [run])
    data = [jobs.checkpoint_view(event, run, names.get(run.release_id or "")) for event in events]
    data = [one for one in data if after is None or one["id"] < after]
    return list_reply(data[:limit], has_more=len(data) > limit)


@router.post("/{job_id}/cancel")
async def cancel_job(request: Request, job_id: str, caller: Trainer) -> dict[str, Any]:
    """Stop a job: at once if it waits, else between two steps. One that has ended stays as it is."""
    return await _change(request, job_id, caller, "cancelled")


@router.post("/{job_id}/pause")
async def pause_job(request: Request, job_id: str, caller: Trainer) -> dict[str, Any]:
    """Stop a job for now: at once if it waits, else behind a checkpoint; its aligner takes the next one meanwhile."""
    return await _change(request, job_id, caller, "paused")


@router.post("/{job_id}/resume")
async def resume_job(request: Request, job_id: str, caller: Trainer) -> dict[str, Any]:
    """Queue a paused job again; it goes on from its newest checkpoint."""
    return await _change(request, job_id, caller, "resumed")


async def _change(request: Request, job_id: str, caller: Caller, to: Change) -> dict[str, Any]:
    async with request.app.state.services.database.write() as session:
        run = await _found(session, caller, job_id, locked=True)
        await change_run(session, run, to, caller.key_id, time.time())
        return await _view(session, caller, run)


@dataclass(frozen=True)
class _Sources:
    """What is trained, and on what, with `feedback:auto` resolved."""

    alias: str
    training_file: str
    validation_file: str | None


async def _made_before(session: AsyncSession, request: Request, caller: Caller, digest: str) -> Run | None:
    """The job that the first try of this request made, if this is another try."""
    count = request.headers.get(RETRY, "")
    if not count.isdecimal() or int(count) == 0:
        return None
    return await stored.find_repeated(session, caller.key_id, digest, time.time() - REPEAT_SECONDS)


async def _queue(
    session: AsyncSession, caller: Caller, sources: _Sources, plan: jobs.Plan, asked: dict[str, Any]
) -> Run:
    files = {"training_file": sources.training_file, "validation_file": sources.validation_file}
    as_it_is = sources.training_file.startswith(ids.DATASET) and sources.validation_file is None
    run = await create_run(
        session,
        alias=sources.alias,
        trigger="manual",
        actor=caller.key_id,
        options=plan.options,
        now=time.time(),
        dataset_id=sources.training_file if as_it_is else None,
        **files,
        **asked,
    )
    after = {"run": run.id, "options": run.options, **files}
    await write_audit(session, actor=caller.key_id, action="run.queued", subject=run.alias, after=after)
    return run


async def _sources(services: Services, caller: Caller, body: jobs.JobBody, plan: jobs.Plan) -> _Sources:
    """Raises what is wrong with them, as far as counts of rows tell."""
    async with services.database.read() as session:
        alias = await find_model(session, caller.project_id, body.model)
        for source, param in ((body.training_file, "training_file"), (body.validation_file, "validation_file")):
            if source not in (None, jobs.FEEDBACK):
                await look_at(session, alias, source, param)
    frozen = None
    if jobs.FEEDBACK in (body.training_file, body.validation_file):
        frozen = await _freeze_votes(services, alias.name)
    training, validation = (
        frozen if source == jobs.FEEDBACK else source for source in (body.training_file, body.validation_file)
    )
    if training is None:
        raise invalid_value("training_file", "is missing")
    async with services.database.read() as session:
        rows = await look_at(session, alias, training, "training_file")
        held: Rows | None = None
        if validation is not None:
            held = await look_at(session, alias, validation, "validation_file")
    check_rows(plan.options.method, rows, held, dataset=training.startswith(ids.DATASET))
    return _Sources(alias.name, training, validation)


async def _freeze_votes(services: Services, alias: str) -> str:
    """A new data set of the votes that are eligible now. Raises `NotEnoughRows`."""
    await settle(services.database, alias, services.settings.datasets)
    async with services.database.read() as session:
        pairs = await count_pairs(session, alias)
    check_rows("orpo", Rows(pairs.train, pairs.holdout, answers=False), None, dataset=True)
    card = await build_apart(services.settings, alias)
    return str(card["id"])


def _metadata_wanted(request: Request) -> dict[str, str]:
    wanted: dict[str, str] = {}
    for name, value in request.query_params.items():
        if name == "metadata":
            raise unsupported_parameter("metadata", "ask for one value as `metadata[name]=value`")
        if name.startswith("metadata[") and name.endswith("]"):
            wanted[name[len("metadata[") : -1]] = value
    if any(set(text) & {'"', "\0"} for text in (*wanted, *wanted.values())):
        raise invalid_value("metadata", "holds a character that no filter takes")
    return wanted


async def _found(session: AsyncSession, caller: Caller, job_id: str, *, locked: bool = False) -> Run:
    if "\0" in job_id:  # PostgreSQL takes no such text
        raise JobUnknown(job_id)
    run = await stored.find_job(session, caller.project_id, job_id, locked=locked)
    if run is None:
        raise JobUnknown(job_id)
    return run


async def _view(session: AsyncSession, caller: Caller, run: Run) -> dict[str, Any]:
    names = await stored.names_of(session, [run])
    return jobs.job_view(run, caller.project_id, names.get(run.release_id or ""), time.time())
