"""The replicas as one worker sees them: hands out targets, counts what is in flight, lets newcomers wait.

Newcomers wait *unresolved*: which release answers them is decided at the moment a replica is free to serve it.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gateway.errors import Conflict, ModelNotFound, NoReplicaReady, Overloaded
from gateway.routing.freshness import Freshness
from gateway.routing.policy import AliasView, ReleaseView, ReplicaView, Target, choose, resolve
from gateway.settings import SwapSettings

SUSPECT_SECONDS = 1.0
"""A replica that refused a connection is avoided for this long."""


class ReleaseNotLoaded(Conflict):
    """A release was asked for by its name, and no replica holds it or is about to."""

    code, param = "release_not_loaded", "model"


@dataclass(frozen=True)
class RoutingTable:
    """A snapshot of the desired and the actual state."""

    epoch: int = 0
    aliases: Mapping[str, AliasView] = field(default_factory=dict)
    releases: Mapping[str, ReleaseView] = field(default_factory=dict)
    """By id."""
    replicas: tuple[ReplicaView, ...] = ()

    def find(self, model: str) -> tuple[AliasView, ReleaseView | None]:
        """The alias behind a model name, and the release if one was named outright. Raises `ModelNotFound`."""
        if model in self.aliases:
            return self.aliases[model], None
        for release in self.releases.values():
            if model in (release.name, release.id) and release.alias in self.aliases:
                return self.aliases[release.alias], release
        known = ", ".join(sorted(self.aliases)) or "none yet"
        raise ModelNotFound(f"There is no model `{model}` here; the models are: {known}. See GET /v1/models.")


class Pool:
    """Dispatches the requests of one gateway worker."""

    def __init__(self, settings: SwapSettings) -> None:
        self._settings = settings
        self.freshness = Freshness()
        self.table = RoutingTable()
        self.in_flight: Counter[str] = Counter()
        self.waiting = 0
        self._suspects: dict[tuple[str, str | None], float] = {}
        self._changed = asyncio.Event()

    def apply(self, table: RoutingTable) -> None:
        """Route by `table` from now on, and let everybody who waits look again."""
        self.table = table
        self._wake()

    def suspect(self, replica_id: str, release_id: str | None = None) -> None:
        """A replica refused a connection: prefer others for a moment; with a `release_id`, for that release only."""
        self._suspects[replica_id, release_id] = time.monotonic() + SUSPECT_SECONDS

    @asynccontextmanager
    async def dispatch(self, model: str, sticky_key: bytes) -> AsyncIterator[Target]:
        """A target for one request, counted as in flight until the block is left.

        Raises `ModelNotFound`, `ReleaseNotLoaded`, `Overloaded` (too many wait already) or `NoReplicaReady` (waited
        long enough).
        """
        await self.freshness.wait()
        target = self._try(model, sticky_key) or await self._wait(model, sticky_key)
        self.in_flight[target.replica_id] += 1
        try:
            yield target
        finally:
            self.in_flight[target.replica_id] -= 1
            self._wake()

    def _try(self, model: str, sticky_key: bytes) -> Target | None:
        alias, pinned = self.table.find(model)
        release = pinned or self.table.releases.get(resolve(alias, sticky_key))
        if release is None:
            return None
        replicas = [replica for replica in self.table.replicas if replica.alias == alias.name]
        if pinned is not None and not any(replica.will_serve(pinned.id) for replica in replicas):
            raise ReleaseNotLoaded(_not_loaded(pinned))
        avoid = self._avoided(release.id)
        target = choose(replicas, release, self.in_flight, avoid)
        # A suspect is tried again only after its time: a refused connection answers fast, and would spin.
        return None if target is None or target.replica_id in avoid else target

    def _avoided(self, release_id: str) -> frozenset[str]:
        now = time.monotonic()
        self._suspects = {suspect: until for suspect, until in self._suspects.items() if until > now}
        return frozenset(replica for replica, release in self._suspects if release in (None, release_id))

    async def _wait(self, model: str, sticky_key: bytes) -> Target:
        if self.waiting >= self._settings.max_waiting_requests:
            raise Overloaded("Too many requests are waiting for this model. Try again in a moment.")
        self.waiting += 1
        try:
            async with asyncio.timeout(self._settings.max_wait_seconds):
                while (target := self._try(model, sticky_key)) is None:
                    await self._next_look()
                    await self.freshness.wait()
        except TimeoutError as error:
            raise NoReplicaReady(self._why_not(model)) from error
        finally:
            self.waiting -= 1
        return target

    async def _next_look(self) -> None:
        try:
            async with asyncio.timeout(SUSPECT_SECONDS / 4):
                await self._changed.wait()
        except TimeoutError:
            return  # a suspect's time may be over, though nothing changed

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _why_not(self, model: str) -> str:
        _, pinned = self.table.find(model)
        if pinned is not None:
            return f"No engine that holds `{pinned.name}` became ready. Try again, or ask for `{pinned.alias}`."
        return f"No engine is ready to answer for `{model}`. See `alignway releases list` and the engine's log."


def _not_loaded(release: ReleaseView) -> str:
    return (
        f"The release `{release.name}` is not loaded on any replica. Promote it with `alignway releases promote "
        f"{release.name}`, or ask for `{release.alias}`."
    )
