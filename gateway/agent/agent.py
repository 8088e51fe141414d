"""One agent: supervises the engines of one machine until it is told to stop, then ends them."""

import asyncio
import contextlib
import fcntl
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import structlog
from sqlalchemy.exc import SQLAlchemyError

from gateway.agent.cache import ReleaseCache
from gateway.agent.engine_host import EngineHost
from gateway.agent.releases import ReleaseFetcher, ReleaseLookup
from gateway.agent.settings import AgentSettings
from gateway.agent.supervisor import ReplicaSupervisor
from gateway.errors import StartupFailed
from gateway.storage.bucket import Bucket
from gateway.storage.database import Database
from gateway.storage.migrate import migrate

MIGRATE_AGAIN_SECONDS = 1.0
LOCK_SECONDS = 30.0
"""An agent that was told to stop ends its engines first; its successor waits for that."""
LOCK_POLL_SECONDS = 0.1

log = structlog.get_logger(__name__)


async def run_agent(settings: AgentSettings) -> None:
    """Supervise until SIGTERM or SIGINT. Raises `StartupFailed` if another agent has one of the replicas."""
    stop = asyncio.Event()
    _stop_on_signals(stop)
    async with contextlib.AsyncExitStack() as stack:
        for replica_id in settings.replicas:
            await stack.enter_async_context(_only_agent_of(settings.data_dir, replica_id, stop))
        database = Database(settings.database_url)
        stack.push_async_callback(database.close)
        await _supervise(settings, database, stop)


async def _supervise(settings: AgentSettings, database: Database, stop: asyncio.Event) -> None:
    cache = None
    if settings.store_url is not None:
        bucket = Bucket(settings.store_url, settings.store_endpoint_url)
        cache = ReleaseCache(bucket, settings.keep, settings.spare_bytes)
    releases = ReleaseLookup(database, ReleaseFetcher(settings.store, cache))
    supervisors = [
        ReplicaSupervisor(replica_id, database, releases, EngineHost(replica_id, replica, settings.data_dir))
        for replica_id, replica in settings.replicas.items()
    ]
    work = asyncio.create_task(_run_all(database, supervisors))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait((work, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    work.cancel()
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await work
    finally:
        await asyncio.gather(*(supervisor.shut_down() for supervisor in supervisors))


async def _run_all(database: Database, supervisors: list[ReplicaSupervisor]) -> None:
    await _migrate(database)
    async with asyncio.TaskGroup() as group:
        for supervisor in supervisors:
            group.create_task(supervisor.run())


async def _migrate(database: Database) -> None:
    while True:
        try:
            await migrate(database)
            return
        except (SQLAlchemyError, OSError) as error:
            log.warning("database_unavailable", reason=str(error))
            await asyncio.sleep(MIGRATE_AGAIN_SECONDS)


def _stop_on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


@contextlib.asynccontextmanager
async def _only_agent_of(data_dir: Path, replica_id: str, stop: asyncio.Event) -> AsyncIterator[None]:
    """Hold the replica's lock; the system lets go of it however this process ends."""
    path = data_dir / "engines" / f"{replica_id}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        deadline = asyncio.get_running_loop().time() + LOCK_SECONDS
        while not _locked(file.fileno()):
            if stop.is_set() or asyncio.get_running_loop().time() > deadline:
                raise StartupFailed(f"another agent runs replica {replica_id} in {data_dir}; stop it first")
            await asyncio.sleep(LOCK_POLL_SECONDS)
        yield


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
