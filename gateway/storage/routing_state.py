"""The desired state: which release each alias and replica should serve, under an epoch that only grows.

The reconciler writes what is desired, agents write what is held, gateway workers read both and acknowledge. Each
function that moves a swap on is a compare-and-swap: it says whether it won.
"""

import time
from collections.abc import Sequence

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.storage.counters import next_value
from gateway.storage.rollouts import open_rollout, transition
from gateway.storage.tables import Alias, FenceAck, GatewayWorker, Replica

ROUTING = "routing"
WORKER_LEASE_SECONDS = 6.0
"""A gateway worker that has not written for this long is taken for dead."""


async def bump_epoch(session: AsyncSession) -> int:
    """The next routing epoch; every change of desired state takes one."""
    return await next_value(session, ROUTING)


async def live_workers(session: AsyncSession, now: float) -> Sequence[GatewayWorker]:
    """Workers whose heartbeat is fresh."""
    return (
        await session.scalars(select(GatewayWorker).where(GatewayWorker.seen_at > now - WORKER_LEASE_SECONDS))
    ).all()


async def begin_swap(session: AsyncSession, replica: Replica, release_id: str, deadline: float) -> int:
    """Fence a replica off so that it can take the weights of `release_id`; returns the fence's epoch."""
    epoch = await bump_epoch(session)
    replica.desired_weights_id, replica.desired_adapters = release_id, []
    replica.swap_state, replica.swap_deadline, replica.swap_not_before = "draining", deadline, None
    replica.epoch = epoch
    return epoch


async def call_off_swap(
    session: AsyncSession, replica_id: str, epoch: int, detail: str, not_before: float | None = None
) -> bool:
    """Lift a fence whose exchange has not begun; the replica goes on serving what it holds."""
    statement = (
        update(Replica)
        .where(Replica.id == replica_id, Replica.epoch == epoch, Replica.swap_state == "draining")
        .values(
            swap_state=None,
            swap_deadline=None,
            swap_not_before=not_before,
            desired_weights_id=Replica.weights_release_id,
            desired_adapters=Replica.adapters,
            epoch=await bump_epoch(session),
            detail=detail,
        )
    )
    return await _won(session, statement)


async def fence_is_closed(session: AsyncSession, replica_id: str, epoch: int, now: float) -> bool:
    """Whether every live worker acknowledged the fence: it dispatches nothing there and has nothing in flight."""
    waiting_for = {worker.id for worker in await live_workers(session, now)}
    acks = select(FenceAck.worker_id).where(FenceAck.replica_id == replica_id, FenceAck.epoch >= epoch)
    return waiting_for <= set((await session.scalars(acks)).all())


async def obeyed_by_all(session: AsyncSession, epoch: int, now: float) -> bool:
    """Whether every live worker routes by `epoch` or a later one."""
    return all(worker.epoch >= epoch for worker in await live_workers(session, now))


async def begin_loading(session: AsyncSession, replica_id: str, epoch: int) -> bool:
    """The agent takes the exchange on: from here it cannot be called off."""
    statement = (
        update(Replica)
        .where(Replica.id == replica_id, Replica.epoch == epoch, Replica.swap_state == "draining")
        .values(swap_state="loading", swap_deadline=None)
    )
    return await _won(session, statement)


async def complete_swap(session: AsyncSession, replica_id: str, epoch: int, release_id: str) -> bool:
    """Map the replica to its new weights and lift the fence; an alias that promotes them resolves to them at once."""
    statement = (
        update(Replica)
        .where(Replica.id == replica_id, Replica.epoch == epoch, Replica.swap_state == "loading")
        .values(
            swap_state=None,
            weights_release_id=release_id,
            adapters=[],
            phase="ready",
            seen_at=time.time(),
            epoch=await bump_epoch(session),
            detail="",
        )
    )
    if not await _won(session, statement):
        return False
    replica = await session.get_one(Replica, replica_id)
    rollout = await open_rollout(session, replica.alias)
    if rollout is not None and rollout.state == "promoting" and rollout.candidate_id == release_id:
        await set_serving(session, replica.alias, release_id)
    return True


async def fail_swap(session: AsyncSession, replica_id: str, epoch: int, fallback_id: str, detail: str) -> bool:
    """The engine did not take the weights: fall back to `fallback_id`, on which the agent restarts it.

    A promotion of those weights is rolled back in the same transaction.
    """
    replica = await session.get_one(Replica, replica_id)
    refused_id = replica.desired_weights_id
    statement = (
        update(Replica)
        .where(Replica.id == replica_id, Replica.epoch == epoch, Replica.swap_state.is_not(None))
        .values(
            swap_state=None,
            swap_deadline=None,
            desired_weights_id=fallback_id,
            desired_adapters=[],
            weights_release_id=None,
            adapters=[],
            phase="starting",
            epoch=await bump_epoch(session),
            detail=detail,
        )
    )
    if not await _won(session, statement):
        return False
    await reject_candidate(session, replica.alias, refused_id, actor=f"replica {replica_id}", reason=detail)
    return True


async def set_serving(session: AsyncSession, alias_name: str, release_id: str) -> None:
    """Resolve an alias to a release, from the next request on, and end its canary."""
    alias = await session.get_one(Alias, alias_name)
    alias.serving_release_id, alias.canary_release_id, alias.canary_share = release_id, None, 0.0
    alias.updated_at = time.time()
    await bump_epoch(session)


async def reject_candidate(session: AsyncSession, alias_name: str, release_id: str, actor: str, reason: str) -> None:
    """An engine cannot hold this release: end its rollout and give the alias back to the incumbent."""
    rollout = await open_rollout(session, alias_name)
    if rollout is None or rollout.candidate_id != release_id:
        return
    await transition(session, rollout, "rolled_back" if rollout.state == "promoting" else "stopped", actor, reason)
    await set_serving(session, alias_name, rollout.incumbent_id)


async def acknowledge(session: AsyncSession, worker_id: str, replica_id: str, epoch: int) -> None:
    """A worker says that it sends nothing to the replica since `epoch` and has nothing in flight there."""
    await session.merge(FenceAck(worker_id=worker_id, replica_id=replica_id, epoch=epoch))


async def beat(session: AsyncSession, worker: GatewayWorker) -> None:
    """Write a worker's heartbeat."""
    await session.merge(worker)


async def forget_worker(session: AsyncSession, worker_id: str) -> None:
    """A worker that leaves in good order holds up no fence."""
    await session.execute(delete(FenceAck).where(FenceAck.worker_id == worker_id))
    await session.execute(delete(GatewayWorker).where(GatewayWorker.id == worker_id))


async def _won(session: AsyncSession, statement: object) -> bool:
    result = await session.execute(statement)  # type: ignore[call-overload]
    return bool(result.rowcount == 1)
