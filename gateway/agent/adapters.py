"""Keeps the adapters of one engine as the reconciler wants them."""

from collections import defaultdict

import structlog

from gateway.agent.engine_host import EngineHost
from gateway.agent.held import Backoff, Held
from gateway.agent.releases import ReleaseLookup, ReleaseUnusable
from gateway.agent.workers import WorkerWatch
from gateway.contracts.ids import engine_name
from gateway.engines.calls import CallRefused
from gateway.errors import UpstreamError
from gateway.storage.database import Database
from gateway.storage.routing_state import obeyed_by_all, reject_candidate
from gateway.storage.tables import Replica

FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 60.0
REFUSALS_BEFORE_REJECTION = 3

log = structlog.get_logger(__name__)


class AdapterKeeper:
    """Loads what is wanted and not held; forgets what is held and not wanted, once nobody asks for it."""

    def __init__(
        self,
        replica_id: str,
        database: Database,
        releases: ReleaseLookup,
        host: EngineHost,
        held: Held,
        workers: WorkerWatch,
    ) -> None:
        self._replica_id = replica_id
        self._database = database
        self._releases = releases
        self._host = host
        self._held = held
        self._workers = workers
        self._pauses: dict[str, Backoff] = defaultdict(lambda: Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS))
        self._refusals: dict[str, int] = defaultdict(int)

    async def mend(self, row: Replica) -> None:
        """Bring the engine's adapters closer to the desired ones."""
        held, wanted = self._held.adapters, row.desired_adapters
        for release_id in wanted:
            if release_id not in held and self._pauses[release_id].due():
                await self._load(row.alias, release_id)
        unwanted = [name for name in held if name not in wanted and self._pauses[name].due()]
        if unwanted and await self._nobody_asks(row.epoch):
            for release_id in unwanted:
                await self._unload(release_id)

    async def _load(self, alias: str, release_id: str) -> None:
        try:
            folder = await self._releases.adapter(release_id)
            self._host.note(adapters=(*self._held.adapters, release_id))
            await self._host.control.load_adapter(release_id, folder)
            await self._host.control.probe(engine_name(release_id))
        except (ReleaseUnusable, UpstreamError) as error:
            await self._trouble(alias, release_id, error)
            return
        self._held.adapters = (*self._held.adapters, release_id)
        if self._held.detail != self._held.remark:
            self._held.detail = self._held.remark
        self._refusals.pop(release_id, None)
        log.info("adapter_loaded", replica=self._replica_id, release=release_id)

    async def _trouble(self, alias: str, release_id: str, error: ReleaseUnusable | UpstreamError) -> None:
        self._pauses[release_id].trouble()
        self._refusals[release_id] += isinstance(error, CallRefused)
        self._held.detail = f"adapter {release_id} is not loaded: {error.message}"
        log.warning("adapter_not_loaded", replica=self._replica_id, release=release_id, reason=error.message)
        damaged = isinstance(error, ReleaseUnusable)
        if damaged or self._refusals[release_id] >= REFUSALS_BEFORE_REJECTION:
            async with self._database.write() as session:
                actor = f"replica {self._replica_id}"
                await reject_candidate(session, alias, release_id, actor, self._held.detail)

    async def _unload(self, release_id: str) -> None:
        try:
            await self._host.control.unload_adapter(release_id)
        except UpstreamError as error:
            self._pauses[release_id].trouble()
            self._held.detail = f"adapter {release_id} is not unloaded: {error.message}"
            return
        self._held.adapters = tuple(name for name in self._held.adapters if name != release_id)
        self._host.note(adapters=self._held.adapters)
        log.info("adapter_unloaded", replica=self._replica_id, release=release_id)

    async def _nobody_asks(self, epoch: int) -> bool:
        async with self._database.read() as session:
            return await obeyed_by_all(session, epoch, self._workers.dead())
