"""What the full demo measured after the training, and the verdict over it. Pure; `table.py` prints it."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from gateway.contracts.release import GateResult
from gateway.demo.report import LearningReport

CANARY_ACTOR = "canary"
"""Who a rollout says rolled it back where nobody did."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Traffic(_Record):
    """What the simulated end users saw and said."""

    answers: int
    by_release: dict[str, int]
    failed: int
    failures: tuple[str, ...]
    """The first few errors, as the client saw them."""
    strangers: int
    """Answers by neither the candidate nor the incumbent."""
    moved_back: int
    """Users whom the candidate answered first and the incumbent later, before it was rolled back."""
    preferences: int
    preferred_candidate: int
    thumbs_up: int
    thumbs_down: int


class CanaryStep(_Record):
    """A share of the traffic, and why it ended."""

    share: float
    seconds: float
    requests: int
    """Answered by the candidate in this step."""
    votes: int
    """Comparisons since the canary began, as the service counts them."""
    wins: int
    """Of these, for the candidate."""
    e_value: float
    ended: str


class CanaryWalk(_Record):
    """The whole way of the candidate to all traffic."""

    rollout_id: str
    seconds: float
    steps: tuple[CanaryStep, ...]
    users: Traffic


class Stop(_Record):
    """A gate that blocks, and by how much its figure misses its limit."""

    gate: str
    value: float
    limit: float
    over: float
    reason: str


class Inverted(_Record):
    """The candidate that was trained on inverted votes."""

    release_id: str
    release_name: str
    state: str
    pairs: int
    gates: tuple[GateResult, ...]
    stopped_by: tuple[Stop, ...]
    refusal: str
    """What the service said to whoever tried to promote it; empty if it did not refuse."""


class SignalFigures(_Record):
    """One live signal at the moment of the rollback."""

    name: str
    bad: bool
    candidate: float | None
    incumbent: float | None
    reason: str


class Sabotage(_Record):
    """The broken release that was promoted past the gates, and how it went."""

    release_id: str
    release_name: str
    tensors_zeroed: int
    promoted_because: str
    actor: str
    """Who rolled it back."""
    reason: str
    signals: tuple[SignalFigures, ...]
    harmed: int
    """Answers it gave."""
    first_answer_to_rollback_seconds: float
    state: str
    serving_again: str
    compared: int
    restored: int
    """Greedy answers of the release before it that are back, letter for letter."""
    training_paused: str
    users: Traffic


class FullReport(LearningReport):
    """The full demo in figures."""

    profile: dict[str, Any]
    seconds: float
    gates: tuple[GateResult, ...]
    canary: CanaryWalk
    inverted: Inverted
    sabotage: Sabotage

    def _more_reasons(self) -> tuple[str, ...]:
        shares = tuple(self.profile["canary"]["steps"])
        return (
            *_canary_reasons(self.canary, shares),
            *_inverted_reasons(self.inverted),
            *_sabotage_reasons(self.sabotage, self.candidate_id),
        )


def gates_of(release: Mapping[str, Any]) -> tuple[GateResult, ...]:
    """The gates of a release, from its view."""
    return tuple(GateResult.model_validate(gate) for gate in release["gates"])


def stops(gates: Sequence[GateResult]) -> tuple[Stop, ...]:
    """The gates that block, with the distance between figure and limit."""
    return tuple(
        Stop(gate=gate.gate, value=gate.value, limit=gate.limit, over=abs(gate.value - gate.limit), reason=gate.reason)
        for gate in gates
        if gate.verdict == "block"
    )


def canary_steps(rollout: Mapping[str, Any], began_at: float) -> tuple[CanaryStep, ...]:
    """The steps of a rollout's canary, from its view with `steps`; `began_at` is when it was asked for."""
    found, previous = [], began_at
    for step in rollout.get("steps", ()):
        evidence = step["evidence"]
        if step["from"] == "canary" and evidence:
            votes = evidence["votes"]
            found.append(
                CanaryStep(
                    share=evidence["share"],
                    seconds=step["at"] - previous,
                    requests=evidence["candidate"]["requests"],
                    votes=votes["votes"],
                    wins=votes["wins"],
                    e_value=votes["e_value"],
                    ended=step["reason"],
                )
            )
        previous = step["at"]
    return tuple(found)


def bad_signals(evidence: Mapping[str, Any] | None) -> tuple[SignalFigures, ...]:
    """The signals of a rollout's evidence, bad ones first."""
    found = [SignalFigures.model_validate(signal) for signal in (evidence or {}).get("signals", ())]
    return tuple(sorted(found, key=lambda signal: not signal.bad))


def _canary_reasons(canary: CanaryWalk, shares: tuple[float, ...]) -> list[str]:
    reasons, walked, users = [], tuple(step.share for step in canary.steps), canary.users
    if walked != shares:
        reasons.append(f"the canary walked {walked}, not {shares}")
    if users.failed:
        reasons.append(f"{users.failed} requests failed during the canary: {users.failures[0]}")
    if users.strangers or users.moved_back:
        reasons.append(
            f"in the canary {users.strangers} answers were by others and {users.moved_back} users moved back"
        )
    if not canary.steps or not canary.steps[-1].votes:
        reasons.append("no vote compared candidate and incumbent in the canary")
    return reasons


def _inverted_reasons(inverted: Inverted) -> list[str]:
    if inverted.state == "rejected" and inverted.stopped_by and inverted.refusal:
        return []
    return [f"the gates did not stop the candidate trained on inverted votes: it is {inverted.state}"]


def _sabotage_reasons(sabotage: Sabotage, aligned_id: str) -> list[str]:
    reasons = []
    if sabotage.actor != CANARY_ACTOR or not any(signal.bad for signal in sabotage.signals):
        reasons.append(f"the sabotaged release was not rolled back by itself on a signal, but by {sabotage.actor}")
    if sabotage.serving_again != aligned_id or not 0 < sabotage.compared == sabotage.restored:
        reasons.append(
            f"after the rollback {sabotage.restored} of {sabotage.compared} greedy answers were the old ones"
        )
    if sabotage.state != "rejected":
        reasons.append(f"the sabotaged release is {sabotage.state}, not rejected")
    return reasons
