"""Engines that are lent to training runs, as rows. Which one, and when, is `gateway/contracts/lending.py`'s."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.contracts.lending import Engine, Spare, spare_of
from gateway.storage.routing_state import LENDING, bump_epoch, lock_pool
from gateway.storage.tables import Alias, Replica

LENT = "lent"
"""Its phase once the device is free."""


async def find_spare(session: AsyncSession, alias: Alias) -> Spare | None:
    """The engine that a run of the alias would borrow now."""
    return spare_of(*await _pool(session, alias))


async def has_managed(session: AsyncSession, alias: Alias) -> bool:
    """Whether an agent runs an engine of the alias, up or down."""
    found = select(Replica.id).where(Replica.alias == alias.name, Replica.managed).limit(1)
    return await session.scalar(found) is not None


async def lend(session: AsyncSession, alias: Alias, run_id: str, *, may_be_missed: bool) -> Spare | None:
    """Fence off an engine for a run, or find the one it has already; None if none may go.

    The agent stops it once nothing is in flight there, and starts it again after `take_back`.
    """
    await lock_pool(session, alias.name)
    engines, needed = await _pool(session, alias)
    held = await session.scalar(select(Replica).where(Replica.lent_to == run_id).limit(1))
    if held is not None:
        others = {release for engine in engines if engine.id != held.id for release in engine.serves}
        return Spare(_engine(held), is_missed=not needed <= others)
    spare = spare_of(engines, needed)
    if spare is None or (spare.is_missed and not may_be_missed):
        return None
    replica = await session.get_one(Replica, spare.engine.id)
    replica.swap_state, replica.lent_to = LENDING, run_id
    replica.epoch = await bump_epoch(session)
    return spare


async def take_back(session: AsyncSession, alias_name: str, run_id: str) -> None:
    """The run needs its engine no more: from now on the agent starts it again."""
    await lock_pool(session, alias_name)
    for replica in await session.scalars(select(Replica).where(Replica.lent_to == run_id)):
        replica.swap_state = replica.lent_to = None
        replica.epoch = await bump_epoch(session)


async def lent_replicas(session: AsyncSession) -> Sequence[Replica]:
    """Those whose devices runs have."""
    return (await session.scalars(select(Replica).where(Replica.lent_to.is_not(None)).order_by(Replica.id))).all()


async def _pool(session: AsyncSession, alias: Alias) -> tuple[list[Engine], frozenset[str]]:
    """The engines of the alias, and the releases that it answers with."""
    rows = await session.scalars(select(Replica).where(Replica.alias == alias.name).order_by(Replica.id))
    needed = {alias.serving_release_id, alias.canary_release_id}
    return [_engine(row) for row in rows], frozenset(name for name in needed if name)


def _engine(row: Replica) -> Engine:
    serves = frozenset[str]()
    if row.phase == "ready" and row.swap_state is None:
        held = {row.weights_release_id, *(set(row.adapters) & set(row.desired_adapters))}
        serves = frozenset(name for name in held if name)
    return Engine(row.id, row.managed, serves, row.devices)
