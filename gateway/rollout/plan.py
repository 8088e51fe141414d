"""What should change now, so that replicas come to hold what their alias serves: a pure decision over a snapshot.

Level-triggered: nothing is remembered between two looks. A crash at any point leaves a state from which the same
plan goes on.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from gateway.contracts.rollout import RolloutState
from gateway.rollout.canary import Trial, decide
from gateway.rollout.facts import ReplicaFacts, Snapshot, final_weights, fits_as_adapter, may_come_to_hold
from gateway.sections.canary import CanarySettings


@dataclass(frozen=True)
class Advance:
    """Take the rollout to its next state."""

    to: RolloutState
    reason: str
    actor: str = "reconciler"


@dataclass(frozen=True)
class Serve:
    """Resolve the alias to this release."""

    release_id: str


@dataclass(frozen=True)
class StartCanary:
    """Give the candidate its share of traffic."""

    release_id: str
    share: float


@dataclass(frozen=True)
class RaiseShare:
    """Give the candidate on trial a greater share of traffic."""

    share: float
    reason: str


@dataclass(frozen=True)
class EndCanary:
    """The incumbent stays."""

    reason: str
    rejected: bool
    """Whether the candidate did worse; else it was only not found to be better."""


@dataclass(frozen=True)
class HoldAdapters:
    """A replica should hold exactly these adapters."""

    replica_id: str
    release_ids: frozenset[str]


@dataclass(frozen=True)
class StartOn:
    """A replica that is down should come up on these weights."""

    replica_id: str
    release_id: str


@dataclass(frozen=True)
class BeginSwap:
    """Fence the replica and exchange its weights."""

    replica_id: str
    release_id: str


@dataclass(frozen=True)
class BeginBeside:
    """Start a second engine on these weights beside the one that serves, and let it take over."""

    replica_id: str
    release_id: str


@dataclass(frozen=True)
class CallOffSwap:
    """The streams did not end in time: lift the fence and try again later."""

    replica_id: str


@dataclass(frozen=True)
class CallOffBeside:
    """Other weights are wanted by now than the second engine is started on."""

    replica_id: str


@dataclass(frozen=True)
class GoBack:
    """What serves cannot be reached any more: serve what was served before."""

    reason: str


@dataclass(frozen=True)
class Forget:
    """Nobody may ask for what this replica holds: it is no longer of the pool."""

    replica_id: str


CANARY = "canary"
"""Who takes the steps of a canary."""
DEFAULTS = CanarySettings()

Action = (
    Advance | Serve | StartCanary | RaiseShare | EndCanary | HoldAdapters | StartOn | BeginSwap | CallOffSwap
    | BeginBeside | CallOffBeside | GoBack | Forget
)  # fmt: skip


def plan(snapshot: Snapshot, rules: CanarySettings = DEFAULTS) -> list[Action]:
    """The changes to make now, in order. Empty: everything is as it should be, or is on its way."""
    actions: list[Action] = list(_advance_rollout(snapshot, rules)) or list(_go_back(snapshot))
    if actions:
        return actions  # they change what the replicas should hold: look again first
    actions += _forget(snapshot)
    swapping = False
    for replica in snapshot.managed:
        for action in _mend_replica(snapshot, replica):
            begins = isinstance(action, BeginSwap | BeginBeside)
            if not (swapping and begins):  # one at a time is out of rotation
                actions.append(action)
            swapping = swapping or begins
    return actions


def _advance_rollout(snapshot: Snapshot, rules: CanarySettings) -> Iterator[Action]:
    rollout = snapshot.rollout
    if rollout is None:
        return
    if rollout.state == "waiting":
        yield Advance("canary", "no other rollout is under way")
    elif rollout.state == "canary" and rollout.strategy == "immediate":
        yield Advance("promoting", "promotion was asked for at once")
    elif rollout.state == "canary" and not _may_be_tried(snapshot, rollout.candidate_id):
        yield EndCanary("no engine can hold the candidate beside what it serves", rejected=False)
    elif rollout.state == "canary" and (snapshot.canary_id is None or rollout.trial is None):
        if _is_held(snapshot, rollout.candidate_id):
            yield StartCanary(rollout.candidate_id, rollout.canary_share)
    elif rollout.state == "canary" and rollout.trial is not None:
        yield from _step_of(rollout.trial, rules, snapshot.now)
    elif rollout.state == "promoting":
        if snapshot.serving_id != rollout.candidate_id:
            if _is_held(snapshot, rollout.candidate_id):
                yield Serve(rollout.candidate_id)
            elif not _able(snapshot, rollout.candidate_id):
                yield Advance("rolled_back", _why_not_held(snapshot, rollout.candidate_id))
        elif all(
            _is_final(snapshot, replica, rollout.candidate_id) for replica in _able(snapshot, rollout.candidate_id)
        ):
            yield Advance("promoted", "every replica holds the candidate")


def _step_of(trial: Trial, rules: CanarySettings, now: float) -> Iterator[Action]:
    decision = decide(trial, rules, now)
    if decision.action == "raise" and decision.share is not None:
        yield RaiseShare(decision.share, decision.reason)
    elif decision.action == "promote":
        yield Advance("promoting", decision.reason, CANARY)
    elif decision.action in ("stop", "reject"):
        yield EndCanary(decision.reason, decision.action == "reject")


def _may_be_tried(snapshot: Snapshot, release_id: str) -> bool:
    """Whether a replica holds the candidate or could beside its weights. One with an agent that is down, or at work,
    may yet; one without is what it is.
    """
    release = snapshot.releases[release_id]
    return any(
        (replica.ready and (replica.weights_id == release_id or fits_as_adapter(release, replica)))
        or (replica.managed and (not replica.ready or replica.swap_state is not None))
        for replica in snapshot.replicas
    )


def _go_back(snapshot: Snapshot) -> Iterator[Action]:
    """Where a promoted release was served by given addresses alone, and none answers, the one before it is at hand."""
    holders = snapshot.holders(snapshot.serving_id)
    gone = bool(holders) and all(replica.given and not replica.ready for replica in holders)
    before = snapshot.fallback_id
    if gone and snapshot.rollout is None and before is not None and _is_held(snapshot, before):
        yield GoBack(_why_not_held(snapshot, snapshot.serving_id))


def _forget(snapshot: Snapshot) -> Iterator[Action]:
    """Given addresses whose release nobody may ask for: neither serves, nor is on trial, nor what one would go back to.

    Not before the last request there has ended, so that whoever looks knows when a server may be stopped.
    """
    wanted = {snapshot.serving_id, snapshot.canary_id, snapshot.fallback_id}
    if (rollout := snapshot.rollout) is not None:
        wanted |= {rollout.candidate_id, rollout.incumbent_id}
    for replica in snapshot.replicas:
        if replica.given and replica.idle and replica.weights_id not in wanted:
            yield Forget(replica.id)


def _why_not_held(snapshot: Snapshot, release_id: str) -> str:
    given = [replica for replica in snapshot.holders(release_id) if not replica.managed]
    if given:
        return "its server does not answer: " + "; ".join(f"{replica.id}: {replica.detail}" for replica in given)
    return f"no engine with an agent can hold it with swap = {snapshot.swap}"


def _able(snapshot: Snapshot, release_id: str) -> list[ReplicaFacts]:
    release = snapshot.releases[release_id]
    return [replica for replica in snapshot.managed if may_come_to_hold(release, replica, snapshot.swap)]


def _is_held(snapshot: Snapshot, release_id: str) -> bool:
    return any(
        replica.ready
        and replica.swap_state is None
        and (replica.weights_id == release_id or release_id in replica.adapters & replica.desired_adapters)
        for replica in snapshot.replicas
    )


def _is_final(snapshot: Snapshot, replica: ReplicaFacts, release_id: str) -> bool:
    weights = final_weights(snapshot.releases[release_id], snapshot.swap)
    settled = replica.ready and replica.swap_state is None and replica.weights_id == weights
    return settled and (weights == release_id or release_id in replica.adapters)


def _mend_replica(snapshot: Snapshot, replica: ReplicaFacts) -> Iterator[Action]:
    target = final_weights(snapshot.releases[snapshot.promoting_id or snapshot.serving_id], snapshot.swap)
    if replica.swap_state == "beside" and replica.desired_weights_id != target:
        yield CallOffBeside(replica.id)
    if replica.swap_state is not None:
        late = replica.swap_deadline is not None and snapshot.now > replica.swap_deadline
        if replica.swap_state == "draining" and late:
            yield CallOffSwap(replica.id)
        return
    serving_weights = final_weights(snapshot.releases[snapshot.serving_id], snapshot.swap)
    if not replica.ready:
        if replica.desired_weights_id != serving_weights:
            yield StartOn(replica.id, serving_weights)
        return
    adapters = _adapters_to_hold(snapshot, replica)
    if adapters != replica.desired_adapters:
        yield HoldAdapters(replica.id, adapters)
        return
    if replica.weights_id != target and _may_swap(snapshot, replica):
        yield BeginSwap(replica.id, target) if replica.in_place else BeginBeside(replica.id, target)


def _adapters_to_hold(snapshot: Snapshot, replica: ReplicaFacts) -> frozenset[str]:
    on_trial = snapshot.rollout.candidate_id if snapshot.rollout else None
    spare = snapshot.fallback_id if snapshot.rollout is None else None
    wanted = {snapshot.serving_id, snapshot.canary_id, on_trial, spare} - {None, replica.weights_id}
    return frozenset(name for name in wanted if name and fits_as_adapter(snapshot.releases[name], replica))


def _may_swap(snapshot: Snapshot, replica: ReplicaFacts) -> bool:
    if replica.swap_not_before is not None and snapshot.now < replica.swap_not_before:
        return False
    others = [other for other in snapshot.managed if other.id != replica.id]
    others_serve = all(other.ready and other.swap_state is None for other in others)
    candidate = snapshot.promoting_id
    # While the candidate's adapter can serve, let it: then nobody depends on the weights that are being exchanged.
    adapter_first = (
        candidate is not None
        and candidate != snapshot.serving_id
        and fits_as_adapter(snapshot.releases[candidate], replica)
    )
    return others_serve and not adapter_first
