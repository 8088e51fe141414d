"""Signs that somebody steers the votes: phrases, bursts, and clusters that one rater made. Pure.

Phrases: log-odds of each word and pair of words in chosen against rejected texts, with the two together as informative
Dirichlet prior (Monroe, Colaresi and Quinn 2008, eq. 16 and 22); a |z| above `Z_ALARM` is no accident.
"""

from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import log, sqrt

from gateway.datasets.shingles import tokens

Z_ALARM = 6.0
PHRASES_TOLD = 10
PRIOR_SCALE = 0.1
"""The prior weighs a tenth of what was said."""
LEAST_PAIRS = 8
"""A phrase in fewer pairs than this raises no alarm, whatever its z."""
SLOTS = 1 << 22
BURST_PER_HOUR = 60
ONE_RATER_CLUSTERS = 0.5


def phrases(texts: Sequence[tuple[str, str]]) -> list[dict[str, float | int | str]]:
    """The words and pairs of words that mark the chosen, or the rejected, side; the strongest first.

    texts   chosen and rejected. A phrase counts once a text, so that a long answer is not many.
    """
    often, totals = _seen_often(texts)
    chosen: Counter[str] = Counter()
    rejected: Counter[str] = Counter()
    for one, other in texts:
        mine, theirs = _apart(one, other)
        chosen.update(gram for gram in mine if often[hash(gram) & SLOTS - 1] >= LEAST_PAIRS)
        rejected.update(gram for gram in theirs if often[hash(gram) & SLOTS - 1] >= LEAST_PAIRS)
    alarms: list[dict[str, float | int | str]] = []
    for phrase, z in log_odds(chosen, rejected, totals).items():
        if abs(z) > Z_ALARM and chosen[phrase] + rejected[phrase] >= LEAST_PAIRS:
            counts = {"chosen": chosen[phrase], "rejected": rejected[phrase]}
            alarms.append({"phrase": phrase, "z": round(z, 2), **counts})
    return sorted(alarms, key=lambda alarm: -abs(float(alarm["z"])))[:PHRASES_TOLD]


def log_odds(
    one: Mapping[str, int], other: Mapping[str, int], totals: tuple[int, int] | None = None
) -> dict[str, float]:
    """By word, the z-score of its log-odds in `one` against `other`; above 0 where `one` has more of it.

    totals   of all words, where some are left out here
    """
    total_one, total_other = totals or (sum(one.values()), sum(other.values()))
    prior_total = PRIOR_SCALE * (total_one + total_other)
    scores = {}
    for word in one.keys() | other.keys():
        count, against = one.get(word, 0), other.get(word, 0)
        prior = PRIOR_SCALE * (count + against)
        a, b = count + prior, against + prior
        delta = log(a / (total_one + prior_total - a)) - log(b / (total_other + prior_total - b))
        scores[word] = delta / sqrt(1 / a + 1 / b)
    return scores


def bursts(pace: Mapping[tuple[str, int], int], most: int = BURST_PER_HOUR) -> dict[str, int]:
    """By rater, the most votes within two half hours in a row, where that is more than `most`.

    pace   votes by rater and number of the half hour
    """
    worst: dict[str, int] = {}
    for (rater, half), count in pace.items():
        hour = count + pace.get((rater, half + 1), 0)
        if hour > most:
            worst[rater] = max(worst.get(rater, 0), hour)
    return dict(sorted(worst.items()))


def one_rater_clusters(pairs: Sequence[tuple[str, str]]) -> dict[str, int]:
    """By rater, in how many clusters of three pairs and more nobody else voted. Pairs: cluster and rater."""
    raters: dict[str, list[str]] = defaultdict(list)
    for cluster, rater in pairs:
        raters[cluster].append(rater)
    alone = Counter(votes[0] for votes in raters.values() if len(votes) >= 3 and len(set(votes)) == 1)
    return dict(sorted(alone.items()))


def _seen_often(texts: Sequence[tuple[str, str]]) -> "tuple[array[int], tuple[int, int]]":
    """An upper bound of how often each phrase stands on one side alone, by its hash, and how many there are on either.

    Most pairs of words are met once: counting them by their hashes first takes 16 MiB, and not a gigabyte.
    """
    counts = array("i", bytes(4 * SLOTS))
    totals = [0, 0]
    for pair in texts:
        for side, grams in enumerate(_apart(*pair)):
            totals[side] += len(grams)
            for gram in grams:
                counts[hash(gram) & SLOTS - 1] += 1
    return counts, (totals[0], totals[1])


def _apart(one: str, other: str) -> tuple[set[str], set[str]]:
    """The phrases of either text that the other has not: what both say tells nothing."""
    mine, theirs = _grams(one), _grams(other)
    return mine - theirs, theirs - mine


def _grams(text: str) -> set[str]:
    words = tokens(text)
    return {*words, *(f"{a} {b}" for a, b in pairwise(words))}
