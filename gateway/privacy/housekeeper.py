"""Carries out erasures soon after they are asked for, deletes what is too old every hour, and prunes releases: a job of
every gateway worker, of which one works at a time. What is due is read from the records, so a restart neither misses
nor doubles it.
"""

import asyncio
import time

import structlog

from gateway.errors import DatabaseUnavailable
from gateway.privacy.erasure import carry_out, look_again
from gateway.privacy.retention import purge, purge_is_due
from gateway.privacy.turns import turn
from gateway.rollout.prune import Keeping, anything_to_prune, prune
from gateway.settings import Settings
from gateway.storage.audit import KEEPER
from gateway.storage.database import Database
from gateway.storage.erasures import UNCHECKED, open_erasures, unchecked_erasures
from gateway.telemetry.metrics import Metrics

LOOK_SECONDS = 1.0
"""So often it is looked for an erasure."""
WHOLE_LOOK_SECONDS = 15.0
"""So often for everything else that may be due, of which nothing is in a hurry."""
PRUNE_SECONDS = 60.0
"""So often it is looked for releases that are too old to keep."""
LOOK_AGAIN_SECONDS = 60.0
"""So long after an erasure it is looked for what was under way while it ran: a vote waits for its completion, a
completion for its commit, both less than this."""

log = structlog.get_logger(__name__)


class Housekeeper:
    """The job."""

    def __init__(self, database: Database, settings: Settings, holder: str, metrics: Metrics) -> None:
        self._database, self._settings, self._holder, self._metrics = database, settings, holder, metrics
        self._glance = database.glance({"erasures": UNCHECKED})
        self._prune_at, self._look_at = 0.0, float("-inf")

    async def run(self) -> None:
        """Look for work until cancelled."""
        try:
            while True:
                await self._step_safely()
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            await self._glance.close()

    async def _step_safely(self) -> None:
        now = time.monotonic()  # the clock on the wall may be set back
        try:
            if now >= self._look_at or await self._glance.rows("erasures"):
                self._look_at = now + WHOLE_LOOK_SECONDS
                await self.step(time.time())
        except DatabaseUnavailable as error:
            log.warning("housekeeper_interrupted", error=error.message)
        except Exception:
            log.exception("housekeeper_failed")

    async def step(self, now: float) -> None:
        """Do what is due."""
        retention = self._settings.privacy.retention
        async with self._database.read() as session:
            erasures = await open_erasures(session)
            unchecked = await unchecked_erasures(session, now - LOOK_AGAIN_SECONDS)
            due = await purge_is_due(session, retention, now)
        full = await self._too_many_releases(now)
        if not (erasures or unchecked or due or full):
            return
        async with turn(self._database, self._holder) as ours:
            if not ours:
                return
            store = self._settings.store_path
            for erasure_id in erasures:
                done = await carry_out(self._database, store, erasure_id)
                log.info("erasure_done", erasure=erasure_id, counts=done.counts)
            for erasure in unchecked:
                await look_again(self._database, store, erasure, now)
            if due:
                deleted = await purge(self._database, store, retention, now)
                self._metrics.purge_done(deleted, now)
                log.info("retention_purged", **deleted)
            if full:
                await self._prune(now)

    async def _too_many_releases(self, now: float) -> bool:
        if now < self._prune_at:
            return False
        self._prune_at = now + PRUNE_SECONDS
        return await anything_to_prune(self._database, self._settings.releases.keep)

    async def _prune(self, now: float) -> None:
        keeping = Keeping.of(self._settings)
        for gone in await prune(self._database, keeping, KEEPER, now):
            log.info("release_pruned", release=gone.id, freed_bytes=gone.size_bytes)
