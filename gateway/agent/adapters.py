"""Keeps the adapters of one engine as the reconciler wants them."""

from collections import defaultdict
from dataclasses import dataclass, field

import structlog

from gateway.agent.duty import ReplicaDuty
from gateway.agent.held import Backoff
from gateway.agent.releases import NoSuchAdapter, ReleaseUnusable
from gateway.contracts.ids import engine_name
from gateway.engines.calls import CallRefused
from gateway.errors import AlignwayError, UpstreamError
from gateway.storage.routing_state import obeyed_by_all, reject_candidate
from gateway.storage.tables import Replica

FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 60.0
REFUSALS_BEFORE_REJECTION = 3

log = structlog.get_logger(__name__)


@dataclass
class AdapterKeeper(ReplicaDuty):
    """Loads what is wanted and not held; forgets what is held and not wanted, once nobody asks for it."""

    _pauses: dict[str, Backoff] = field(
        init=False, default_factory=lambda: defaultdict(lambda: Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS))
    )
    _refusals: dict[str, int] = field(init=False, default_factory=lambda: defaultdict(int))

    async def mend(self, row: Replica) -> None:
        """Bring the engine's adapters closer to the desired ones."""
        held, wanted = self.held.adapters, row.desired_adapters
        for release_id in wanted:
            if release_id not in held and self._pauses[release_id].due():
                await self._load(row.alias, release_id)
        unwanted = [name for name in held if name not in wanted and self._pauses[name].due()]
        if unwanted and await self._nobody_asks(row.epoch):
            for release_id in unwanted:
                await self._unload(release_id)

    async def _load(self, alias: str, release_id: str) -> None:
        try:
            folder = await self.releases.adapter(
                release_id, self.host.record.release_id, self.host.control.max_adapter_rank
            )
            self.host.note(adapters=(*self.held.adapters, release_id))
            await self.host.control.load_adapter(release_id, folder)
            await self.host.control.probe(engine_name(release_id))
        except (ReleaseUnusable, NoSuchAdapter, UpstreamError) as error:
            await self._trouble(alias, release_id, error)
            return
        self.held.adapters = (*self.held.adapters, release_id)
        if self.held.detail != self.held.remark:
            self.held.detail = self.held.remark
        self._refusals.pop(release_id, None)
        log.info("adapter_loaded", replica=self.replica_id, release=release_id)

    async def _trouble(self, alias: str, release_id: str, error: AlignwayError) -> None:
        self._pauses[release_id].trouble()
        self._refusals[release_id] += isinstance(error, CallRefused)
        self.held.detail = f"adapter {release_id} is not loaded: {error.message}"
        log.warning("adapter_not_loaded", replica=self.replica_id, release=release_id, reason=error.message)
        damaged = isinstance(error, ReleaseUnusable)
        if damaged or self._refusals[release_id] >= REFUSALS_BEFORE_REJECTION:
            async with self.database.write() as session:
                actor = f"replica {self.replica_id}"
                await reject_candidate(session, alias, release_id, actor, self.held.detail)

    async def _unload(self, release_id: str) -> None:
        try:
            await self.host.control.unload_adapter(release_id)
        except UpstreamError as error:
            self._pauses[release_id].trouble()
            self.held.detail = f"adapter {release_id} is not unloaded: {error.message}"
            return
        self.held.adapters = tuple(name for name in self.held.adapters if name != release_id)
        self.host.note(adapters=self.held.adapters)
        log.info("adapter_unloaded", replica=self.replica_id, release=release_id)

    async def _nobody_asks(self, epoch: int) -> bool:
        async with self.database.read() as session:
            return await obeyed_by_all(session, epoch, self.workers.dead())
