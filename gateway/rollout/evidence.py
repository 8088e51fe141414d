"""What speaks for or against a candidate: votes under an anytime-valid test, and signals of its traffic. Pure.

The test bets on each vote that the next goes the same way as those before. Its e-value is the gain on these bets; were
both sides equal, it would reach 20 at any time at all in at most one of 20 trials. So one may look after every vote.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Literal

from gateway.sections.canary import CanarySettings

Verdict = Literal["undecided", "better", "worse"]


@dataclass(frozen=True)
class Vote:
    """One rater's choice between an answer of the candidate and one of the incumbent."""

    rater: str
    comparison: str
    for_candidate: bool


@dataclass(frozen=True)
class Rating:
    """One rater's thumb on an answer."""

    rater: str
    of_candidate: bool
    down: bool


@dataclass(frozen=True)
class VoteCount:
    """How a sequence of votes came out."""

    votes: int = 0
    wins: int = 0
    """Votes for the candidate."""
    e_value: float = 1.0
    """The highest reached, which is the one that counts."""
    verdict: Verdict = "undecided"


@dataclass(frozen=True)
class Traffic:
    """What one release did with its newest requests."""

    requests: int = 0
    errors: int = 0
    answers: int = 0
    """Finished answers that were looked at."""
    empty: int = 0
    looping: int = 0
    truncated: int = 0
    first_chunks: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
    """Seconds to the first token, in the earlier and the later half of the span."""

    def view(self) -> dict[str, Any]:
        """The figures as JSON."""
        counts = asdict(self)
        halves = counts.pop("first_chunks")
        return counts | {"ttft_p95": [p95(half) for half in halves], "ttft_requests": [len(half) for half in halves]}


@dataclass(frozen=True)
class Restarts:
    """How often engines were started again since the step began."""

    with_candidate: int = 0
    without: int = 0


@dataclass(frozen=True)
class Signal:
    """One rule's answer: its figures, and a sentence."""

    name: str
    bad: bool
    candidate: float | None
    incumbent: float | None
    reason: str


def log_e(wins: int, losses: int) -> float:
    """Natural logarithm of the beta-binomial e-value, uniform prior, against a fair coin; two-sided."""
    total = wins + losses
    return total * math.log(2) + math.lgamma(wins + 1) + math.lgamma(losses + 1) - math.lgamma(total + 2)


def bet(outcomes: Iterable[bool], e_value: float) -> VoteCount:
    """VoteCount along the outcomes, in order, and stop at `e_value`: so it is the same however often one looks."""
    wins = losses = 0
    highest = 0.0
    verdict: Verdict = "undecided"
    limit = math.log(e_value)
    for won in outcomes:
        wins, losses = wins + won, losses + (not won)
        highest = max(highest, log_e(wins, losses))
        if highest >= limit:
            verdict = "better" if wins > losses else "worse"
            break
    return VoteCount(wins + losses, wins, math.exp(highest), verdict)


def judge_votes(votes: Iterable[Vote], e_value: float, max_votes: int) -> VoteCount:
    """The verdict of votes in order of time. What a rater says again of the same comparison is one vote, the first."""
    first: dict[tuple[str, str], bool] = {}
    for vote in votes:
        first.setdefault((vote.rater, vote.comparison), vote.for_candidate)
    return bet(islice(first.values(), max_votes), e_value)


def judge_ratings(ratings: Iterable[Rating], e_value: float) -> VoteCount:
    """Compare the shares of raters with a thumb down, one observation for each rater and release, in order of time.

    The n-th rater of the candidate is set against the n-th of the incumbent; pairs that agree say nothing, and were
    both shares equal, of the others either kind would be as likely.
    """
    first: dict[tuple[str, bool], bool] = {}
    for rating in ratings:
        first.setdefault((rating.rater, rating.of_candidate), rating.down)
    candidate = [down for (_, of_candidate), down in first.items() if of_candidate]
    incumbent = [down for (_, of_candidate), down in first.items() if not of_candidate]
    pairs = zip(candidate, incumbent, strict=False)
    return bet((theirs for ours, theirs in pairs if ours != theirs), e_value)


def signals(
    candidate: Traffic, incumbent: Traffic, ratings: VoteCount, restarts: Restarts, rules: CanarySettings
) -> tuple[Signal, ...]:
    """Every rule's answer."""
    return (
        errors_signal(candidate, incumbent, rules),
        *(answers_signal(kind, candidate, incumbent, rules) for kind in ("empty", "looping", "truncated")),
        ttft_signal(candidate, incumbent, rules),
        ratings_signal(ratings),
        restarts_signal(restarts, rules),
    )


def errors_signal(candidate: Traffic, incumbent: Traffic, rules: CanarySettings) -> Signal:
    """Whether more requests fail than with the incumbent."""
    ours, theirs = _share(candidate.errors, candidate.requests), _share(incumbent.errors, incumbent.requests)
    enough = candidate.requests >= rules.error_min_requests and candidate.errors >= rules.error_min_count
    bad = enough and _exceeds(ours, theirs, rules.error_ratio, rules.error_points)
    reason = (
        f"{candidate.errors} of {candidate.requests} requests failed ({ours:.1%}); with the incumbent "
        f"{incumbent.errors} of {incumbent.requests} ({theirs:.1%})"
    )
    return Signal("errors", bad, ours, theirs, reason)


def answers_signal(kind: str, candidate: Traffic, incumbent: Traffic, rules: CanarySettings) -> Signal:
    """Whether more answers are `empty`, `looping` or `truncated` than the incumbent's."""
    count, before = getattr(candidate, kind), getattr(incumbent, kind)
    ours, theirs = _share(count, candidate.answers), _share(before, incumbent.answers)
    enough = min(candidate.answers, incumbent.answers) >= rules.answer_min_requests and count >= rules.answer_min_count
    bad = enough and _exceeds(ours, theirs, rules.answer_ratio, rules.answer_points)
    reason = (
        f"{count} of {candidate.answers} answers are {kind} ({ours:.1%}); of the incumbent "
        f"{before} of {incumbent.answers} ({theirs:.1%})"
    )
    return Signal(kind, bad, ours, theirs, reason)


def ttft_signal(candidate: Traffic, incumbent: Traffic, rules: CanarySettings) -> Signal:
    """Whether first tokens come later than the incumbent's, in both halves of the span."""
    halves = list(zip(candidate.first_chunks, incumbent.first_chunks, strict=True))
    enough = all(min(len(ours), len(theirs)) >= rules.ttft_min_requests for ours, theirs in halves)
    pairs = [(p95(ours), p95(theirs)) for ours, theirs in halves]
    bad = enough and all(
        _exceeds(ours or 0.0, theirs or 0.0, rules.ttft_ratio, rules.ttft_min_difference) for ours, theirs in pairs
    )
    ours, theirs = pairs[-1]
    reason = (
        f"95 % of first tokens within {_seconds(ours)}, with the incumbent {_seconds(theirs)}"
        if enough
        else "too few timed requests"
    )
    return Signal("ttft", bad, ours, theirs, reason)


def ratings_signal(ratings: VoteCount) -> Signal:
    """Whether more raters give a thumb down."""
    reason = (
        f"of {ratings.votes} pairs of raters that differ, the candidate's was the dissatisfied one in "
        f"{ratings.votes - ratings.wins} (e-value {ratings.e_value:.3g})"
    )
    return Signal("down_votes", ratings.verdict == "worse", float(ratings.votes - ratings.wins), ratings.wins, reason)


def restarts_signal(restarts: Restarts, rules: CanarySettings) -> Signal:
    """Whether engines die of the candidate: those that hold it do so, and more often than the others."""
    ours, theirs = restarts.with_candidate, restarts.without
    bad = ours >= rules.engine_restarts and ours > theirs
    reason = f"engines with the candidate were started again {ours} times, the others {theirs} times"
    return Signal("restarts", bad, ours, theirs, reason)


def p95(seconds: Sequence[float]) -> float | None:
    """The 95th percentile, by nearest rank."""
    return sorted(seconds)[math.ceil(0.95 * len(seconds)) - 1] if seconds else None


def _exceeds(ours: float, theirs: float, ratio: float, difference: float) -> bool:
    return ours > ratio * theirs and ours - theirs > difference


def _share(count: int, of: int) -> float:
    return count / of if of else 0.0


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"
