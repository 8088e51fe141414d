"""Signs that somebody steers the votes: phrases, bursts, and clusters that one rater made. Pure.

Phrases: log-odds of each word and pair of words in chosen against rejected texts, with the two together as informative
Dirichlet prior (Monroe, Colaresi and Quinn 2008, eq. 16 and 22); a |z| above `Z_ALARM` is no accident.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from math import log, sqrt

from gateway.datasets.shingles import tokens

Z_ALARM = 6.0
PHRASES_TOLD = 10
PRIOR_SCALE = 0.1
"""The prior weighs a tenth of what was said."""
LEAST_PAIRS = 8
"""A phrase in fewer pairs than this raises no alarm, whatever its z."""
BURST_PER_HOUR = 60
ONE_RATER_CLUSTERS = 0.5


def phrases(texts: Iterable[tuple[str, str]]) -> list[dict[str, float | int | str]]:
    """The words and pairs of words that mark the chosen, or the rejected, side; the strongest first.

    texts   chosen and rejected. A phrase counts once a text, so that a long answer is not many.
    """
    chosen: Counter[str] = Counter()
    rejected: Counter[str] = Counter()
    for one, other in texts:
        mine, theirs = _grams(one), _grams(other)
        chosen.update(mine - theirs)  # what both sides say tells nothing
        rejected.update(theirs - mine)
    alarms: list[dict[str, float | int | str]] = []
    for phrase, z in log_odds(chosen, rejected).items():
        if abs(z) > Z_ALARM and chosen[phrase] + rejected[phrase] >= LEAST_PAIRS:
            counts = {"chosen": chosen[phrase], "rejected": rejected[phrase]}
            alarms.append({"phrase": phrase, "z": round(z, 2), **counts})
    return sorted(alarms, key=lambda alarm: -abs(float(alarm["z"])))[:PHRASES_TOLD]


def log_odds(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, float]:
    """By word, the z-score of its log-odds in `one` against `other`; above 0 where `one` has more of it."""
    total_one, total_other = sum(one.values()), sum(other.values())
    prior_total = PRIOR_SCALE * (total_one + total_other)
    scores = {}
    for word in one.keys() | other.keys():
        count, against = one.get(word, 0), other.get(word, 0)
        prior = PRIOR_SCALE * (count + against)
        a, b = count + prior, against + prior
        delta = log(a / (total_one + prior_total - a)) - log(b / (total_other + prior_total - b))
        scores[word] = delta / sqrt(1 / a + 1 / b)
    return scores


def bursts(votes: Iterable[tuple[str, float]], most: int = BURST_PER_HOUR) -> dict[str, int]:
    """By rater, the most votes within an hour of the clock, where that is more than `most`. Times in unix seconds."""
    hours: Counter[tuple[str, int]] = Counter((rater, int(at // 3600)) for rater, at in votes)
    worst: dict[str, int] = {}
    for (rater, _), count in hours.items():
        if count > most:
            worst[rater] = max(worst.get(rater, 0), count)
    return dict(sorted(worst.items()))


def one_rater_clusters(pairs: Sequence[tuple[str, str]]) -> dict[str, int]:
    """By rater, in how many clusters of three pairs and more nobody else voted. Pairs: cluster and rater."""
    raters: dict[str, list[str]] = defaultdict(list)
    for cluster, rater in pairs:
        raters[cluster].append(rater)
    alone = Counter(votes[0] for votes in raters.values() if len(votes) >= 3 and len(set(votes)) == 1)
    return dict(sorted(alone.items()))


def _grams(text: str) -> set[str]:
    words = tokens(text)
    return {*words, *(f"{a} {b}" for a, b in pairwise(words))}
