"""One limit that a rule holds a figure to, and how several become the verdict of a gate."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from gateway.contracts.release import GateResult, Interval, Limit

Level = Literal["warn", "block"]


@dataclass(frozen=True, slots=True)
class Check:
    """A figure, the limit it is held to, and what it means to be on the wrong side of it."""

    name: str
    """Of the limit within its gate; the same for `warn` and `block` of one figure."""
    level: Level
    value: float
    limit: float
    side: Literal["above", "below"]
    """On which side of the limit it speaks."""
    reason: str
    interval: Interval | None = None
    """Of what is held to the limit, where it has one."""
    at_limit: bool = False
    """It speaks at the limit itself, too."""

    @property
    def crossed(self) -> bool:
        """Whether it speaks. A figure that is not a number is on the wrong side of every limit."""
        if self.value == self.limit:
            return self.at_limit
        return not (self.value < self.limit if self.side == "above" else self.value > self.limit)


class Good(NamedTuple):
    """What a gate says if no limit is crossed."""

    value: float
    limit: float
    reason: str


def result(
    gate: str, checks: Sequence[Check], good: Good, interval: Interval | None = None, n: int | None = None
) -> GateResult:
    """One verdict: the figure of the gravest crossed limit, the reasons of all."""
    told = _told(checks)
    first = told[0] if told else good
    return GateResult(
        gate=gate,
        verdict=told[0].level if told else "pass",
        value=_writable(first.value),
        limit=first.limit,
        reason="; ".join(check.reason for check in told) or good.reason,
        low=None if interval is None else interval.low,
        high=None if interval is None else interval.high,
        n=n,
        limits=tuple(_limit(check) for check in checks),
    )


def points(share: float) -> str:
    """A difference of shares."""
    return f"{round(100 * share, 1) + 0.0:+.1f} points"  # adding 0 takes the sign from -0


def between(interval: Interval) -> str:
    """The interval of a difference of shares."""
    return f"95 % between {100 * interval.low:+.1f} and {100 * interval.high:+.1f}"


def _told(checks: Sequence[Check]) -> list[Check]:
    """What was crossed, what blocks first; a warning says nothing more where the same figure blocks."""
    crossed = sorted((check for check in checks if check.crossed), key=lambda check: check.level == "warn")
    blocking = {check.name for check in crossed if check.level == "block"}
    return [check for check in crossed if check.level == "block" or check.name not in blocking]


def _limit(check: Check) -> Limit:
    return Limit(
        name=check.name,
        level=check.level,
        value=_writable(check.value),
        limit=check.limit,
        side=check.side,
        crossed=check.crossed,
        low=None if check.interval is None else check.interval.low,
        high=None if check.interval is None else check.interval.high,
    )


def _writable(value: float) -> float:
    """What is not a number, or infinite, as the largest there is: JSON knows neither."""
    return value if math.isfinite(value) else sys.float_info.max
