"""How a canary goes on, given what was measured: a pure decision."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gateway.rollout.evidence import Signal, VoteCount
from gateway.sections.canary import CanarySettings

COUNTED = 2000
"""At most so many of the newest requests and ratings are counted: a look costs the same however busy a release is."""

STALE_SECONDS, STALE_LOOKS = 60.0, 5.0
"""Evidence older than this, and than so many looks, lets no candidate go on."""
NO_VOTES = VoteCount()


@dataclass(frozen=True)
class Trial:
    """A candidate on trial: how far it has come, and what the last look at it said."""

    share: float
    began_at: float
    """When the step began."""
    asked_by_person: bool
    gates_green: bool
    """Every gate passed, with a sure gain: `unattended_ok`."""
    requests: int = 0
    """Answered by the candidate in this step."""
    measured_at: float = -math.inf
    votes: VoteCount = NO_VOTES
    signals: tuple[Signal, ...] = ()


@dataclass(frozen=True)
class Decision:
    """What to do with the canary, and why."""

    action: Literal["wait", "raise", "promote", "stop", "reject"]
    reason: str
    share: float | None = None
    """Of `raise`: the next."""


def decide(trial: Trial, rules: CanarySettings, now: float) -> Decision:
    """The next step of a canary, or why it waits."""
    if bad := reason_to_roll_back(trial.signals):
        return Decision("reject", bad)
    votes = trial.votes
    told = f"{votes.wins} of {votes.votes} votes prefer the candidate (e-value {votes.e_value:.3g})"
    if votes.verdict == "worse":
        return Decision("reject", f"worse by votes: {told}")
    if votes.verdict == "undecided" and votes.votes >= rules.max_votes:
        return Decision("stop", f"no difference found: {told}; the incumbent stays")
    seconds, requests = dwell_left(trial, rules, now)
    if seconds or requests:
        return Decision("wait", f"this step lasts {seconds:.0f} s and {requests} requests more")
    if now - trial.measured_at > max(STALE_SECONDS, STALE_LOOKS * rules.look_seconds):
        return Decision("wait", "the candidate was not measured lately; the gateway's log says why")
    following = next((share for share in rules.steps if share > trial.share), None)
    if following is not None:
        return Decision("raise", f"nothing bad at {trial.share:.0%}; {told}", following)
    return _all_traffic(trial, rules, told)


def _all_traffic(trial: Trial, rules: CanarySettings, told: str) -> Decision:
    if trial.asked_by_person:
        return Decision("promote", f"nothing bad in the canary, which a person asked for; {told}")
    if not rules.unattended:
        return Decision("wait", "the canary is passed; a person has to promote it (canary.unattended is off)")
    if not trial.gates_green:
        return Decision(
            "wait", "the canary is passed; its gates were not all green with a sure gain, so a person has to promote it"
        )
    return Decision("promote", f"nothing bad in the canary, and every gate was green; {told}")


def dwell_left(trial: Trial, rules: CanarySettings, now: float) -> tuple[float, int]:
    """Seconds and requests that the step still lasts."""
    requests = rules.dwell_requests - trial.requests
    return max(0.0, trial.began_at + rules.dwell_seconds - now), max(0, requests)


def reason_to_roll_back(signals: Sequence[Signal]) -> str:
    """What is bad, in words; empty if nothing is."""
    return "; ".join(f"{signal.name}: {signal.reason}" for signal in signals if signal.bad)
