"""Takes engines back from runs that are over, or whose aligner died: whoever borrows may never come to give back."""

import structlog

from gateway.storage.database import Database
from gateway.storage.feedback_tables import Run
from gateway.storage.leases import Fence
from gateway.storage.lending import lent_replicas, take_back
from gateway.storage.tables import Replica

GRACE_SECONDS = 30.0
"""An aligner that comes back within this time goes on with the device that it has."""

log = structlog.get_logger(__name__)


async def take_back_abandoned(database: Database, now: float, fence: Fence) -> None:
    """Give every engine back to its alias that no run at work has. `fence` raises if the caller was deposed."""
    async with database.read() as session:
        lent = [(row, await session.get(Run, row.lent_to)) for row in await lent_replicas(session)]
    for replica, run in lent:
        if not is_abandoned(replica, run, now):
            continue
        async with database.write() as session:
            await fence(session)
            await take_back(session, replica.alias, replica.lent_to or "")
        log.warning("engine_taken_back", replica=replica.id, run=replica.lent_to)


def is_abandoned(replica: Replica, run: Run | None, now: float) -> bool:
    """Whether nobody holds the run any more that has the engine."""
    if run is None or run.state != "running":
        return True
    return now > (run.lease_expires_at or 0.0) + GRACE_SECONDS
