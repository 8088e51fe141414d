"""A run as the database sees it while an aligner works on it: lease, stage, progress, events. Knows no training.

Writes are gathered and go out at most twice a second. Each is fenced by the holder's name: once the lease is lost,
nothing more is written, and `lost` is set.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import structlog

from gateway.contracts.release import Release
from gateway.contracts.training import RunState
from gateway.storage.database import Database
from gateway.storage.releases import announce_release
from gateway.storage.runs import RunLeaseLost, add_run_event, finish_run, pause_run, renew_run_lease

BEAT_SECONDS = 0.5
_RENEWALS_PER_LEASE = 5

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Event:
    type: str
    level: str
    message: str
    data: dict[str, Any]
    at: float


@dataclass(slots=True)
class RunLedger:
    """One run under one holder's lease."""

    database: Database
    run_id: str
    holder: str
    lease_seconds: float
    cancel_requested: asyncio.Event = field(default_factory=asyncio.Event)
    pause_requested: asyncio.Event = field(default_factory=asyncio.Event)
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    clock: Callable[[], float] = time.time
    _events: list[_Event] = field(default_factory=list)
    _changes: dict[str, Any] = field(default_factory=dict)
    _renewed_at: float = field(default_factory=time.time)
    _closed: bool = False
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Two writes at once would both write what was noted before them."""
    _last_event_at: float = 0.0

    def note(self, message: str, level: str = "info", data: dict[str, Any] | None = None) -> None:
        """Something happened; `data` says the same to programs."""
        self._events.append(_Event("message", level, message, data or {}, self._next_time()))

    def measure(self, metrics: dict[str, float]) -> None:
        """A step was made."""
        message = f"step {metrics['step']:.0f} of {metrics['steps']:.0f}: loss {metrics['loss']:.4f}"
        self._events.append(_Event("metrics", "info", message, dict(metrics), self._next_time()))

    def checkpoint(self, step: int, metrics: dict[str, float], *, final: bool = False) -> None:
        """The run can go on from this step, of which these are the metrics. `final`: it is what becomes the release."""
        message = f"{'the last adapter' if final else 'checkpoint'}: step {step}"
        data = dict(metrics) | {"step": step, "final": final}
        self._events.append(_Event("checkpoint", "info", message, data, self._next_time()))

    def change(self, **columns: Any) -> None:
        """New values for columns of the run: `stage`, `progress`."""
        self._changes.update(columns)

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Renew the lease and write what was noted for as long as the block lasts."""
        keeper = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper

    async def flush(self) -> None:
        """Write everything noted so far and renew the lease. Raises `RunLeaseLost`."""
        await self._write(self.lease_seconds)

    async def give_back(self, wait_seconds: float, **columns: Any) -> None:
        """Let the next aligner take the run after a while; it goes on where this one stopped."""
        self.change(**columns)
        self._closed = True
        await self._write(wait_seconds)

    async def pause(self, **columns: Any) -> bool:
        """Let go of the run until somebody resumes it. False if the wish was taken back: then it is still held."""
        await self.flush()
        async with self.database.write() as session:
            self._closed = await pause_run(session, self.run_id, self.holder, **columns)
        return self._closed

    async def finish(self, state: RunState, error: str | None = None) -> None:
        """End the run without a release."""
        await self._end(state, error, None, "", "")

    async def succeed(self, release: Release, location: str, state: str) -> None:
        """Announce the release and end the run, both or neither."""
        await self._end("succeeded", None, release, location, state)

    def _next_time(self) -> float:
        """Now, but at least 2 ms after the event before: the ids of events sort by the millisecond."""
        self._last_event_at = max(self.clock(), self._last_event_at + 0.002)
        return self._last_event_at

    async def _end(
        self, state: RunState, error: str | None, release: Release | None, location: str, release_state: str
    ) -> None:
        self._closed = True
        async with self._writing, self.database.write() as session:
            for event in self._events:
                await _add(session, self.run_id, event)
            if release is not None:
                await announce_release(session, release, location, release_state)
            release_id = release.id if release else None
            await finish_run(session, self.run_id, self.holder, state, self.clock(), release_id=release_id, error=error)
        self._events.clear()

    async def _keep(self) -> None:
        while not self.lost.is_set():
            await asyncio.sleep(BEAT_SECONDS)
            if self._closed:
                return
            stale = self.clock() - self._renewed_at > self.lease_seconds / _RENEWALS_PER_LEASE
            if not (stale or self._events or self._changes):
                continue
            try:
                await self._renew()
            except RunLeaseLost:
                self.lost.set()
            except Exception as error:  # the database may be away for a while; the lease says how long that may last
                log.warning("run_not_written", run_id=self.run_id, error=str(error))
                if self.clock() - self._renewed_at > self.lease_seconds:
                    self.lost.set()

    async def _renew(self) -> None:
        async with self._writing:
            if not self._closed:
                await self._write_noted(self.lease_seconds)

    async def _write(self, lease_seconds: float) -> None:
        async with self._writing:
            await self._write_noted(lease_seconds)

    async def _write_noted(self, lease_seconds: float) -> None:
        events, changes = list(self._events), dict(self._changes)
        async with self.database.write("relaxed") as session:
            now = self.clock()
            wish = await renew_run_lease(session, self.run_id, self.holder, lease_seconds, now, **changes)
            for event in events:
                await _add(session, self.run_id, event)
        # Only now is it written; what was noted meanwhile stays for the next time.
        del self._events[: len(events)]
        self._changes = {name: value for name, value in self._changes.items() if changes.get(name) != value}
        self._renewed_at = now
        if wish == "cancel":
            self.cancel_requested.set()
        elif wish == "pause":
            self.pause_requested.set()


async def _add(session: Any, run_id: str, event: _Event) -> None:
    await add_run_event(
        session, run_id, event.message, type_=event.type, level=event.level, data=event.data, at=event.at
    )
