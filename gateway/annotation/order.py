"""Which task comes first, what is asked in it, and which votes contradict each other. Pure."""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Literal

from gateway.annotation.items import BOTH_BAD, DISCARD, FIRST, SECOND, SKIP, TIE, UNCLEAR

Asks = Literal["verdict", "correction", "adjudication"]

COMPARISON, CONTESTED, BAD, REVIEW, ALARM, AUDIT = "comparison", "contested", "both_bad", "review", "alarm", "audit"
GOLD, REPEAT = "gold", "repeat"

TIERS = {GOLD: -1, REPEAT: -1, CONTESTED: 0, BAD: 2, REVIEW: 3, ALARM: 4, COMPARISON: 5, AUDIT: 6}
"""Lower comes first."""
MARGIN_TIER = 1
"""Where a task goes whose model margin speaks against the people's label; the surest model first."""
HELD_FOR = {"review": REVIEW, "alarm": ALARM}
"""Reasons for which a pair is held until somebody has looked at it."""

SETTLED_NET, SETTLED_SHARE = 2, 2 / 3
"""Votes both ways are settled by a lead of two votes, or by two thirds."""


def asks(purpose: str) -> Asks:
    """What the annotator is to do."""
    if purpose in (CONTESTED, REVIEW, ALARM):
        return "adjudication"
    return "correction" if purpose == BAD else "verdict"


def allowed_verdicts(purpose: str) -> tuple[str, ...]:
    """The verdicts that answer what is asked."""
    if asks(purpose) == "adjudication":
        return ("left", "right", DISCARD, UNCLEAR, SKIP)
    return ("left", "right", TIE, BOTH_BAD, SKIP)


def contested(verdicts: Iterable[str]) -> bool:
    """Whether some prefer one side, some the other, and neither leads clearly."""
    counts = Counter(verdicts)
    first, second = counts[FIRST], counts[SECOND]
    if not first or not second:
        return False
    lead = max(first, second)
    return abs(first - second) < SETTLED_NET and lead / (first + second) < SETTLED_SHARE


def entropy(verdicts: Iterable[str]) -> float:
    """How far the verdicts differ, in bits: 0 if all are alike, 1 for one against one."""
    counts = Counter(verdicts)
    total = counts.total()
    return -sum(count / total * math.log2(count / total) for count in counts.values()) + 0.0
