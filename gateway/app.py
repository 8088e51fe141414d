"""Composition root of a gateway worker: makes every object, hands each its parts, mounts the routes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

from fastapi import FastAPI
from starlette.types import ASGIApp

from gateway.access.authenticate import Authenticator
from gateway.access.caller import SCOPES, Caller, KeyLimits
from gateway.access.limits import Limiter
from gateway.access.secrets import Secrets
from gateway.contracts import ids
from gateway.engines.openai_client import EngineClient
from gateway.engines.upstream import Upstreams
from gateway.feedback.batch import VoteBatch
from gateway.feedback.capture import FeedbackCapture
from gateway.rollout.reconciler import Reconciler
from gateway.routes import (
    admin_audit,
    admin_keys,
    admin_releases,
    admin_runs,
    admin_usage,
    chat,
    completions,
    feedback,
    health,
    models,
    passed_on,
    responses,
    stored,
)
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
        feedback,  # first, as the framework looks for a route from the top, and chats have a lane of their own
        chat,
        stored,
        completions,
        responses,
        passed_on,
        models,
        admin_keys,
        admin_audit,
        admin_usage,
        admin_releases,
        admin_runs,
        health,
    )
)


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
        app.state.drain.at_end(services.pool.shut)
        jobs = (services.sync, services.limiter, reconciler, prober, services.metrics)
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
    return Services(
        settings=settings,
        database=database,
        secrets=secrets,
        authenticator=Authenticator(database, open_to_all_as),
        limiter=make_limiter(settings),
        votes=GroupCommit(database, "durable"),
        vote_batch=VoteBatch(FeedbackCapture(settings.feedback, secrets)),
        completions=CompletionLog(settings.database_url),
        engines=EngineClient(settings.upstream, lambda: pool.freshness.is_fresh()),
        upstreams=Upstreams(settings.upstream),
        pool=pool,
        sync=RoutingSync(Database(settings.database_url, SYNC_WAIT_SECONDS), pool),
        metrics=Metrics(WorkerFiles(settings.data_dir / "metrics"), partial(read_pool, pool)),
        traces=make_traces(settings.telemetry.otlp_endpoint),
        request_log=RequestLog(settings.telemetry),
        drain=drain,
    )


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
