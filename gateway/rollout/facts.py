"""One alias as a plan sees it: its releases, its replicas, its rollout, the time, and what each replica could hold."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.contracts.rollout import RolloutState
from gateway.rollout.canary import Trial


@dataclass(frozen=True)
class ReleaseFacts:
    """What the plan needs of a release."""

    id: str
    base_release_id: str | None
    """The release whose weights its adapter stands on; None for a base."""
    adapter_rank: int
    derived: Mapping[str, int] = field(default_factory=dict)
    """Releases over whose merged weights a derived adapter gives this one, and that adapter's rank."""

    def rank_over(self, weights_id: str | None) -> int | None:
        """The rank of the adapter that gives this release over some weights; None if there is no such adapter."""
        if weights_id is None or weights_id == self.id:
            return None
        return self.adapter_rank if weights_id == self.base_release_id else self.derived.get(weights_id)


@dataclass(frozen=True)
class ReplicaFacts:
    """What a replica holds and what it was told to hold."""

    id: str
    ready: bool
    managed: bool
    weights_id: str | None
    adapters: frozenset[str]
    max_adapter_rank: int
    desired_weights_id: str
    desired_adapters: frozenset[str]
    swap_state: str | None
    swap_deadline: float | None = None
    swap_not_before: float | None = None
    in_place: bool = True
    """Whether the engine takes other full weights while it runs."""
    given: bool = False
    """Whether its address was given with a promotion: it stays while its release may be asked for."""
    idle: bool = False
    """Of a given one: no worker has anything in flight there, or would send anything."""
    detail: str = ""


@dataclass(frozen=True)
class RolloutFacts:
    """The open rollout of the alias."""

    candidate_id: str
    state: RolloutState
    strategy: str
    canary_share: float = 0.0
    trial: Trial | None = None
    """How the canary goes; None before the candidate got its first share."""
    incumbent_id: str | None = None


@dataclass(frozen=True)
class Snapshot:
    """One alias, everything that belongs to it, and the time."""

    serving_id: str
    canary_id: str | None
    swap: str
    replicas: tuple[ReplicaFacts, ...]
    releases: Mapping[str, ReleaseFacts]
    now: float
    rollout: RolloutFacts | None = None
    fallback_id: str | None = None
    """What a rollback would serve: kept at hand where an adapter gives it, so that going back takes no exchange."""

    @property
    def managed(self) -> tuple[ReplicaFacts, ...]:
        """The replicas that an agent can load into."""
        return tuple(replica for replica in self.replicas if replica.managed)

    def holders(self, release_id: str) -> tuple[ReplicaFacts, ...]:
        """The replicas whose full weights are the release's, reachable or not."""
        return tuple(replica for replica in self.replicas if replica.weights_id == release_id)

    @property
    def promoting_id(self) -> str | None:
        """The candidate that is being promoted."""
        return self.rollout.candidate_id if self.rollout and self.rollout.state == "promoting" else None


def fits_as_adapter(release: ReleaseFacts, replica: ReplicaFacts) -> bool:
    """Whether a release can be held as an adapter over what the replica holds.

    Over the base it was trained on, or over merged weights from which a derived adapter leads to it.
    """
    rank = release.rank_over(replica.weights_id)
    return rank is not None and 0 < rank <= replica.max_adapter_rank


def may_come_to_hold(release: ReleaseFacts, replica: ReplicaFacts, swap: str) -> bool:
    """Whether a replica could hold a release the way `swap` says. One that is not ready may: its engine is unknown."""
    if not replica.managed:
        return False
    merged = final_weights(release, swap) == release.id
    return merged or not replica.ready or max(release.adapter_rank, 1) <= replica.max_adapter_rank


def final_weights(release: ReleaseFacts, swap: str) -> str:
    """Whose full weights a replica holds once the release is promoted."""
    return release.base_release_id or release.id if swap == "adapter" else release.id
