"""Leases: a job that one process at a time does. Every write of the holder proves that it still holds the lease."""

from collections.abc import Awaitable, Callable

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from gateway.errors import Conflict
from gateway.storage.tables import Lease
from gateway.storage.upsert import insert_if_absent

Fence = Callable[[AsyncSession], Awaitable[None]]
"""Raises `LeaseLost` in a transaction of one who holds its lease no more; asked before each write."""


class LeaseLost(Conflict):
    """Somebody else does the job now; whoever held the lease must stop."""

    code = "lease_lost"


async def take_lease(session: AsyncSession, name: str, holder: str, seconds: float, now: float) -> int | None:
    """Take or renew a lease; its epoch if it is ours now, None if somebody else has it."""
    renewal = update(Lease).where(Lease.name == name, Lease.holder == holder).values(expires_at=now + seconds)
    options = {"synchronize_session": False}
    epoch: int | None = await session.scalar(renewal.returning(Lease.epoch), execution_options=options)
    if epoch is not None:
        return epoch
    await insert_if_absent(session, Lease, name=name, holder=holder, epoch=1, expires_at=now + seconds)
    lease = await session.get_one(Lease, name, with_for_update=True)
    if lease.holder != holder:
        if lease.expires_at > now:
            return None
        lease.holder, lease.epoch = holder, lease.epoch + 1
    lease.expires_at = now + seconds
    return lease.epoch


async def check_lease(session: AsyncSession, name: str, holder: str, epoch: int) -> None:
    """Raise `LeaseLost` if the lease went to somebody else; to be called inside the transaction that writes."""
    statement = select(Lease).where(Lease.name == name).with_for_update()
    lease = await session.scalar(statement)
    if lease is None or lease.holder != holder or lease.epoch != epoch:
        raise LeaseLost(f"the lease {name} is held by somebody else now")


async def release_lease(session: AsyncSession, name: str, holder: str) -> None:
    """Give a lease back, so that nobody waits for it to expire."""
    lease = await session.get(Lease, name)
    if lease is not None and lease.holder == holder:
        lease.expires_at = 0.0
