"""Composition root of a gateway worker: makes every object, hands each its parts, mounts the routes."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Protocol

import structlog
from fastapi import FastAPI
from starlette.types import ASGIApp

from gateway.access.authenticate import Authenticator
from gateway.access.caller import SCOPES, Caller, KeyLimits
from gateway.access.limits import Limiter
from gateway.access.secrets import Secrets
from gateway.annotation.sampling import Comparisons
from gateway.contracts import ids
from gateway.engines.openai_client import EngineClient
from gateway.engines.upstream import Upstreams
from gateway.feedback.batch import VoteBatch
from gateway.feedback.capture import FeedbackCapture
from gateway.feedback.pace import VotePace
from gateway.notify.notifier import Notifier
from gateway.privacy.housekeeper import Housekeeper
from gateway.redaction.configured import storage_redaction
from gateway.rollout.reconciler import Reconciler
from gateway.routes import (
    admin_annotation,
    admin_audit,
    admin_datasets,
    admin_erasures,
    admin_gates,
    admin_keys,
    admin_notifications,
    admin_raters,
    admin_releases,
    admin_retention,
    admin_runs,
    admin_usage,
    admin_users,
    annotation,
    chat,
    completions,
    feedback,
    feedback_imports,
    files,
    fine_tuning,
    health,
    lineage,
    models,
    passed_on,
    responses,
    stored,
)
from gateway.routes.cross_origin import allow_votes_from_pages
from gateway.routes.errors import install_error_handlers
from gateway.routes.request_ids import RequestIds
from gateway.routing.drain import Drain
from gateway.routing.pool import Pool
from gateway.routing.probe import Prober
from gateway.routing.reading import read_pool
from gateway.routing.sync import RoutingSync
from gateway.services import Services
from gateway.settings import Settings
from gateway.storage.completion_log import CompletionLog
from gateway.storage.database import Database
from gateway.storage.group_commit import GroupCommit
from gateway.storage.keys import ensure_project, ensure_root_secret
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.request_log import RequestLog
from gateway.telemetry.shared import WorkerFiles
from gateway.telemetry.traces import make_traces

SYNC_WAIT_SECONDS = 2.0
"""A heartbeat that takes longer than this is given up and tried again, well within the lease."""
LIMITS_WAIT_SECONDS = 1.0
"""A database that is busy for longer counts as away, for limits."""
ROUTERS = tuple(
    module.router
    for module in (
        # First, as the framework looks for a route from the top, and chats have a lane of their own.
        feedback_imports,  # before feedback, whose routes take any word for an id
        feedback,
        lineage,
        chat,
        stored,
        completions,
        responses,
        passed_on,
        models,
        annotation,
        admin_annotation,
        files,
        fine_tuning,
        admin_keys,
        admin_datasets,
        admin_audit,
        admin_notifications,
        admin_usage,
        admin_releases,
        admin_runs,
        admin_erasures,
        admin_retention,
        admin_gates,
        admin_raters,
        admin_users,
        health,
    )
)


log = structlog.get_logger(__name__)


class Application(FastAPI):
    """FastAPI with a request id on every answer, those of its outermost error handler included."""

    def build_middleware_stack(self) -> ASGIApp:
        """The framework's own layers, and ours around them."""
        return RequestIds(super().build_middleware_stack())


def create_app(settings: Settings) -> FastAPI:
    """The ASGI application of one worker. The database must have been migrated."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.services = services = await build_services(settings, app.state.drain)
        await services.sync.step()
        reconciler = Reconciler(
            services.database, settings, services.sync.worker_id, epoch=lambda: services.pool.table.epoch
        )
        prober = Prober(services.database, services.pool, settings.pool, holder=services.sync.worker_id)
        housekeeper = Housekeeper(services.database, settings, holder=services.sync.worker_id, metrics=services.metrics)
        app.state.drain.at_end(services.pool.shut)
        jobs: list[Job] = [services.sync, services.limiter, reconciler, prober, housekeeper, services.metrics]
        jobs += comparing(services)
        jobs.append(Notifier(services.database, settings.notify, holder=services.sync.worker_id))
        if settings.webhooks.url is not None:
            from gateway.rollout.webhooks import WebhookSender  # with aiohttp, 7 MB

            jobs.append(WebhookSender(services.database, settings.webhooks, holder=services.sync.worker_id))
        tasks = [asyncio.create_task(job.run()) for job in jobs]
        try:
            yield
        finally:
            app.state.draining = True
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task
            await close_services(services)

    # A redirect would be an answer without the envelope, and leads wherever the client's `Host` header says.
    app = Application(
        title="Alignway",
        version="0.1.0",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.draining, app.state.drain = False, Drain()
    install_error_handlers(app)
    allow_votes_from_pages(app, settings.server.cors_origins)
    for router in ROUTERS:
        app.include_router(router)
    return app


async def build_services(settings: Settings, drain: Drain) -> Services:
    """Everything the routes share, made in order of dependence."""
    database = Database(settings.database_url)
    async with database.write() as session:
        secrets = Secrets(await ensure_root_secret(session))
        project = await ensure_project(session)
    open_to_all_as = None
    if settings.server.auth == "off":
        open_to_all_as = Caller("key_local", project.id, frozenset(SCOPES), "local")
    pool = Pool(settings.swap, settings.pool)
    redact = await asyncio.to_thread(storage_redaction, settings.privacy)
    completions = CompletionLog(settings.database_url, None if redact is None else redact.completion)
    engines = EngineClient(settings.upstream, lambda: pool.freshness.is_fresh())
    comparisons = None
    if settings.comparisons.share > 0:
        parts = (database, pool, engines, completions, secrets)
        comparisons = Comparisons(settings.comparisons, settings.annotation, *parts)
    return Services(
        settings=settings,
        database=database,
        secrets=secrets,
        authenticator=Authenticator(database, open_to_all_as),
        limiter=make_limiter(settings),
        votes=GroupCommit(database, "durable"),
        vote_pace=VotePace(settings.feedback, settings.server.workers),
        completions=completions,
        engines=engines,
        vote_batch=VoteBatch(FeedbackCapture(settings.feedback, secrets, settings.notify.harmful_tags)),
        upstreams=Upstreams(settings.upstream),
        pool=pool,
        sync=RoutingSync(Database(settings.database_url, SYNC_WAIT_SECONDS), pool),
        metrics=Metrics(WorkerFiles(settings.data_dir / "metrics"), partial(read_pool, pool)),
        traces=make_traces(settings.telemetry.otlp_endpoint),
        request_log=RequestLog(settings.telemetry),
        drain=drain,
        comparisons=comparisons,
    )


class Job(Protocol):
    """What a worker does beside answering, until it is cancelled."""

    async def run(self) -> None:
        """Do it."""


def comparing(services: Services) -> list[Job]:
    """The jobs that make and judge comparisons, as far as they are switched on."""
    jobs: list[Job] = [] if services.comparisons is None else [services.comparisons]
    judge, key = services.settings.judge, None
    if judge.api_key_env is not None:
        key = os.environ.get(judge.api_key_env)
        if not key:
            log.error("judge_off", reason=f"judge.api_key_env names {judge.api_key_env}, which is not set")
            return jobs
    if judge.base_url is not None:
        from gateway.annotation.judge import Judge  # with aiohttp, 7 MB

        parts = (services.database, services.settings, services.secrets, services.votes)
        jobs.append(Judge(*parts, holder=services.sync.worker_id, api_key=key))
    return jobs


def make_limiter(settings: Settings) -> Limiter:
    """The limiter of this worker, on a database connection of its own that does not wait for long."""
    defaults = KeyLimits(**settings.limits.model_dump())
    return Limiter(Database(settings.database_url, LIMITS_WAIT_SECONDS), ids.mint(ids.WORKER), defaults)


async def close_services(services: Services) -> None:
    """Commit what is pending, sign off, close connections."""
    await services.votes.close()
    await services.completions.close()
    services.metrics.close()  # what could not be recorded is counted by now
    with suppress(Exception):
        await services.limiter.close()
    with suppress(Exception):
        await services.sync.leave()
    await services.engines.close()
    await services.upstreams.close()
    await services.authenticator.close()
    await services.database.close()
    await asyncio.to_thread(services.traces.close)  # last: a collector that is away takes its time
