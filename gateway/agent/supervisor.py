"""Keeps one replica's engine as its row says: started, restarted, with the wanted weights and adapters.

A loop over the row: whatever happened, to the engine, to the database or to an agent before this one, the next look
goes on from there.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import structlog

from gateway.agent.adapters import AdapterKeeper
from gateway.agent.engine_host import EngineHost
from gateway.agent.exchange import WeightExchange
from gateway.agent.held import Backoff, Held
from gateway.agent.hosts import EngineHosts
from gateway.agent.lending import Lending, is_lent
from gateway.agent.pulse import Pulse
from gateway.agent.releases import ReleaseLookup, ReleaseUnusable
from gateway.agent.second import SecondEngine
from gateway.agent.workers import WorkerWatch
from gateway.contracts.notice import engine_hung
from gateway.errors import DatabaseUnavailable, StartupFailed
from gateway.storage.counters import current_value
from gateway.storage.database import Database
from gateway.storage.notifications import note
from gateway.storage.replicas import ReplicaReport, report_replica, touch_replica
from gateway.storage.routing_state import EXCHANGING, ROUTING, obeyed_by_all, worker_beats
from gateway.storage.tables import Alias, Replica

POLL_SECONDS = 0.15
BEAT_SECONDS = 1.0
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0

log = structlog.get_logger(__name__)


class ReplicaSupervisor:
    """One replica of this machine."""

    def __init__(self, replica_id: str, database: Database, releases: ReleaseLookup, host: EngineHost) -> None:
        self._id = replica_id
        self._database = database
        self._releases = releases
        self._hosts = EngineHosts(host)
        self._held = Held(in_place=host.takes_weights)
        self._workers = WorkerWatch()
        shared = (replica_id, database, releases, self._hosts, self._held, self._workers)
        self._exchange, self._adapters = WeightExchange(*shared), AdapterKeeper(*shared)
        self._second, self._lending = SecondEngine(*shared), Lending(*shared)
        self._pulse = Pulse(*shared, hung_seconds=host.hung_seconds)
        self._pause = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
        self._told_detail = ""
        self._told_epoch: int | None = None

    async def run(self) -> None:
        """Supervise until cancelled."""
        await self._adopt()
        async with asyncio.TaskGroup() as group:
            group.create_task(_again_and_again(self._beat, BEAT_SECONDS))
            group.create_task(_again_and_again(self.step, POLL_SECONDS))
            group.create_task(_again_and_again(self._pulse.feel, self._pulse.look_seconds))

    async def shut_down(self) -> None:
        """End the engine and say so."""
        await self._second.shut_down()
        await self._hosts.stop()
        self._held.phase, self._held.adapters, self._held.detail = "stopped", (), ""
        try:
            async with self._database.write() as session:
                await report_replica(session, self._id, self._held.report())
        except DatabaseUnavailable as error:
            log.warning("stop_not_recorded", replica=self._id, reason=error.message)

    async def step(self) -> None:
        """One look at the row, and what follows from it."""
        row = await self._row()
        if row is None:
            return
        self._held.restarts = max(self._held.restarts, row.restarts)
        if await self._second.mend(row):
            return
        if is_lent(row):
            await self._lending.mend(row)
            await self._report()
            return
        self._lending.end()
        if not self._host.alive:
            await self._revive(row)
        elif self._pulse.stopped:
            await self._end_hung(row)
        elif row.swap_state == "draining":
            await self._exchange.drain(row)
        elif row.swap_state == "loading":
            await self._exchange.finish(row)
        else:
            await self._adapters.mend(row)
        await self._report()

    @property
    def _host(self) -> EngineHost:
        return self._hosts.serving

    async def _adopt(self) -> None:
        """Take over the engine that the row calls the replica's, if an agent before this one left it running."""
        while True:
            try:
                row = await self._row()
                break
            except DatabaseUnavailable as error:
                log.warning("database_unavailable", reason=error.message)
                await asyncio.sleep(BEAT_SECONDS)
        if await self._hosts.adopt(row.url if row is not None else None):
            log.info("engine_adopted", replica=self._id, release=self._host.record.release_id)
            self._take_up()

    async def _row(self) -> Replica | None:
        async with self._database.read() as session:
            return await session.get(Replica, self._id)

    async def _beat(self) -> None:
        async with self._database.write("relaxed") as session:
            await touch_replica(session, self._id)
            written = time.monotonic()
            beats = await worker_beats(session)
        self._workers.look(beats, written)

    async def _revive(self, row: Replica) -> None:
        if self._held.phase == "ready":
            self._mourn("ended")
        if self._held.weights_id is None:
            self._held.weights_id = row.weights_release_id
        await self._report()
        if not self._pause.due():
            return
        if row.swap_state == "draining" and not await self._exchange.take_on(row):
            return
        exchanging = row.swap_state in EXCHANGING
        try:
            await self._start(await self._choices(row, exchanging))
        except (StartupFailed, ReleaseUnusable) as error:
            self._pause.trouble()
            self._held.phase, self._held.detail = "failed", error.message
            log.error("engine_not_started", replica=self._id, reason=error.message)
            if exchanging:
                await self._exchange.fail(row, error.message)
            return
        if exchanging:
            await self._exchange.finish(row)

    async def _end_hung(self, row: Replica) -> None:
        """End an engine that does nothing any more; the next look starts it again, as one that ended by itself."""
        silent_seconds = round(self._pulse.silent_seconds)
        log.error("engine_hung", replica=self._id, silent_seconds=silent_seconds)
        async with self._database.write() as session:
            await note(session, engine_hung(row.alias, self._id, self._host.record.release_id, silent_seconds))
        self._mourn(f"did nothing for {silent_seconds} s (engine.hung_seconds)")
        await self._host.stop()

    def _mourn(self, what: str) -> None:
        self._pause.trouble()
        self._held.phase, self._held.adapters = "starting", ()
        self._held.restarts += 1
        self._held.detail = f"the engine {what} and is started again; {self._host.log.path} ends: "
        self._held.detail += self._host.log.complaint()
        log.warning("engine_ended", replica=self._id, restarts=self._held.restarts)

    async def _choices(self, row: Replica, exchanging: bool) -> list[str]:
        """Weights to start on, best first. In an exchange only the wanted ones: it completes or fails as a whole."""
        if exchanging:
            return [row.desired_weights_id]
        async with self._database.read() as session:
            base_id = (await session.get_one(Alias, row.alias)).base_release_id
        wanted = row.weights_release_id if row.swap_state == "beside" else row.desired_weights_id
        choices = (wanted, row.weights_release_id, base_id)
        return list(dict.fromkeys(choice for choice in choices if choice is not None))

    async def _start(self, choices: list[str]) -> None:
        problems = []
        for release_id in choices:
            try:
                folder = await self._releases.weights(release_id)
            except ReleaseUnusable as error:
                problems.append(error.message)
                continue
            began = time.monotonic()
            log.info("engine_starting", replica=self._id, release=release_id)
            await self._host.start(release_id, folder)
            log.info("engine_ready", replica=self._id, seconds=round(time.monotonic() - began, 2))
            self._held.remark = " ".join(problems) or self._held.remark
            self._take_up()
            return
        raise ReleaseUnusable(" ".join(problems))

    def _take_up(self) -> None:
        """The engine serves: from now on it is what is reported."""
        held, record = self._held, self._host.record
        held.phase, held.url, held.detail = "ready", self._host.url, held.remark
        held.weights_id, held.adapters = record.release_id, record.adapters
        held.max_adapter_rank = self._host.control.max_adapter_rank

    async def _report(self) -> None:
        """Write what differs from the row. What a `loading` exchange came to is written by the exchange alone."""
        row = await self._row()
        if row is None or row.swap_state == "loading":
            return
        held = self._held.report()
        told_all = held.detail == self._told_detail
        if told_all and not _differs(row, held):
            return
        stale = held.phase == "ready" and row.weights_release_id not in (None, held.weights_release_id)
        if stale and not await self._withdrawn(row, held):
            return
        if told_all and held.phase == row.phase:
            held = replace(held, detail=row.detail)  # what the reconciler wrote stays to be read
        async with self._database.write("relaxed") as session:
            self._told_epoch = await report_replica(session, self._id, held)
        self._told_detail = self._held.detail

    async def _withdrawn(self, row: Replica, held: ReplicaReport) -> bool:
        """Whether nobody takes the engine any more for one that holds the weights in the row, which it does not."""
        async with self._database.write() as session:
            if row.phase == "ready":
                withdrawn = replace(held, phase="starting", weights_release_id=row.weights_release_id)
                self._told_epoch = await report_replica(session, self._id, withdrawn)
                return False
            if self._told_epoch is None:
                self._told_epoch = await current_value(session, ROUTING)
            return await obeyed_by_all(session, self._told_epoch, self._workers.dead())


def _differs(row: Replica, held: ReplicaReport) -> bool:
    told = (row.phase, row.url, row.weights_release_id, tuple(row.adapters), row.max_adapter_rank, row.restarts)
    known = (held.phase, held.url, held.weights_release_id, held.adapters, held.max_adapter_rank, held.restarts)
    return told != known or row.in_place != held.in_place


async def _again_and_again(job: Callable[[], Awaitable[None]], pause_seconds: float) -> None:
    while True:
        try:
            await job()
        except DatabaseUnavailable as error:
            log.warning("database_unavailable", reason=error.message)
        except Exception:
            # The agent is what heals an engine: it must outlive any surprise.
            log.exception("agent_step_failed")
        await asyncio.sleep(pause_seconds)
