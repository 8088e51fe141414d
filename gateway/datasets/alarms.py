"""Signs that somebody steers the votes: phrases, bursts, and clusters that one rater made. Pure.

Phrases: log-odds of each word and pair of words in chosen against rejected texts, with the two together as informative
Dirichlet prior (Monroe, Colaresi and Quinn 2008, eq. 16 and 22); a |z| above `Z_ALARM` is no accident.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from math import log, sqrt
from typing import Any

import numpy

from gateway.datasets.shingles import tokens

Z_ALARM = 6.0
PHRASES_TOLD = 10
PRIOR_SCALE = 0.1
"""The prior weighs a tenth of what was said."""
LEAST_PAIRS = 8
"""A phrase in fewer pairs than this raises no alarm, whatever its z."""
SLOTS = 1 << 22
WORD_BITS = 27
TEXTS_AT_ONCE = 500
"""Beside two words and the side, 9 bits are left for the number of a text."""
KEPT = 8_000_000
"""So many phrases are kept between counting and naming them, 64 MB; the others are looked for again."""
_ONE = numpy.int32(1)
_GOLDEN, _SHIFT = numpy.uint64(0x9E3779B97F4A7C15), numpy.uint64(64 - 22)
BURST_PER_HOUR = 60
ONE_RATER_CLUSTERS = 0.5


def phrases(texts: Sequence[tuple[str, str]]) -> list[dict[str, float | int | str]]:
    """The words and pairs of words that mark the chosen, or the rejected, side; the strongest first.

    texts   chosen and rejected. A phrase counts once a text, so that a long answer is not many.
    """
    words = _Numbers()
    often, totals, kept = _seen_often(texts, words)
    found = [Counter[int](), Counter[int]()]
    for sides in chain(kept, _apart(texts[len(kept) * TEXTS_AT_ONCE :], words)):
        for count, side in zip(found, sides, strict=True):
            numbers, counts = numpy.unique(side[often[_slots(side)] >= LEAST_PAIRS], return_counts=True)
            count.update(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
    said = list(words)
    chosen, rejected = ({_phrase(number, said): n for number, n in count.items()} for count in found)
    alarms: list[dict[str, float | int | str]] = []
    for phrase, z in log_odds(chosen, rejected, totals).items():
        counts_of = {"chosen": chosen.get(phrase, 0), "rejected": rejected.get(phrase, 0)}
        if abs(z) > Z_ALARM and sum(counts_of.values()) >= LEAST_PAIRS:
            alarms.append({"phrase": phrase, "z": round(z, 2), **counts_of})
    return sorted(alarms, key=lambda alarm: (-abs(float(alarm["z"])), alarm["phrase"]))[:PHRASES_TOLD]


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


def bursts(pace: Mapping[str, Iterable[int]], most: int = BURST_PER_HOUR) -> dict[str, int]:
    """By rater, the most votes within two half hours in a row, where that is more than `most`.

    pace   by rater, the number of the half hour of each vote
    """
    worst: dict[str, int] = {}
    for rater, halves in pace.items():
        votes = Counter(halves)
        hour = max(count + votes.get(half + 1, 0) for half, count in votes.items())
        if hour > most:
            worst[rater] = hour
    return dict(sorted(worst.items()))


def one_rater_clusters(pairs: Sequence[tuple[str, str]]) -> dict[str, int]:
    """By rater, in how many clusters of three pairs and more nobody else voted. Pairs: cluster and rater."""
    raters: dict[str, list[str]] = defaultdict(list)
    for cluster, rater in pairs:
        raters[cluster].append(rater)
    alone = Counter(votes[0] for votes in raters.values() if len(votes) >= 3 and len(set(votes)) == 1)
    return dict(sorted(alone.items()))


class _Numbers(dict[str, int]):
    """Words, numbered from 1 as they are met."""

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self) + 1
        return number


Sides = tuple[Any, Any]
"""The numbers of phrases that the chosen texts, and that the rejected texts, of some pairs have alone."""


def _seen_often(texts: Sequence[tuple[str, str]], words: _Numbers) -> tuple[Any, tuple[int, int], list[Sides]]:
    """An upper bound of how often each phrase stands on one side alone, by its slot; how many there are on either side;
    and the first of them.

    Most pairs of words are met once: counting them by their hashes first takes 16 MiB, and not a gigabyte.
    """
    often = numpy.zeros(SLOTS, numpy.int32)
    totals, kept = [0, 0], list[Sides]()
    for sides in _apart(texts, words):
        for place, side in enumerate(sides):
            totals[place] += len(side)
            numpy.add.at(often, _slots(side), _ONE)
        if sum(totals) <= KEPT:
            kept.append(sides)
    return often, (totals[0], totals[1]), kept


def _apart(texts: Sequence[tuple[str, str]], words: _Numbers) -> Iterator[Sides]:
    """The phrases of either text that the other has not, many pairs at a time: what both say tells nothing."""
    for begin in range(0, len(texts), TEXTS_AT_ONCE):
        sides = zip(*texts[begin : begin + TEXTS_AT_ONCE], strict=True)
        said = numpy.concatenate([_phrases(some, words) << 1 | place for place, some in enumerate(sides)])
        said.sort()
        said = said[_differs_from_next(said)]
        phrase = said >> 1
        differs = _differs_from_next(phrase)
        alone = differs & numpy.concatenate(([True], differs[:-1]))
        found = [(phrase & ((1 << 2 * WORD_BITS) - 1))[alone & (said & 1 == place)] for place in range(2)]
        yield found[0].astype(numpy.int64), found[1].astype(numpy.int64)


def _phrases(texts: Sequence[str], words: _Numbers) -> Any:
    """The phrases of each text, behind its number. A word is its own number; two in a row are that of the first,
    shifted, and that of the second."""
    said = [tokens(text) for text in texts]
    numbers = numpy.fromiter(map(words.__getitem__, chain.from_iterable(said)), numpy.uint64)
    text = numpy.repeat(numpy.arange(len(said), dtype=numpy.uint64) << 2 * WORD_BITS, list(map(len, said)))
    follows = text[1:] == text[:-1]
    pairs = (text[1:] | numbers[:-1] << WORD_BITS | numbers[1:])[follows]
    return numpy.concatenate((text | numbers, pairs))


def _differs_from_next(values: Any) -> Any:
    return numpy.concatenate((values[1:] != values[:-1], [True]))


def _phrase(number: int, said: Sequence[str]) -> str:
    first, second = number >> WORD_BITS, number & (1 << WORD_BITS) - 1
    return f"{said[first - 1]} {said[second - 1]}" if first else said[second - 1]


def _slots(side: Any) -> Any:
    """By multiplicative hashing (Knuth)."""
    return ((side.astype(numpy.uint64) * _GOLDEN) >> _SHIFT).astype(numpy.intp)
