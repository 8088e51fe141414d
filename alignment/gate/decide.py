"""May a candidate serve? Pure rules over what was measured; each answers with its figure, its limit and a reason."""

from dataclasses import dataclass
from typing import Literal

from gateway.contracts.release import GateResult, Interval

Verdict = Literal["pass", "warn", "block"]

PREFERENCE_GATE = "holdout_preference"
PERPLEXITY_GATE = "perplexity"

LEAST_ACCURACY = 0.5
LARGEST_DROP = 0.05
TOLERATED_LOW = -0.02
ENOUGH_PAIRS = 200
PERPLEXITY_BLOCK_SHARE = 0.05
PERPLEXITY_WARN_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the gates look at."""

    holdout_pairs: int
    accuracy: Interval | None
    """Share of held-out pairs in which the candidate prefers the chosen side; None if nothing was held out."""
    accuracy_difference: Interval | None
    """Candidate minus incumbent on the same pairs, as a share (0.01 is one point)."""
    perplexity: float
    """Of the candidate on the fixed texts."""
    base_perplexity: float


@dataclass(frozen=True, slots=True)
class _Finding:
    verdict: Verdict
    value: float
    limit: float
    reason: str


def decide(evidence: Evidence) -> tuple[GateResult, ...]:
    """The verdict of every gate, worst finding first within each."""
    return (_preference_gate(evidence), _perplexity_gate(evidence))


def _preference_gate(evidence: Evidence) -> GateResult:
    accuracy, difference = evidence.accuracy, evidence.accuracy_difference
    if accuracy is None or difference is None:
        return _result(PREFERENCE_GATE, [_Finding("warn", 0.0, ENOUGH_PAIRS, "no pair was held out to measure on")])
    findings = [*_preference_blocks(accuracy, difference), *_preference_warnings(evidence.holdout_pairs, difference)]
    good = _Finding(
        "pass", difference.value, 0.0, f"{_points(difference.value)} against the incumbent, {_between(difference)}"
    )
    return _result(PREFERENCE_GATE, findings or [good])


def _preference_blocks(accuracy: Interval, difference: Interval) -> list[_Finding]:
    findings = []
    if difference.high < 0:
        reason = f"surely worse than the incumbent: {_points(difference.value)}, {_between(difference)}"
        findings.append(_Finding("block", difference.high, 0.0, reason))
    if accuracy.value < LEAST_ACCURACY:
        reason = f"prefers the rejected side more often than not: accuracy {accuracy.value:.3f}"
        findings.append(_Finding("block", accuracy.value, LEAST_ACCURACY, reason))
    if difference.value < -LARGEST_DROP:
        reason = f"accuracy fell by more than {100 * LARGEST_DROP:g} points: {_points(difference.value)}"
        findings.append(_Finding("block", difference.value, -LARGEST_DROP, reason))
    return findings


def _preference_warnings(pairs: int, difference: Interval) -> list[_Finding]:
    findings = []
    if difference.low < TOLERATED_LOW:
        reason = f"may be worse than the incumbent by more than {-100 * TOLERATED_LOW:g} points: {_between(difference)}"
        findings.append(_Finding("warn", difference.low, TOLERATED_LOW, reason))
    if difference.value <= 0:
        reason = f"no gain over the incumbent: {_points(difference.value)}"
        findings.append(_Finding("warn", difference.value, 0.0, reason))
    if pairs < ENOUGH_PAIRS:
        reason = f"measured on {pairs} pairs only, fewer than {ENOUGH_PAIRS}"
        findings.append(_Finding("warn", float(pairs), float(ENOUGH_PAIRS), reason))
    return findings


def _perplexity_gate(evidence: Evidence) -> GateResult:
    rise = evidence.perplexity / evidence.base_perplexity - 1
    figures = f"{100 * rise:+.2f} % against the base ({evidence.perplexity:.2f} against {evidence.base_perplexity:.2f})"
    # Not `rise > limit`: a perplexity that is not a number must block.
    if not rise <= PERPLEXITY_BLOCK_SHARE:
        finding = _Finding("block", rise, PERPLEXITY_BLOCK_SHARE, f"general text got much less likely: {figures}")
    elif rise > PERPLEXITY_WARN_SHARE:
        finding = _Finding("warn", rise, PERPLEXITY_WARN_SHARE, f"general text got less likely: {figures}")
    else:
        finding = _Finding("pass", rise, PERPLEXITY_BLOCK_SHARE, f"general text is as likely as before: {figures}")
    return _result(PERPLEXITY_GATE, [finding])


def _result(gate: str, findings: list[_Finding]) -> GateResult:
    """One verdict from findings in order of weight: the first one's figure, everybody's reasons."""
    first = findings[0]
    reasons = "; ".join(finding.reason for finding in findings)
    return GateResult(gate=gate, verdict=first.verdict, value=first.value, limit=first.limit, reason=reasons)


def _points(share: float) -> str:
    return f"{100 * share:+.1f} points"


def _between(interval: Interval) -> str:
    return f"95 % between {100 * interval.low:+.1f} and {100 * interval.high:+.1f}"
