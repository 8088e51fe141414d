"""Replicas as rows: register, report, list. What is desired of them is in `routing_state.py`."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts.ids import WEIGHTS_NAME
from gateway.storage.counters import current_value
from gateway.storage.routing_state import ROUTING, bump_epoch
from gateway.storage.tables import GatewayWorker, Replica

GIVEN = "promotion"
"""`Replica.origin` of an engine whose address was given with a promotion; it holds that release alone."""
LIVE_SECONDS = 30.0
"""A worker that has not written for longer is taken to have ended, and its requests with it."""


@dataclass(frozen=True)
class ReplicaReport:
    """What an agent says of its engine; the columns of `Replica` that are the agent's to write."""

    phase: str
    """starting, ready, failed, lent or stopped."""
    url: str | None
    weights_release_id: str | None
    adapters: tuple[str, ...]
    max_adapter_rank: int
    restarts: int
    detail: str
    in_place: bool = True


async def register_replica(
    session: AsyncSession,
    replica_id: str,
    alias: str,
    engine: str,
    weights_id: str,
    url: str | None = None,
    weights_name: str = WEIGHTS_NAME,
    devices: str | None = None,
) -> Replica:
    """Record a replica of `alias`, or find it again with everything that is known of it.

    With a `url` it is an engine that somebody else runs: taken to be ready, holding `weights_id` under the model name
    `weights_name`, loaded by nobody.
    """
    replica = await session.get(Replica, replica_id)
    if replica is None:
        # Read, not taken: the counter is locked after the last replica, never before one.
        replica = _new_replica(replica_id, alias, engine, weights_id, await current_value(session, ROUTING))
        session.add(replica)
    replica.alias, replica.engine, replica.managed = alias, engine, url is None
    replica.weights_name, replica.devices = weights_name, devices
    if url is not None:
        replica.url, replica.phase, replica.weights_release_id = url, "ready", replica.desired_weights_id
        replica.seen_at = time.time()
    await session.flush()
    return replica


def _new_replica(replica_id: str, alias: str, engine: str, weights_id: str, epoch: int) -> Replica:
    return Replica(
        id=replica_id,
        alias=alias,
        engine=engine,
        managed=True,
        origin="settings",
        url=None,
        weights_name=WEIGHTS_NAME,
        phase="starting",
        weights_release_id=None,
        adapters=[],
        max_adapter_rank=0,
        desired_weights_id=weights_id,
        desired_adapters=[],
        swap_state=None,
        swap_deadline=None,
        epoch=epoch,
        seen_at=0.0,
        restarts=0,
        detail="",
    )


async def report_replica(session: AsyncSession, replica_id: str, report: ReplicaReport) -> int:
    """Write what an agent says of its engine; returns the routing epoch from which workers go by it."""
    values = {**vars(report), "adapters": list(report.adapters), "seen_at": time.time()}
    await session.execute(update(Replica).where(Replica.id == replica_id).values(values))
    return await bump_epoch(session)


async def mark_foreign(session: AsyncSession, replica_id: str, url: str, phase: str, detail: str) -> None:
    """Write what a probe found of an engine without an agent: `ready` or `failed`.

    A replica that has another address by now is left alone: it is another engine.
    """
    statement = update(Replica).where(Replica.id == replica_id, Replica.url == url, Replica.managed.is_(False))
    await session.execute(statement.values(phase=phase, detail=detail, seen_at=time.time()))
    await bump_epoch(session)


async def touch_replica(session: AsyncSession, replica_id: str) -> None:
    """The agent of this replica is alive."""
    await session.execute(update(Replica).where(Replica.id == replica_id).values(seen_at=time.time()))


async def requests_in_flight(session: AsyncSession, now: float) -> Counter[str]:
    """By an engine's address: the requests at work there, as the live workers last told, a second ago at most."""
    told = await session.scalars(select(GatewayWorker.in_flight).where(GatewayWorker.seen_at > now - LIVE_SECONDS))
    return sum((Counter(one) for one in told), Counter[str]())


async def all_route_by_now(session: AsyncSession, now: float) -> bool:
    """Whether every live worker goes by the routing epoch there is, and so sends nothing by an older one."""
    epochs = await session.scalars(select(GatewayWorker.epoch).where(GatewayWorker.seen_at > now - LIVE_SECONDS))
    newest = await current_value(session, ROUTING)
    return all(epoch >= newest for epoch in epochs)


async def forget_replica(session: AsyncSession, replica_id: str) -> None:
    """It is no longer of the pool; what goes on there ends in peace."""
    await session.execute(delete(Replica).where(Replica.id == replica_id))
    await bump_epoch(session)


async def list_replicas(session: AsyncSession, alias: str | None = None) -> Sequence[Replica]:
    """Replicas by id; of one alias, or of all."""
    statement = select(Replica).order_by(Replica.id)
    if alias is not None:
        statement = statement.where(Replica.alias == alias)
    return (await session.scalars(statement)).all()
