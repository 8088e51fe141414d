"""Which release answers a request, and which replica: pure decisions over a snapshot."""

import hashlib
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.contracts.ids import WEIGHTS_NAME, engine_name


@dataclass(frozen=True)
class ReleaseView:
    """What routing knows of a release."""

    id: str
    name: str
    alias: str


@dataclass(frozen=True)
class AliasView:
    """What routing knows of an alias."""

    name: str
    serving_release_id: str
    canary_release_id: str | None = None
    canary_share: float = 0.0
    task: str = "chat"


@dataclass(frozen=True)
class ReplicaView:
    """What routing knows of a replica."""

    id: str
    alias: str
    url: str | None
    ready: bool
    fenced: bool
    """Between releases: nothing may be sent to it."""
    epoch: int
    weights_release_id: str | None
    adapters: frozenset[str]
    """Loaded, and meant to stay loaded."""
    desired: frozenset[str] = frozenset()
    """Releases it is meant to hold, as weights or adapters, whether it does yet or not."""
    weights_name: str = WEIGHTS_NAME
    """What the engine calls its full weights."""
    kind: str = "vllm"
    """What engine it is; `EngineKind` in the settings."""
    managed: bool = True
    """Whether an agent starts it again when it ends, and exchanges its weights."""
    given: bool = False
    """Whether its address was given with a promotion, for that one release."""
    restarts: int = 0
    """How often its agent has started it again."""

    def model_for(self, release_id: str) -> str | None:
        """The name under which this engine serves the release right now; None if it does not."""
        if not self.ready or self.fenced or self.url is None:
            return None
        if self.weights_release_id == release_id:
            return self.weights_name
        return engine_name(release_id) if release_id in self.adapters else None

    def will_serve(self, release_id: str) -> bool:
        """Whether it is worth waiting for this replica to serve the release: it is to hold it, or does already."""
        return release_id in self.desired or (self.holds(release_id) and not self.fenced)

    def holds(self, release_id: str) -> bool:
        """Whether the release is loaded, be the engine reachable or not."""
        return self.weights_release_id == release_id or release_id in self.adapters

    def on_its_way(self, release_id: str) -> bool:
        """Whether an agent is at work from which this replica may come out serving what a newcomer wants."""
        return self.managed and (
            not self.ready or self.fenced or (release_id in self.desired and not self.holds(release_id))
        )


@dataclass(frozen=True)
class Target:
    """Where a request goes, and who will have written the answer."""

    replica_id: str
    url: str
    engine_model: str
    release: ReleaseView
    kind: str = "vllm"
    """What engine it is; `EngineKind` in the settings."""
    managed: bool = True
    """Whether an agent starts it again when it ends."""
    seed: int = field(init=False, repr=False, compare=False)
    """The replica's own number in rendezvous hashing."""

    def __post_init__(self) -> None:
        """Work the seed out once: it is used for every request."""
        digest = hashlib.sha256(self.replica_id.encode()).digest()
        object.__setattr__(self, "seed", int.from_bytes(digest[:8], "big"))


@dataclass(frozen=True)
class Bound:
    """How much busier than the least busy replica one may be and still get the requests it has an affinity to."""

    factor: float = 1.25
    slack_requests: int = 8

    def limit(self, least: int) -> float:
        """A replica with this many requests in flight gets no more for affinity's sake."""
        return least * self.factor + self.slack_requests


EVEN = Bound(factor=1.0, slack_requests=1)
"""No affinity: one of the least busy."""


def resolve(alias: AliasView, sticky_key: bytes) -> str:
    """The release that answers: the canary for its share of callers, always the same one for the same `sticky_key`."""
    if alias.canary_release_id is not None and fraction(alias.name.encode(), sticky_key) < alias.canary_share:
        return alias.canary_release_id
    return alias.serving_release_id


def fraction(salt: bytes, key: bytes) -> float:
    """A number in [0, 1) that depends on nothing but salt and key, evenly spread."""
    digest = hashlib.sha256(salt + b"\0" + key).digest()
    return int.from_bytes(digest[:7], "big") / (1 << 56)


def able(replicas: Iterable[ReplicaView], release: ReleaseView) -> tuple[Target, ...]:
    """The replicas that serve the release right now, as targets."""
    return tuple(
        Target(replica.id, str(replica.url), model, release, replica.kind, replica.managed)
        for replica in replicas
        if (model := replica.model_for(release.id)) is not None
    )


def choose(targets: Sequence[Target], in_flight: Mapping[str, int], point: int, bound: Bound) -> Target:
    """Among the replicas that are not too busy, the one that ranks highest for `point`: rendezvous hashing.

    The same point goes to the same replica while it is within `bound`; then to the second in rank, and so on. A
    replica that leaves takes no other's points with it. `targets` must not be empty.
    """
    loads = [in_flight[target.replica_id] for target in targets]
    limit = bound.limit(min(loads))
    best, highest = targets[0], -1
    for target, load in zip(targets, loads, strict=True):
        if load < limit and (rank := _mixed(point ^ target.seed)) > highest:
            best, highest = target, rank
    return best


def point_of(affinity: bytes) -> int:
    """Where requests with this affinity lie. Not for secrets: who aims at one replica is stopped by the bound."""
    return zlib.crc32(affinity)


def _mixed(value: int) -> int:
    """64 bits stirred (the finaliser of splitmix64), so that neighbours rank replicas independently."""
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    value = (value ^ value >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    return value ^ value >> 31
