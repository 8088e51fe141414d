"""Keeps a gateway worker in step with the desired state: reads it, obeys it, and says so.

The worker's word has weight: an agent exchanges weights only when every live worker has acknowledged the fence.
"""

import asyncio
import os
import socket
import time

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts import ids
from gateway.errors import DatabaseUnavailable
from gateway.routing.policy import AliasView, ReleaseView, ReplicaView
from gateway.routing.pool import Pool
from gateway.routing.table import RoutingTable
from gateway.storage import routing_state
from gateway.storage.counters import current_value
from gateway.storage.database import Database
from gateway.storage.glance import Rows
from gateway.storage.replicas import GIVEN
from gateway.storage.tables import Alias, Counter, GatewayWorker, ReleaseRow, Replica

POLL_SECONDS = 0.1
RELOAD_SECONDS = 0.5
"""Agents report readiness without a new epoch, so the state is read again this often."""
BEAT_SECONDS = 1.0

LOOKS = {
    "epoch": select(Counter.value).where(Counter.name == routing_state.ROUTING),
    "aliases": select(
        Alias.name, Alias.serving_release_id, Alias.canary_release_id, Alias.canary_share, Alias.task
    ).order_by(Alias.name),
    "releases": select(ReleaseRow.id, ReleaseRow.name, ReleaseRow.alias).order_by(ReleaseRow.id),
    "replicas": select(
        Replica.id,
        Replica.alias,
        Replica.url,
        Replica.phase,
        Replica.swap_state,
        Replica.epoch,
        Replica.weights_release_id,
        Replica.weights_name,
        Replica.adapters,
        Replica.desired_weights_id,
        Replica.desired_adapters,
        Replica.engine,
        Replica.managed,
        Replica.origin,
        Replica.restarts,
    ).order_by(Replica.id),
}
"""All that `load_table` makes a table of: while none of it changes, the table stays."""

log = structlog.get_logger(__name__)


class RoutingSync:
    """One worker's view of the state, kept fresh by `run`."""

    def __init__(self, database: Database, pool: Pool) -> None:
        """`database` is for this alone, closed on leaving: a heartbeat waits in no queue behind requests."""
        self.worker_id = ids.mint(ids.WORKER)
        self._database = database
        self._glance = database.glance(LOOKS)
        self._seen: list[Rows] = []
        self._pool = pool
        self._started_at = time.time()
        self._loaded_at = self._beaten_at = float("-inf")
        self._beaten_epoch = -1
        self._acknowledged: dict[str, int] = {}
        self._in_trouble = False

    async def run(self) -> None:
        """Poll until cancelled. A database out of reach is ridden out on the state last known."""
        while True:
            began = time.monotonic()
            try:
                await self.step()
                self._in_trouble = False
            except Exception as error:  # nothing may end this task: a worker out of step holds up every exchange
                self._report(error)
            self._pool.freshness.attempted(began)
            await asyncio.sleep(POLL_SECONDS)

    async def step(self) -> None:
        """Beat, read, obey, acknowledge: once.

        The heartbeat comes first: from then on every exchange waits for this worker, so that what it reads next stays
        true until it acknowledges the next fence. After the table is read it is too late.
        """
        began = time.monotonic()
        try:
            if began - self._beaten_at >= BEAT_SECONDS:
                await self._beat(self._pool.table.epoch)
        finally:
            await self._read()
        self._pool.freshness.confirm(min(began, self._beaten_at))
        if self._pool.table.epoch != self._beaten_epoch:
            await self._beat(self._pool.table.epoch)
        await self._acknowledge_fences()

    async def leave(self) -> None:
        """Sign off, so that no fence waits for this worker, and close the connections."""
        try:
            async with self._database.write("relaxed") as session:
                await routing_state.forget_worker(session, self.worker_id)
        finally:
            await self._glance.close()
            await self._database.close()

    def _report(self, error: Exception) -> None:
        if not isinstance(error, DatabaseUnavailable):
            log.error("routing_sync_failed", exc_info=error)
        elif not self._in_trouble:
            log.warning("routing_state_unreachable", error=error.message)
        self._in_trouble = True

    async def _read(self) -> None:
        now = time.monotonic()
        due = now - self._loaded_at >= RELOAD_SECONDS
        if not due and await self._glance.rows("epoch") == self._seen[0]:
            return
        seen = [await self._glance.rows(look) for look in LOOKS]
        if seen != self._seen:
            async with self._database.read() as session:
                epoch = await current_value(session, routing_state.ROUTING)
                self._pool.apply(await load_table(session, epoch))
            self._seen = seen  # looked at before it was read: what changed in between is read again
        self._loaded_at = now

    async def _beat(self, epoch: int) -> None:
        began = time.monotonic()
        worker = GatewayWorker(
            id=self.worker_id,
            host=socket.gethostname(),
            pid=os.getpid(),
            epoch=epoch,
            in_flight={url: count for url, count in self._pool.in_flight_at.items() if count},
            started_at=self._started_at,
            seen_at=time.time(),
        )
        async with self._database.write("relaxed") as session:
            await routing_state.beat(session, worker)
        self._beaten_at, self._beaten_epoch = began, epoch

    async def _acknowledge_fences(self) -> None:
        for replica in self._pool.table.replicas:
            done = self._acknowledged.get(replica.id, -1) >= replica.epoch
            if replica.fenced and not done and not self._pool.in_flight[replica.id]:
                async with self._database.write("relaxed") as session:
                    await routing_state.acknowledge(session, self.worker_id, replica.id, replica.epoch)
                self._acknowledged[replica.id] = replica.epoch


async def load_table(session: AsyncSession, epoch: int) -> RoutingTable:
    """The whole state as of at least `epoch`."""
    aliases = (await session.scalars(select(Alias))).all()
    replicas = (await session.scalars(select(Replica))).all()
    releases = (await session.execute(select(ReleaseRow.id, ReleaseRow.name, ReleaseRow.alias))).all()
    return RoutingTable(
        epoch=epoch,
        aliases={alias.name: _alias_view(alias) for alias in aliases},
        releases={release.id: ReleaseView(release.id, release.name, release.alias) for release in releases},
        replicas=tuple(_replica_view(replica) for replica in replicas),
    )


def _alias_view(alias: Alias) -> AliasView:
    return AliasView(alias.name, alias.serving_release_id, alias.canary_release_id, alias.canary_share, alias.task)


def _replica_view(replica: Replica) -> ReplicaView:
    return ReplicaView(
        id=replica.id,
        alias=replica.alias,
        url=replica.url,
        ready=replica.phase == "ready",
        fenced=replica.swap_state in routing_state.FENCED,
        epoch=replica.epoch,
        weights_release_id=replica.weights_release_id,
        weights_name=replica.weights_name,
        adapters=frozenset(replica.adapters) & frozenset(replica.desired_adapters),
        desired=frozenset((replica.desired_weights_id, *replica.desired_adapters)),
        kind=replica.engine,
        managed=replica.managed,
        given=replica.origin == GIVEN,
        restarts=replica.restarts,
    )
