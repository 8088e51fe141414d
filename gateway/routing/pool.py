"""The replicas as one worker sees them: hands out targets, counts what is in flight, lets newcomers wait.

Newcomers wait *unresolved*: which release answers them is decided at the moment a replica is free to serve it.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gateway.errors import ModelNotFound, NoReplicaReady, Overloaded
from gateway.routing.policy import AliasView, ReleaseView, ReplicaView, Target, choose, resolve
from gateway.settings import SwapSettings

SUSPECT_SECONDS = 1.0
"""A replica that refused a connection is avoided for this long."""


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
        self.table = RoutingTable()
        self.in_flight: Counter[str] = Counter()
        self.waiting = 0
        self._suspects: dict[str, float] = {}
        self._changed = asyncio.Event()

    def apply(self, table: RoutingTable) -> None:
        """Route by `table` from now on, and let everybody who waits look again."""
        self.table = table
        self._wake()

    def suspect(self, replica_id: str) -> None:
        """A replica refused a connection: prefer others for a moment."""
        self._suspects[replica_id] = time.monotonic() + SUSPECT_SECONDS

    @asynccontextmanager
    async def dispatch(self, model: str, sticky_key: bytes) -> AsyncIterator[Target]:
        """A target for one request, counted as in flight until the block is left.

        Raises `ModelNotFound`, `Overloaded` (too many wait already) or `NoReplicaReady` (waited long enough).
        """
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
        now = time.monotonic()
        avoid = frozenset(replica for replica, until in self._suspects.items() if until > now)
        replicas = (replica for replica in self.table.replicas if replica.alias == alias.name)
        target = choose(replicas, release, self.in_flight, avoid)
        # A suspect is tried again only after its time: a refused connection answers fast, and would spin.
        return None if target is None or target.replica_id in avoid else target

    async def _wait(self, model: str, sticky_key: bytes) -> Target:
        if self.waiting >= self._settings.max_waiting_requests:
            raise Overloaded("Too many requests are waiting for this model. Try again in a moment.")
        self.waiting += 1
        try:
            async with asyncio.timeout(self._settings.max_wait_seconds):
                while (target := self._try(model, sticky_key)) is None:
                    await self._next_look()
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
            return f"The release `{pinned.name}` is not loaded on any replica. Promote it, or ask for `{pinned.alias}`."
        return f"No engine is ready to answer for `{model}`. See `alignway releases list` and the engine's log."
