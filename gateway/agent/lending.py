"""Lends the device of one engine to a training run: the engine is stopped behind the gateway's fence, and stays down.

It is started again, on whatever its alias serves by then, once the row says that it is not lent any more.
"""

from dataclasses import dataclass

import structlog

from gateway.agent.duty import ReplicaDuty
from gateway.storage.lending import LENT
from gateway.storage.routing_state import LENDING, fence_is_closed
from gateway.storage.tables import Replica

log = structlog.get_logger(__name__)


@dataclass
class Lending(ReplicaDuty):
    """Stops the engine when it is wanted elsewhere."""

    async def mend(self, row: Replica) -> None:
        """Stop the engine as soon as no worker sends it anything or has anything in flight there."""
        if self.hosts.spare.alive:
            return  # its last requests end first
        if self.host.alive:
            async with self.database.read() as session:
                closed = await fence_is_closed(session, self.replica_id, row.epoch, self.workers.dead())
            if not closed:
                return
            await self.host.stop()
            log.info("engine_lent", replica=self.replica_id, run=row.lent_to)
        self.held.phase, self.held.adapters = LENT, ()
        self.held.detail = f"its device is lent to the run {row.lent_to}; it is started again afterwards"

    def end(self) -> None:
        """The device is given back: from here on the engine counts as one that is to be started."""
        if self.held.phase == LENT:
            self.held.phase, self.held.detail = "starting", self.held.remark
            log.info("engine_given_back", replica=self.replica_id)


def is_lent(row: Replica) -> bool:
    """Whether the engine is wanted elsewhere."""
    return row.swap_state == LENDING
