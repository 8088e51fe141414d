"""One process at a time erases and deletes: a lease that is kept while the work lasts."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from gateway.errors import DatabaseUnavailable
from gateway.storage.database import Database
from gateway.storage.leases import release_lease, take_lease

LEASE = "privacy"
LEASE_SECONDS = 30.0
"""A process that was killed is succeeded after this long."""


@asynccontextmanager
async def turn(database: Database, holder: str) -> AsyncIterator[bool]:
    """Whether it is this process's turn, for as long as the block lasts."""
    if not await _take(database, holder):
        yield False
        return
    keeping = asyncio.create_task(_keep(database, holder), name="privacy-lease")
    try:
        yield True
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
        with suppress(DatabaseUnavailable):  # it expires by itself
            async with database.write("relaxed") as session:
                await release_lease(session, LEASE, holder)


async def _take(database: Database, holder: str) -> bool:
    async with database.write("relaxed") as session:
        return await take_lease(session, LEASE, holder, LEASE_SECONDS, time.time()) is not None


async def _keep(database: Database, holder: str) -> None:
    while True:
        await asyncio.sleep(LEASE_SECONDS / 3)
        with suppress(DatabaseUnavailable):
            await _take(database, holder)
