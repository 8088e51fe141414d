"""The desired state: which release each alias and replica should serve, under an epoch that only grows.

The reconciler writes what is desired, agents write what is held, gateway workers read both and acknowledge. Each
function that moves a swap on is a compare-and-swap: it says whether it won.

One order of locks everywhere, so that nobody waits in a circle: alias, then replica, then the counter of epochs. What
an alias serves, its rollout and its exchanges change only under the lock of its row.
"""

import time
from collections.abc import Mapping

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.storage.counters import next_value
from gateway.storage.rollouts import open_rollout, transition
from gateway.storage.tables import Alias, FenceAck, GatewayWorker, ReleaseRow, Replica

ROUTING = "routing"
EXCHANGING = ("draining", "loading")
"""States of an exchange of weights behind the fence."""
LENDING = "lending"
"""The state of a replica whose engine is to be stopped, or is, for a run."""
FENCED = (*EXCHANGING, LENDING)
"""States in which nothing may be sent to the replica."""
AS_IT_IS = {"synchronize_session": False}
"""No object of the session is looked for that the statement might change."""


async def bump_epoch(session: AsyncSession) -> int:
    """The next routing epoch; every change of desired state takes one."""
    return await next_value(session, ROUTING)


async def lock_alias(session: AsyncSession, name: str) -> Alias | None:
    """The alias as it is now, locked to the end of the transaction; to be called before anything else is locked."""
    # NO KEY UPDATE: whoever inserts a row that refers to the alias need not wait.
    return await session.get(Alias, name, with_for_update={"key_share": True}, populate_existing=True)


async def lock_pool(session: AsyncSession, alias_name: str) -> None:
    """Lock an alias, then its replicas."""
    await lock_alias(session, alias_name)
    statement = select(Replica).where(Replica.alias == alias_name).order_by(Replica.id).with_for_update(key_share=True)
    await session.scalars(statement.execution_options(populate_existing=True))


async def worker_beats(session: AsyncSession) -> dict[str, float]:
    """When each gateway worker last wrote, by its own clock."""
    return {row.id: row.seen_at for row in await session.execute(select(GatewayWorker.id, GatewayWorker.seen_at))}


async def begin_swap(session: AsyncSession, replica: Replica, release_id: str, deadline: float) -> int:
    """Fence a replica off so that it can take the weights of `release_id`; returns the fence's epoch."""
    epoch = await bump_epoch(session)
    replica.desired_weights_id, replica.desired_adapters = release_id, []
    replica.swap_state, replica.swap_deadline, replica.swap_not_before = "draining", deadline, None
    replica.epoch = epoch
    return epoch


async def begin_beside(session: AsyncSession, replica: Replica, release_id: str) -> None:
    """Have a second engine started on the weights of `release_id`, while the first one serves."""
    replica.desired_weights_id, replica.swap_state, replica.swap_not_before = release_id, "beside", None
    replica.epoch = await bump_epoch(session)


async def call_off_swap(
    session: AsyncSession, replica_id: str, epoch: int, detail: str, not_before: float | None = None
) -> bool:
    """End an exchange that has not begun, or goes on beside; the replica goes on serving what it holds."""
    replica = await _lock_replica(session, replica_id)
    if replica.epoch != epoch or replica.swap_state not in ("draining", "beside"):
        return False
    replica.swap_state = replica.swap_deadline = None
    replica.swap_not_before, replica.swap_put_offs = not_before, replica.swap_put_offs + 1
    replica.desired_weights_id = replica.weights_release_id or replica.desired_weights_id
    replica.desired_adapters, replica.detail = replica.adapters, detail
    replica.epoch = await bump_epoch(session)
    return True


async def try_swaps_at_once(session: AsyncSession, alias_name: str) -> None:
    """Somebody asked for a change: no exchange waits because of what was put off before."""
    statement = update(Replica).where(Replica.alias == alias_name).values(swap_not_before=None, swap_put_offs=0)
    await session.execute(statement)


async def fence_is_closed(session: AsyncSession, replica_id: str, epoch: int, dead: Mapping[str, float]) -> bool:
    """Whether every live worker acknowledged the fence: it dispatches nothing there and has nothing in flight.

    `dead` names the workers that need not, each with its last heartbeat: one that has written again counts as live.
    How long a worker was silent is for the caller to judge, by a clock of its own (`gateway/agent/workers.py`).
    """
    waiting_for = {worker for worker, beat in (await worker_beats(session)).items() if dead.get(worker) != beat}
    acks = select(FenceAck.worker_id).where(FenceAck.replica_id == replica_id, FenceAck.epoch >= epoch)
    return waiting_for <= set((await session.scalars(acks)).all())


async def obeyed_by_all(session: AsyncSession, epoch: int, dead: Mapping[str, float]) -> bool:
    """Whether every live worker routes by `epoch` or a later one; `dead` as in `fence_is_closed`."""
    workers = await session.scalars(select(GatewayWorker).where(GatewayWorker.epoch < epoch))
    return all(dead.get(worker.id) == worker.seen_at for worker in workers)


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
    replica = await _lock_replica(session, replica_id)
    if replica.epoch != epoch or replica.swap_state != "loading":
        return False
    await _take_up(session, replica, release_id)
    return True


async def complete_beside(session: AsyncSession, replica_id: str, epoch: int, release_id: str, url: str) -> int | None:
    """Map the replica to its second engine at `url`; the routing epoch from which nothing goes to the first.

    None: it is not wanted any more.
    """
    replica = await _lock_replica(session, replica_id)
    if replica.epoch != epoch or replica.swap_state != "beside":
        return None
    replica.url, replica.desired_adapters = url, []
    await _take_up(session, replica, release_id)
    return replica.epoch


async def _take_up(session: AsyncSession, replica: Replica, release_id: str) -> None:
    replica.swap_state, replica.swap_put_offs = None, 0
    replica.weights_release_id, replica.adapters = release_id, []
    replica.phase, replica.seen_at, replica.detail = "ready", time.time(), ""
    replica.epoch = await bump_epoch(session)
    rollout = await open_rollout(session, replica.alias)
    if rollout is not None and rollout.state == "promoting" and rollout.candidate_id == release_id:
        await set_serving(session, replica.alias, release_id)


async def fail_swap(
    session: AsyncSession, replica_id: str, epoch: int, fallback_id: str, detail: str, not_before: float
) -> bool:
    """The engine did not take the weights: fall back to `fallback_id`, on which the agent restarts it.

    A promotion of those weights is rolled back in the same transaction.
    """
    replica = await _lock_replica(session, replica_id)
    if replica.epoch != epoch or replica.swap_state is None:
        return False
    refused_id = replica.desired_weights_id
    replica.swap_state = replica.swap_deadline = replica.weights_release_id = None
    replica.swap_not_before, replica.swap_put_offs = not_before, replica.swap_put_offs + 1
    replica.desired_weights_id, replica.desired_adapters, replica.adapters = fallback_id, [], []
    replica.phase, replica.detail = "starting", detail
    replica.epoch = await bump_epoch(session)
    await reject_candidate(session, replica.alias, refused_id, actor=f"replica {replica_id}", reason=detail)
    return True


async def set_serving(session: AsyncSession, alias_name: str, release_id: str) -> None:
    """Resolve an alias to a release, from the next request on, and end its canary."""
    alias = await session.get_one(Alias, alias_name)
    alias.serving_release_id, alias.canary_release_id, alias.canary_share = release_id, None, 0.0
    release = await session.get(ReleaseRow, release_id)
    if release is not None:  # what is trained next stands on the base of what serves
        own = release.id if release.kind == "base" else alias.base_release_id
        alias.base_release_id = release.base_release_id or own
    alias.updated_at = time.time()
    await bump_epoch(session)


async def set_canary(session: AsyncSession, alias_name: str, release_id: str, share: float) -> None:
    """Give a release its share of an alias' traffic, from the next request on."""
    alias = await session.get_one(Alias, alias_name)
    alias.canary_release_id, alias.canary_share = release_id, share
    await bump_epoch(session)


async def reject_candidate(session: AsyncSession, alias_name: str, release_id: str, actor: str, reason: str) -> None:
    """An engine cannot hold this release: end its rollout and give the alias back to the incumbent."""
    await lock_alias(session, alias_name)
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
    values = {"epoch": worker.epoch, "in_flight": worker.in_flight, "seen_at": worker.seen_at}
    # One statement for all but the first: this is done every second by every worker.
    if not await _won(session, update(GatewayWorker).where(GatewayWorker.id == worker.id).values(values)):
        session.add(worker)


async def forget_worker(session: AsyncSession, worker_id: str) -> None:
    """A worker that leaves in good order holds up no fence."""
    await session.execute(delete(FenceAck).where(FenceAck.worker_id == worker_id))
    await session.execute(delete(GatewayWorker).where(GatewayWorker.id == worker_id))


async def forget_dead_workers(session: AsyncSession, silent_since: float) -> None:
    """Delete workers, and their word, of whom nothing was heard since then: they ended without signing off."""
    dead = select(GatewayWorker.id).where(GatewayWorker.seen_at < silent_since)
    await session.execute(delete(FenceAck).where(FenceAck.worker_id.in_(dead)))
    await session.execute(delete(GatewayWorker).where(GatewayWorker.seen_at < silent_since))


async def _lock_replica(session: AsyncSession, replica_id: str) -> Replica:
    alias_name = await session.scalar(select(Replica.alias).where(Replica.id == replica_id))
    await lock_alias(session, alias_name or "")
    return await session.get_one(Replica, replica_id, with_for_update={"key_share": True}, populate_existing=True)


async def _won(session: AsyncSession, statement: object) -> bool:
    result = await session.execute(statement, execution_options=AS_IT_IS)  # type: ignore[call-overload]
    return bool(result.rowcount == 1)
