"""One thing a rule has to say, and how several become the verdict of a gate."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gateway.contracts.release import GateResult, Interval

Verdict = Literal["pass", "warn", "block"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A figure, the limit it was held to, and what that means."""

    verdict: Verdict
    value: float
    limit: float
    reason: str


def result(
    gate: str, findings: Sequence[Finding], interval: Interval | None = None, n: int | None = None
) -> GateResult:
    """One verdict from findings in order of weight: the first one's figure, everybody's reasons."""
    first = findings[0]
    return GateResult(
        gate=gate,
        verdict=first.verdict,
        value=first.value,
        limit=first.limit,
        reason="; ".join(finding.reason for finding in findings),
        low=None if interval is None else interval.low,
        high=None if interval is None else interval.high,
        n=n,
    )


def points(share: float) -> str:
    """A difference of shares."""
    return f"{100 * share:+.1f} points"


def between(interval: Interval) -> str:
    """The interval of a difference of shares."""
    return f"95 % between {100 * interval.low:+.1f} and {100 * interval.high:+.1f}"
