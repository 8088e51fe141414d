"""Other weights by a second engine: started beside the one that serves, proved, given the traffic; the first drains.

For engines that cannot exchange weights while they run. Nobody waits, and an engine that does not come up changes
nothing. The row says what is wanted; a crash anywhere leaves either place recorded, and the row says which serves.
"""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field

import structlog

from gateway.agent.duty import ReplicaDuty
from gateway.agent.exchange import REFUSED_AGAIN_SECONDS
from gateway.contracts.rollout import swap_pause_seconds
from gateway.errors import AlignwayError
from gateway.storage import routing_state
from gateway.storage.counters import current_value
from gateway.storage.replicas import requests_in_flight
from gateway.storage.tables import Replica

log = structlog.get_logger(__name__)


@dataclass
class SecondEngine(ReplicaDuty):
    """Starts and ends the engine in a replica's other place."""

    _start: "asyncio.Task[None] | None" = field(init=False, default=None)
    _wanted: tuple[int, str] | None = field(init=False, default=None)
    """Epoch and release of the exchange that the start is for."""
    _left_at: int | None = field(init=False, default=None)
    """The routing epoch from which nothing is sent to the engine in the other place."""

    async def mend(self, row: Replica) -> bool:
        """Bring the other place closer to what the row wants: an engine on its way, or none.

        True: the engine there serves from now on.
        """
        if self.hosts.spare.alive and row.url == self.hosts.spare.url:
            return self._change(row.epoch)  # it was written that it serves, though nobody heard so
        wanted = (row.epoch, row.desired_weights_id) if row.swap_state == "beside" else None
        if wanted is None:
            await self._give_up()
            await self._retire()
        elif wanted != self._wanted:
            await self._give_up()
            await self._begin(wanted)
        elif self._start is not None and self._start.done():
            return await self._finish(row, self._start)
        return False

    async def shut_down(self) -> None:
        """Start nothing any more."""
        await self._give_up()

    async def _begin(self, wanted: tuple[int, str]) -> None:
        if self.hosts.spare.alive and not await self._retire():
            return  # the engine of the exchange before still answers somebody
        self._wanted = wanted
        self._start = asyncio.create_task(self._started(wanted[1]))

    async def _started(self, release_id: str) -> None:
        began = time.monotonic()
        folder = await self.releases.weights(release_id)
        log.info("second_engine_starting", replica=self.replica_id, release=release_id)
        await self.hosts.spare.start(release_id, folder)
        log.info("second_engine_ready", replica=self.replica_id, seconds=round(time.monotonic() - began, 2))

    async def _finish(self, row: Replica, start: "asyncio.Task[None]") -> bool:
        self._start = self._wanted = None
        try:
            start.result()
        except AlignwayError as error:
            await self._fail(row, error.message)
            return False
        url = self.hosts.spare.url
        async with self.database.write() as session:
            epoch = await routing_state.complete_beside(
                session, self.replica_id, row.epoch, row.desired_weights_id, url
            )
        if epoch is None:
            return False  # called off meanwhile: the next look ends it
        return self._change(epoch)

    def _change(self, epoch: int) -> bool:
        """The engine in the other place serves; nothing is sent to the one before from `epoch` on."""
        self.hosts.change()
        self._left_at = epoch
        held, release_id = self.held, self.host.record.release_id
        held.phase, held.url, held.weights_id, held.adapters = "ready", self.host.url, release_id, ()
        held.detail = held.remark = ""
        log.info("second_engine_serves", replica=self.replica_id, release=release_id)
        return True

    async def _fail(self, row: Replica, reason: str) -> None:
        detail = f"no second engine on the weights of {row.desired_weights_id}: {reason}"
        again = time.time() + swap_pause_seconds(REFUSED_AGAIN_SECONDS, row.swap_put_offs)
        async with self.database.write() as session:
            if await routing_state.call_off_swap(session, self.replica_id, row.epoch, detail, again):
                actor = f"replica {self.replica_id}"
                await routing_state.reject_candidate(session, row.alias, row.desired_weights_id, actor, detail)
        self.held.detail = detail
        log.warning("second_engine_failed", replica=self.replica_id, release=row.desired_weights_id, reason=reason)

    async def _give_up(self) -> None:
        """The start is not wanted any more; what it started is ended."""
        start, self._start, self._wanted = self._start, None, None
        if start is not None:
            start.cancel()
            with contextlib.suppress(asyncio.CancelledError, AlignwayError):
                await start

    async def _retire(self) -> bool:
        """End the engine in the other place once nobody sends there and its last request has ended."""
        spare = self.hosts.spare
        if not spare.alive:
            return True
        async with self.database.read() as session:
            if self._left_at is None:
                self._left_at = await current_value(session, routing_state.ROUTING)
            obeyed = await routing_state.obeyed_by_all(session, self._left_at, self.workers.dead())
            busy = (await requests_in_flight(session, time.time()))[spare.url]
        if not obeyed or busy:
            return False
        await spare.stop()
        self._left_at = None
        log.info("first_engine_ended", replica=self.replica_id)
        return True
