"""Which release answers a request, and which replica: pure decisions over a snapshot."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

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

    def model_for(self, release_id: str) -> str | None:
        """The name under which this engine serves the release right now; None if it does not."""
        if not self.ready or self.fenced or self.url is None:
            return None
        if self.weights_release_id == release_id:
            return self.weights_name
        return engine_name(release_id) if release_id in self.adapters else None

    def will_serve(self, release_id: str) -> bool:
        """Whether it is worth waiting for this replica to serve the release: it is to hold it, or does already."""
        holds = self.weights_release_id == release_id or release_id in self.adapters
        return release_id in self.desired or (holds and not self.fenced)


@dataclass(frozen=True)
class Target:
    """Where a request goes, and who will have written the answer."""

    replica_id: str
    url: str
    engine_model: str
    release: ReleaseView


def resolve(alias: AliasView, sticky_key: bytes) -> str:
    """The release that answers: the canary for its share of callers, always the same one for the same `sticky_key`."""
    if alias.canary_release_id is not None and fraction(alias.name.encode(), sticky_key) < alias.canary_share:
        return alias.canary_release_id
    return alias.serving_release_id


def fraction(salt: bytes, key: bytes) -> float:
    """A number in [0, 1) that depends on nothing but salt and key, evenly spread."""
    digest = hashlib.sha256(salt + b"\0" + key).digest()
    return int.from_bytes(digest[:7], "big") / (1 << 56)


def choose(
    replicas: Iterable[ReplicaView], release: ReleaseView, in_flight: Mapping[str, int], avoid: frozenset[str]
) -> Target | None:
    """The least busy replica that serves the release, the ones in `avoid` only if there is no other; None if none."""
    able = [(replica, model) for replica in replicas if (model := replica.model_for(release.id)) is not None]
    if not able:
        return None
    replica, model = min(able, key=lambda pair: (pair[0].id in avoid, in_flight.get(pair[0].id, 0), pair[0].id))
    return Target(replica.id, str(replica.url), model, release)
