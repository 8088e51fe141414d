"""Rollouts under every order of events: promotions, rollbacks, crashes, bad news, on a model of replicas.

The plan decides; the model obeys as the reconciler and agents do, in transactions, and engines die at any time.
"""

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.contracts.rollout import NEXT_STATES, OPEN_STATES, RolloutState, check_step
from gateway.errors import Conflict
from gateway.rollout.canary import Trial
from gateway.rollout.evidence import Signal, VoteCount
from gateway.rollout.facts import ReleaseFacts, ReplicaFacts, RolloutFacts, Snapshot
from gateway.rollout.plan import (
    Action,
    Advance,
    BeginSwap,
    CallOffSwap,
    EndCanary,
    HoldAdapters,
    RaiseShare,
    Serve,
    StartCanary,
    StartOn,
    plan,
)

RELEASES = {
    "base": ReleaseFacts("base", None, 0),
    "one": ReleaseFacts("one", "base", 16),
    "two": ReleaseFacts("two", "base", 16),
}
BAD = Signal("errors", True, 0.5, 0.0, "25 of 50 requests failed")
REPLICAS = st.sampled_from(["r1", "r2"])


def idle(name: str) -> ReplicaFacts:
    return ReplicaFacts(name, True, True, "base", frozenset(), 16, "base", frozenset(), None)


class Rollouts(RuleBasedStateMachine):
    """An alias over two replicas."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.serving, self.canary, self.share = "base", None, 0.0
        self.incumbent = "base"
        self.rollout: RolloutFacts | None = None
        self.rejected: set[str] = set()
        self.replicas = {name: idle(name) for name in ("r1", "r2")}
        self.swap = "merged"

    @property
    def snapshot(self) -> Snapshot:
        rollout = self.rollout if self.rollout and self.rollout.state in OPEN_STATES else None
        replicas = tuple(self.replicas.values())
        return Snapshot(self.serving, self.canary, self.swap, replicas, RELEASES, self.now, rollout)

    # what people do

    @precondition(lambda self: self.snapshot.rollout is None)
    @rule(release=st.sampled_from(sorted(RELEASES)), strategy=st.sampled_from(["canary", "immediate"]))
    def promote(self, release: str, strategy: str) -> None:
        if release == self.serving or release in self.rejected:
            return
        self.incumbent = self.serving
        self.rollout = RolloutFacts(release, "waiting", strategy, 0.05 if strategy == "canary" else 0.0)

    @precondition(lambda self: self.snapshot.rollout is None)
    @rule(release=st.sampled_from(sorted(RELEASES)))
    def try_out(self, release: str) -> None:
        """A canary that comes as far as its first share, if an engine can hold it."""
        self.promote(release, "canary")
        self.go_on(4)

    @precondition(lambda self: self.snapshot.rollout is not None)
    @rule()
    def roll_back(self) -> None:
        self.end("stopped", "rolled_back")

    @precondition(lambda self: self.snapshot.rollout is not None and self.rollout.state == "canary")
    @rule()
    def hasten(self) -> None:
        assert self.rollout is not None
        self.rollout = replace(self.rollout, strategy="immediate")

    # what is measured

    @precondition(lambda self: self.snapshot.rollout is not None and self.rollout.trial is not None)
    @rule(
        seconds=st.sampled_from([1.0, 1800.0]),
        requests=st.sampled_from([199, 200]),
        bad=st.sampled_from([False, False, True]),
        votes=st.sampled_from(
            [VoteCount(), VoteCount(8, 8, 28.4, "better"), VoteCount(8, 0, 28.4, "worse"), VoteCount(2000, 1000, 1.0)]
        ),
    )
    def measure(self, seconds: float, requests: int, bad: bool, votes: VoteCount) -> None:
        assert self.rollout is not None
        assert self.rollout.trial is not None
        self.now += seconds
        found = replace(self.rollout.trial, measured_at=self.now, requests=requests, votes=votes)
        self.rollout = replace(self.rollout, trial=replace(found, signals=(BAD,) if bad else ()))

    @rule(seconds=st.sampled_from([1.0, 40.0, 1800.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    # what machines do

    @rule(name=REPLICAS)
    def die(self, name: str) -> None:
        self.replicas[name] = replace(
            self.replicas[name], ready=False, weights_id=None, adapters=frozenset(), swap_state=None
        )

    @rule(name=REPLICAS)
    def obey(self, name: str) -> None:
        """An agent does what is desired of its replica."""
        replica = self.replicas[name]
        if replica.swap_state == "draining":
            self.replicas[name] = replace(replica, swap_state="loading", swap_deadline=None)
            return
        weights = replica.desired_weights_id
        self.replicas[name] = replace(
            replica, ready=True, weights_id=weights, adapters=replica.desired_adapters, swap_state=None
        )
        promoting = self.snapshot.promoting_id
        if replica.swap_state == "loading" and promoting == weights:
            self.set_serving(weights)

    @rule()
    def reconcile(self) -> None:
        """Carry the plan out, in one transaction: where it is killed before the end, it has not looked at all."""
        for action in plan(self.snapshot):
            self.apply(action)

    @rule(looks=st.integers(1, 6))
    def go_on(self, looks: int) -> None:
        """Everybody does their work for a while."""
        for _ in range(looks):
            self.reconcile_once()

    def apply(self, action: Action) -> None:
        match action:
            case Advance(to, _):
                if to == "rolled_back":
                    self.end("stopped", "rolled_back")
                else:
                    self.step(to)
            case Serve(release):
                self.set_serving(release)
            case StartCanary(release, share):
                self.begin_step(share)
                self.canary, self.share = release, share
            case RaiseShare(share, _):
                assert share > self.share
                self.begin_step(share)
                self.share = share
            case EndCanary(_, rejected):
                assert self.rollout is not None
                if rejected:
                    self.rejected.add(self.rollout.candidate_id)
                self.end("stopped", "rolled_back")
            case HoldAdapters(name, wanted):
                self.replicas[name] = replace(self.replicas[name], desired_adapters=wanted)
            case StartOn(name, release):
                self.replicas[name] = replace(
                    self.replicas[name], desired_weights_id=release, desired_adapters=frozenset()
                )
            case BeginSwap(name, release):
                self.replicas[name] = replace(
                    self.replicas[name], desired_weights_id=release, desired_adapters=frozenset(),
                    swap_state="draining", swap_deadline=self.now + 30,
                )  # fmt: skip
            case CallOffSwap(name):
                replica = self.replicas[name]
                self.replicas[name] = replace(
                    replica, swap_state=None, swap_deadline=None, swap_not_before=self.now + 20,
                    desired_weights_id=replica.weights_id or replica.desired_weights_id,
                    desired_adapters=replica.adapters,
                )  # fmt: skip

    def begin_step(self, share: float) -> None:
        assert self.rollout is not None
        trial = Trial(share, self.now, asked_by_person=True, gates_green=False)
        self.rollout = replace(self.rollout, canary_share=share, trial=trial)

    def step(self, to: RolloutState) -> None:
        assert self.rollout is not None
        check_step(self.rollout.state, to)  # raises for a step that is not listed
        self.rollout = replace(self.rollout, state=to)

    def end(self, before: RolloutState, after: RolloutState) -> None:
        assert self.rollout is not None
        self.step(after if self.rollout.state == "promoting" else before)
        self.set_serving(self.incumbent)

    def set_serving(self, release: str) -> None:
        self.serving, self.canary, self.share = release, None, 0.0

    # what holds at every point

    @invariant()
    def exactly_one_release_serves_and_it_is_the_incumbent_or_the_candidate_that_was_let_in(self) -> None:
        assert self.serving in RELEASES
        if self.rollout is None:
            assert self.serving == "base"
        elif self.rollout.state in ("waiting", "canary", "stopped", "rolled_back"):
            assert self.serving == self.incumbent
        elif self.rollout.state == "promoted":
            assert self.serving == self.rollout.candidate_id
        else:
            assert self.serving in (self.incumbent, self.rollout.candidate_id)

    @invariant()
    def only_a_canary_has_a_share_and_never_all_of_it(self) -> None:
        if self.canary is not None:
            assert self.rollout is not None
            assert (self.rollout.state, self.rollout.candidate_id) in (
                ("canary", self.canary),
                ("promoting", self.canary),
            )
            assert 0 < self.share < 1
            assert self.share == self.rollout.canary_share

    @invariant()
    def a_rejected_release_serves_nobody(self) -> None:
        assert self.serving not in self.rejected
        assert self.canary not in self.rejected

    @invariant()
    def of_two_replicas_one_at_a_time_exchanges_weights(self) -> None:
        assert sum(replica.swap_state is not None for replica in self.replicas.values()) <= 1

    def teardown(self) -> None:
        """From wherever it was left, it comes to an end: nothing is open, every replica holds what serves."""
        for _ in range(60):
            self.now += 2000.0
            if self.rollout is not None and self.rollout.trial is not None:
                trial = replace(self.rollout.trial, measured_at=self.now, requests=200, votes=VoteCount(), signals=())
                self.rollout = replace(self.rollout, trial=trial)
            self.reconcile_once()
        assert self.snapshot.rollout is None
        assert plan(self.snapshot) == []
        for replica in self.replicas.values():
            assert replica.ready
            assert self.serving == replica.weights_id

    def reconcile_once(self) -> None:
        for action in plan(self.snapshot):
            self.apply(action)
        for name in self.replicas:
            self.obey(name)


TestRollouts = Rollouts.TestCase
TestRollouts.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


def test_the_model_refuses_what_is_not_listed() -> None:
    for before, following in NEXT_STATES.items():
        for after in set(NEXT_STATES) - following:
            model = Rollouts()
            model.rollout = RolloutFacts("one", before, "canary")
            with pytest.raises(Conflict):
                model.step(after)
