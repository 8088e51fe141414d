"""The replicas as one worker sees them: hands out leases, counts what is in flight, lets newcomers wait.

Newcomers wait *unresolved*: which release answers them is decided at the moment a replica is free to serve it.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from itertools import count

import structlog

from gateway.engines.failures import NothingGenerated, NotSent, ReleaseNotHeld, UpstreamBrokeOff, UpstreamOverloaded
from gateway.errors import (
    AlignwayError,
    Conflict,
    NoReplicaReady,
    Overloaded,
    Unavailable,
    UpstreamError,
    UpstreamRefused,
)
from gateway.routing.breaker import REST_SECONDS, Breaker
from gateway.routing.drain import ServerShuttingDown
from gateway.routing.freshness import Freshness
from gateway.routing.policy import EVEN, Bound, ReleaseView, ReplicaView, Target, choose, point_of, resolve
from gateway.routing.table import Route, RoutingTable
from gateway.settings import PoolSettings, SwapSettings

NOTICE_SECONDS = 2.0
"""An agent notices within this time that its engine ended, and says so: until then newcomers wait for it."""
SILENT_NOTICE_SECONDS = 10.0
"""The same where nobody answers or answers break off: the engine has most likely ended; a busy agent is late."""

log = structlog.get_logger(__name__)


class ReleaseNotLoaded(Conflict):
    """A release was asked for by its name, and no replica holds it or is about to."""

    code, param = "release_not_loaded", "model"


class CircuitOpen(Unavailable):
    """Every replica that could answer failed again and again; each gets a trial now and then until it works."""

    code = "circuit_open"

    def __init__(self, message: str, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = max(1.0, retry_after_seconds)


class Lease:
    """A target for one attempt, counted as in flight until it is released."""

    __slots__ = ("_at", "_held", "_in_flight", "target")

    def __init__(self, target: Target, in_flight: Counter[str], at: Counter[str]) -> None:
        self.target = target
        self._in_flight, self._at = in_flight, at
        self._held = True
        in_flight[target.replica_id] += 1
        at[target.url] += 1

    def release(self) -> None:
        """Nothing of the attempt goes on at the engine. Doing it again does nothing."""
        if self._held:
            self._held = False
            self._in_flight[self.target.replica_id] -= 1
            self._at[self.target.url] -= 1


class Pool:
    """Dispatches the requests of one gateway worker."""

    def __init__(self, swap: SwapSettings, settings: PoolSettings | None = None) -> None:
        settings = settings or PoolSettings()
        self._swap = swap
        self._bound = Bound(settings.affinity_factor, settings.affinity_slack_requests)
        self._breaker = Breaker(settings.circuit_failures, settings.circuit_open_seconds)
        self.freshness = Freshness()
        self.table = RoutingTable()
        self.in_flight: Counter[str] = Counter()
        """By replica."""
        self.in_flight_at: Counter[str] = Counter()
        """By address: a replica may have left one, where streams go on, for another."""
        self.waiting = 0
        self._declined: dict[tuple[str, str], float] = {}
        """Replica and release: until when that replica is not asked for that release."""
        self._turns = count()
        self._changed = asyncio.Event()
        self._over = False

    def apply(self, table: RoutingTable) -> None:
        """Route by `table` from now on, and let everybody who waits look again."""
        before = {replica.id: replica for replica in self.table.replicas}
        for replica in table.replicas:
            was = before.get(replica.id)
            if was is None or _begins_anew(was, replica):
                self._breaker.forget(replica.id)
        self.table = table
        self._wake()

    def try_take(self, model: str, sticky_key: bytes, affinity: bytes = b"") -> Lease | None:
        """A lease if one can be had at once; None: `await take(...)`.

        Requests with the same `affinity` go to the same replica while it is not much busier than the others. Raises
        `ModelNotFound`, `ReleaseNotLoaded`, `CircuitOpen` or `ServerShuttingDown`.
        """
        return self._try(model, sticky_key, affinity) if self.freshness.is_fresh() else None

    async def take(self, model: str, sticky_key: bytes, affinity: bytes = b"", task: str = "chat") -> Lease:
        """As `try_take`, but waits for a replica. Raises also `Overloaded` (too many wait already) or
        `NoReplicaReady` (waited long enough).
        """
        await self.freshness.wait()
        lease = self._try(model, sticky_key, affinity, task)
        return lease or await self._wait(model, sticky_key, affinity, task)

    def report(self, target: Target, error: AlignwayError | None, prompt: bytes = b"") -> None:
        """What became of an attempt, as soon as it is known: None if the engine answered.

        Only what speaks against the engine counts against it; a request that it refused shows that it works, and the
        same `prompt` that fails again says nothing new.
        """
        if error is None:
            if self._breaker:
                self._worked(target)
            return
        if isinstance(error, NotSent):
            return
        if isinstance(error, ReleaseNotHeld | UpstreamOverloaded):
            self._declined[target.replica_id, target.release.id] = time.monotonic() + REST_SECONDS
        elif isinstance(error, UpstreamError):
            unheard = isinstance(error, NothingGenerated)
            asked = point_of(prompt) if prompt and not unheard else None
            broke_off = isinstance(error, UpstreamBrokeOff)
            if self._breaker.failed(target.replica_id, rest=unheard, broke_off=broke_off, prompt=asked):
                log.warning("circuit_opened", replica=target.replica_id, reason=error.message)
                self._wake()
        elif isinstance(error, UpstreamRefused):
            self._worked(target)

    def _worked(self, target: Target) -> None:
        if self._breaker.worked(target.replica_id):
            log.info("circuit_closed", replica=target.replica_id)
            self._wake()

    def circuits(self) -> dict[str, str]:
        """The state of each replica's circuit as this worker sees it: `closed`, `open` or `half_open`."""
        return {replica.id: self._breaker.state(replica.id).value for replica in self.table.replicas}

    def shut(self) -> None:
        """The time to drain is over: whoever waits, or comes now, is told so."""
        self._over = True
        self._wake()

    def _try(self, model: str, sticky_key: bytes, affinity: bytes, task: str = "chat") -> Lease | None:
        if self._over:
            raise ServerShuttingDown
        route, pinned = self.table.find(model, task)
        release = pinned or self.table.releases.get(resolve(route.alias, sticky_key))
        if release is None:
            return None
        targets = self._targets(route, release)
        if not targets and pinned is None and release.id == route.alias.canary_release_id:
            # Whoever is to try the candidate need not go without an answer because its engine is gone.
            incumbent = self.table.releases.get(route.alias.serving_release_id)
            targets = self._targets(route, incumbent) if incumbent else ()
        if len(targets) > 1:
            point, bound = (point_of(affinity), self._bound) if affinity else (next(self._turns), EVEN)
            return self._lease(choose(targets, self.in_flight, point, bound))
        if targets:
            return Lease(targets[0], self.in_flight, self.in_flight_at)
        self._refuse_in_vain(route, release, pinned)
        return None

    def _targets(self, route: Route, release: ReleaseView) -> Sequence[Target]:
        targets = route.able(release)
        return self._willing(targets) if self._breaker or self._declined else targets

    def _lease(self, target: Target) -> Lease:
        return Lease(target, self.in_flight, self.in_flight_at)

    def _willing(self, targets: Sequence[Target]) -> Sequence[Target]:
        """Without those that failed; one whose time has come for a trial gets this request."""
        now, breaker = time.monotonic(), self._breaker
        self._declined = {pair: until for pair, until in self._declined.items() if until > now}
        targets = [target for target in targets if (target.replica_id, target.release.id) not in self._declined]
        for target in targets:
            if breaker.try_trial(target.replica_id):
                return [target]
        passing = [target for target in targets if breaker.passes(target.replica_id)]
        return [target for target in passing if not breaker.failed_lately(target.replica_id)] or passing

    def _refuse_in_vain(self, route: Route, release: ReleaseView, pinned: ReleaseView | None) -> None:
        """Raise if waiting cannot help: nobody is about to serve the release, and whoever could is cut off."""
        if pinned is not None and not any(replica.will_serve(pinned.id) for replica in route.replicas):
            raise ReleaseNotLoaded(_not_loaded(pinned))
        holders = [replica for replica in route.replicas if replica.holds(release.id)]
        if not holders or any(replica.on_its_way(release.id) for replica in route.replicas):
            return
        if all(self._cut_off(replica) for replica in holders):
            raise CircuitOpen(
                f"Every engine behind `{route.alias.name}` failed again and again. Each is tried again every few "
                "seconds; see the engine's log.",
                min(self._breaker.seconds_to_trial(replica.id) for replica in holders),
            )

    def _cut_off(self, replica: ReplicaView) -> bool:
        """Whether it is broken, and no agent is about to say that it mends it."""
        open_for = self._breaker.open_for(replica.id)
        if replica.managed:
            notice = SILENT_NOTICE_SECONDS if self._breaker.is_silent(replica.id) else NOTICE_SECONDS
            return open_for is not None and open_for >= notice
        return open_for is not None or not replica.ready

    async def _wait(self, model: str, sticky_key: bytes, affinity: bytes, task: str) -> Lease:
        if self.waiting >= self._swap.max_waiting_requests:
            raise Overloaded("Too many requests are waiting for this model. Try again in a moment.")
        self.waiting += 1
        try:
            async with asyncio.timeout(self._swap.max_wait_seconds):
                while (lease := self._try(model, sticky_key, affinity, task)) is None:
                    await self._next_look()
                    await self.freshness.wait()
        except TimeoutError as error:
            raise NoReplicaReady(self._why_not(model, task)) from error
        finally:
            self.waiting -= 1
        return lease

    async def _next_look(self) -> None:
        try:
            async with asyncio.timeout(REST_SECONDS / 4):
                await self._changed.wait()
        except TimeoutError:
            return  # a replica's rest may be over, though nothing changed

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _why_not(self, model: str, task: str) -> str:
        _, pinned = self.table.find(model, task)
        if pinned is not None:
            return f"No engine that holds `{pinned.name}` became ready. Try again, or ask for `{pinned.alias}`."
        return f"No engine is ready to answer for `{model}`. See `alignway releases list` and the engine's log."


def _begins_anew(was: ReplicaView, now: ReplicaView) -> bool:
    """Whether what is known of the engine's failures is of another life."""
    known, seen = (was.url, was.restarts), (now.url, now.restarts)
    return (now.ready and not was.ready) or (was.fenced and not now.fenced) or known != seen


def _not_loaded(release: ReleaseView) -> str:
    return (
        f"The release `{release.name}` is not loaded on any replica. Promote it with `alignway releases promote "
        f"{release.name}`, or ask for `{release.alias}`."
    )
