"""The exchange of full weights behind the gateway's fence: wait for it, load, complete or fail. Any crash heals.

The row says how far it went: `draining` can be called off; in `loading` the engine either comes to hold the wanted
weights, if need be by a fresh start, or the exchange fails and it is restarted on those it held before.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from gateway.agent.duty import ReplicaDuty
from gateway.agent.releases import ReleaseUnusable
from gateway.contracts.rollout import swap_pause_seconds
from gateway.errors import AlignwayError
from gateway.storage import routing_state
from gateway.storage.replicas import report_replica
from gateway.storage.tables import Replica

REFUSED_AGAIN_SECONDS = 60.0
"""A damaged release is looked at again after this long: somebody may have restored it."""

log = structlog.get_logger(__name__)


@dataclass
class WeightExchange(ReplicaDuty):
    """Takes one replica's engine from one set of full weights to another."""

    _verified: tuple[int, Path] | None = field(init=False, default=None)

    async def drain(self, row: Replica) -> None:
        """Verify the weights while streams end; when the last has ended everywhere, load."""
        try:
            folder = await self._folder(row)
        except ReleaseUnusable as error:
            # Found before anything was touched: the engine serves on.
            await self._call_off(row, error.message)
            return
        if await self.take_on(row):
            await self._load(row, folder)

    async def take_on(self, row: Replica) -> bool:
        """From `draining` to `loading`, once no worker sends or has anything in flight; False: not yet, or too late."""
        async with self.database.read() as session:
            closed = await routing_state.fence_is_closed(session, self.replica_id, row.epoch, self.workers.dead())
        if not closed:
            return False
        async with self.database.write() as session:
            return await routing_state.begin_loading(session, self.replica_id, row.epoch)

    async def finish(self, row: Replica) -> None:
        """Bring a `loading` exchange to its end, from wherever it stands; the engine is alive."""
        if self.host.record.release_id == row.desired_weights_id:
            await self._complete(row)
            return
        try:
            folder = await self._folder(row)
        except ReleaseUnusable as error:
            await self.fail(row, error.message)
            return
        await self._load(row, folder)

    async def fail(self, row: Replica, reason: str) -> None:
        """Give the exchange up for the weights held before; the row tells the agent to restart on them."""
        detail = f"the weights of {row.desired_weights_id} were not taken: {reason}"
        again = time.time() + swap_pause_seconds(REFUSED_AGAIN_SECONDS, row.swap_put_offs)
        async with self.database.write() as session:
            alias = await routing_state.lock_alias(session, row.alias)
            fallback = row.weights_release_id or (alias.base_release_id if alias else row.desired_weights_id)
            await routing_state.fail_swap(session, self.replica_id, row.epoch, fallback, detail, again)
        log.warning("swap_failed", replica=self.replica_id, release=row.desired_weights_id, reason=reason)
        self.held.detail = self.held.remark = detail
        if not self.host.alive:
            self.held.phase, self.held.weights_id, self.held.adapters = "starting", None, ()

    async def _folder(self, row: Replica) -> Path:
        if self._verified is None or self._verified[0] != row.epoch:
            self._verified = (row.epoch, await self.releases.weights(row.desired_weights_id))
        return self._verified[1]

    async def _call_off(self, row: Replica, detail: str) -> None:
        again = time.time() + swap_pause_seconds(REFUSED_AGAIN_SECONDS, row.swap_put_offs)
        async with self.database.write() as session:
            if await routing_state.call_off_swap(session, self.replica_id, row.epoch, detail, again):
                actor = f"replica {self.replica_id}"
                await routing_state.reject_candidate(session, row.alias, row.desired_weights_id, actor, detail)
        self.held.detail = detail

    async def _load(self, row: Replica, folder: Path) -> None:
        began = time.monotonic()
        self.host.note(phase="loading", release_id=row.desired_weights_id, adapters=())
        try:
            await self.host.control.replace_weights(row.desired_weights_id, folder)
        except AlignwayError as error:
            died = not self.host.alive
            # Nobody knows what it would answer with: it must not run on.
            await self.host.stop()
            if not died:
                await self.fail(row, error.message)
            return
        self.host.note(phase="serving")
        log.info("weights_replaced", replica=self.replica_id, release=row.desired_weights_id,
                 seconds=round(time.monotonic() - began, 3))  # fmt: skip
        await self._complete(row)

    async def _complete(self, row: Replica) -> None:
        held = self.held
        held.phase, held.url, held.weights_id, held.adapters = "ready", self.host.url, row.desired_weights_id, ()
        held.detail = held.remark = ""
        async with self.database.write() as session:
            await routing_state.complete_swap(session, self.replica_id, row.epoch, row.desired_weights_id)
            await report_replica(session, self.replica_id, held.report())
