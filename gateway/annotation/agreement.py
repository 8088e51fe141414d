"""How far people agree: raw agreement, Krippendorff's alpha, Cohen's and Fleiss' kappa, each with an interval. Pure.

An item is what several raters judged; its votes are the categories they chose, in any order but for Cohen's kappa,
where they are those of two raters in theirs. All statistics depend on how often each set of votes occurs, so a
bootstrap draws items by their votes. Formulas: Krippendorff, Computing Krippendorff's Alpha-Reliability (2011),
nominal data; Cohen (1960); Fleiss (1971).
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

Votes = tuple[str, ...]
Statistic = Callable[[Counter[Votes]], float | None]
Ballots = Mapping[str, Mapping[str, str]]
"""Item -> rater -> category."""
RESAMPLES = 1000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A statistic and its percentile interval."""

    value: float
    low: float
    high: float
    items: int
    """Items that went into it."""


def estimate(statistic: Statistic, items: Iterable[Votes], *, seed: int, resamples: int = RESAMPLES) -> Estimate | None:
    """The statistic over items with a 95 % bootstrap interval over items; None where it is undefined.

    Resamples in which it is undefined (all votes alike) are left out.
    """
    counted = Counter(items)
    value = statistic(counted)
    if value is None:
        return None
    draw, patterns, total = random.Random(seed), sorted(counted), counted.total()
    weights = [counted[pattern] for pattern in patterns]
    drawn = [statistic(Counter(draw.choices(patterns, weights, k=total))) for _ in range(resamples)]
    found = sorted(one for one in drawn if one is not None) or [value]
    tail = (1 - CONFIDENCE) / 2 * (len(found) - 1)
    return Estimate(value, found[round(tail)], found[round(len(found) - 1 - tail)], total)


def raw_agreement(items: Counter[Votes]) -> float | None:
    """The share of pairs of votes that agree, a mean over items with two votes or more."""
    shares = [(_agreeing(votes), times) for votes, times in items.items() if len(votes) > 1]
    total = sum(times for _, times in shares)
    return sum(share * times for share, times in shares) / total if total else None


def krippendorff_alpha(items: Counter[Votes]) -> float | None:
    """Nominal alpha over any number of raters with votes missing; None if all votes are alike or none has a partner."""
    totals: Counter[str] = Counter()
    observed = 0.0
    for votes, times in items.items():
        if len(votes) < 2:
            continue
        observed += times * len(votes) * (1 - _agreeing(votes))
        for category in votes:
            totals[category] += times
    n = totals.total()
    expected = (n * n - sum(count * count for count in totals.values())) / (n - 1) if n else 0.0
    return 1 - observed / expected if expected else None


def cohen_kappa(items: Counter[Votes]) -> float | None:
    """Kappa of two raters; each item holds the vote of the first and that of the second."""
    n = items.total()
    if not n:
        return None
    first: Counter[str] = Counter()
    second: Counter[str] = Counter()
    for (one, other), times in items.items():
        first[one] += times
        second[other] += times
    agreed = sum(times for (one, other), times in items.items() if one == other) / n
    return _beyond_chance(agreed, sum(first[category] * second[category] for category in first) / (n * n))


def fleiss_kappa(items: Counter[Votes]) -> float | None:
    """Kappa of many raters; None unless each item has the same number of votes, two or more."""
    sizes = {len(votes) for votes in items}
    if len(sizes) != 1 or min(sizes) < 2:
        return None
    totals: Counter[str] = Counter()
    for votes, times in items.items():
        for category in votes:
            totals[category] += times
    agreed = raw_agreement(items)
    chance = sum(count * count for count in totals.values()) / totals.total() ** 2
    return None if agreed is None else _beyond_chance(agreed, chance)


def votes_of(ballots: Ballots) -> list[Votes]:
    """The votes of each item with two raters or more, in an order that does not tell who gave them."""
    return [tuple(sorted(votes.values())) for votes in ballots.values() if len(votes) > 1]


def common_votes(ballots: Ballots, at_least: int) -> dict[tuple[str, str], list[Votes]]:
    """For each two raters with `at_least` items in common: their votes on these, item by item."""
    common: dict[tuple[str, str], list[Votes]] = {}
    for votes in ballots.values():
        for one, other in combinations(sorted(votes), 2):
            common.setdefault((one, other), []).append((votes[one], votes[other]))
    return {raters: votes for raters, votes in sorted(common.items()) if len(votes) >= at_least}


def _agreeing(votes: Votes) -> float:
    """The share of pairs of these votes that agree."""
    size = len(votes)
    return sum(count * (count - 1) for count in Counter(votes).values()) / (size * (size - 1))


def _beyond_chance(agreed: float, chance: float) -> float | None:
    return (agreed - chance) / (1 - chance) if chance < 1 else None
