"""Asks engines that somebody else runs whether they are well: they have no agent that would say so.

One worker at a time does it, by lease, and writes what it finds where every worker reads it. An engine with an agent
is proved by a real generation instead, and not probed.
"""

import asyncio
import time

import structlog

from gateway.engines.address import Server, trouble_with
from gateway.engines.calls import CallRefused, EngineCalls
from gateway.errors import DatabaseUnavailable, UpstreamError
from gateway.routing.policy import ReplicaView
from gateway.routing.pool import Pool
from gateway.settings import PoolSettings
from gateway.storage.database import Database
from gateway.storage.leases import LeaseLost, check_lease, release_lease, take_lease
from gateway.storage.replicas import mark_foreign

LEASE = "probe"
LEASE_ROUNDS = 3
"""The lease lasts for this many rounds: as long as nobody notices that its holder is gone."""
SERVER_ERROR = 500

log = structlog.get_logger(__name__)


class Record:
    """Probes of one engine, in a row: when they make a change. Knows no clock and no socket."""

    def __init__(self, max_failures: int) -> None:
        self._max_failures = max_failures
        self._failures = 0

    def verdict(self, ready: bool, trouble: str | None) -> bool | None:
        """Whether the engine counts as ready from now on; None: as before. `trouble`: what the probe met."""
        self._failures = 0 if trouble is None else self._failures + 1
        if trouble is None:
            return None if ready else True
        return False if ready and self._failures >= self._max_failures else None


class Prober:
    """Probes every engine without an agent in the pool's table."""

    def __init__(self, database: Database, pool: Pool, settings: PoolSettings, holder: str) -> None:
        self._database, self._pool, self._settings, self._holder = database, pool, settings, holder
        self._records: dict[tuple[str, str], Record] = {}

    async def run(self) -> None:
        """Probe until cancelled."""
        try:
            while True:
                try:
                    await self.step()
                except (DatabaseUnavailable, LeaseLost) as error:
                    log.warning("probe_interrupted", error=error.message)
                except Exception:
                    log.exception("probe_failed")  # the next round may do better
                await asyncio.sleep(self._settings.probe_seconds)
        finally:
            await self._give_lease_back()

    async def step(self) -> None:
        """One round, if there is anything to probe and the lease is ours."""
        foreign = [replica for replica in self._pool.table.replicas if not replica.managed and replica.url]
        epoch = await self._lease() if foreign else None
        if epoch is None:
            self._records.clear()
            return
        async with asyncio.TaskGroup() as probes:
            for replica in foreign:
                probes.create_task(self._look_at(replica, epoch))

    async def _look_at(self, replica: ReplicaView, epoch: int) -> None:
        url = str(replica.url)
        trouble = await probe(url, self._settings.probe_timeout_seconds) or await self._other_weights(replica)
        record = self._records.setdefault((replica.id, url), Record(self._settings.probe_failures))
        ready = record.verdict(replica.ready, trouble)
        if ready is None:
            return
        async with self._database.write("relaxed") as session:
            await check_lease(session, LEASE, self._holder, epoch)
            await mark_foreign(session, replica.id, url, "ready" if ready else "failed", trouble or "")
        if ready:
            log.info("engine_well", replica=replica.id)
        else:
            log.warning("engine_unwell", replica=replica.id, reason=trouble)

    async def _other_weights(self, replica: ReplicaView) -> str | None:
        """Why an address that was given for one release is not to be taken for it."""
        if not replica.given or replica.weights_release_id is None:
            return None
        server = Server(str(replica.url), replica.weights_name, replica.kind)
        limit, returned = self._settings.probe_timeout_seconds, not replica.ready
        return await trouble_with(server, replica.weights_release_id, limit, returned=returned)

    async def _lease(self) -> int | None:
        seconds = LEASE_ROUNDS * (self._settings.probe_seconds + self._settings.probe_timeout_seconds)
        async with self._database.write("relaxed") as session:
            return await take_lease(session, LEASE, self._holder, seconds, time.time())

    async def _give_lease_back(self) -> None:
        try:
            async with self._database.write("relaxed") as session:
                await release_lease(session, LEASE, self._holder)
        except DatabaseUnavailable:
            return  # it expires by itself


async def probe(url: str, timeout_seconds: float) -> str | None:
    """Ask an engine for its health; what is wrong with it, or None.

    A server without `/health` is asked for its models; any answer but a server error shows that it lives.
    """
    calls = EngineCalls(url)
    try:
        try:
            await calls.get("/health", timeout_seconds)
        except CallRefused as refused:
            if refused.answered >= SERVER_ERROR:
                raise
            await calls.get("/v1/models", timeout_seconds)
    except CallRefused as refused:
        return refused.message if refused.answered >= SERVER_ERROR else None
    except UpstreamError as error:
        return error.message
    finally:
        await calls.close()
    return None
