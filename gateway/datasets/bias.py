"""Do raters prefer what is long, what is marked up, or what stands on the left, rather than what is good? Pure."""

import re
from collections.abc import Mapping, Sequence
from math import comb
from statistics import median
from typing import NamedTuple

LENGTH_WARN, LENGTH_BLOCK = 0.60, 0.70
POSITION_VOTES, POSITION_P = 50, 0.001
_MARKDOWN = [
    re.compile(one) for one in (r"\n\s{0,3}(?:#{1,6} |[-*+] |\d+[.)] |>|```)", r"\*\*[^*\n]+\*\*", r"\|[^|\n]+\|")
]
"""The marks of a line after a line break, and those within one; each is searched for by its first character."""


class Texts(NamedTuple):
    """The two sides of a pair."""

    chosen: str
    rejected: str
    correction: bool


def length_report(pairs: Sequence[Texts]) -> dict[str, float | int | str]:
    """How often the longer side was chosen, and by how much it is longer; corrections are reported apart."""
    votes = [pair for pair in pairs if not pair.correction]
    report = _lengths(votes) | {"level": length_level(votes)}
    corrections = [pair for pair in pairs if pair.correction]
    return report | {f"corrections_{name}": value for name, value in _lengths(corrections).items()}


def length_level(votes: Sequence[Texts]) -> str:
    """`ok`, `warn` above 0.60, `block` above 0.70: training by itself waits for a person then."""
    share = _longer_share(votes)
    if share is None or len(votes) < 20:
        return "ok"
    return "block" if share > LENGTH_BLOCK else "warn" if share > LENGTH_WARN else "ok"


def style_report(pairs: Sequence[Texts]) -> dict[str, float | int]:
    """The share of chosen and of rejected sides with marks of Markdown."""
    if not pairs:
        return {"pairs": 0}
    chosen, rejected = (
        sum(map(_is_marked, sides)) / len(pairs)
        for sides in ([one.chosen for one in pairs], [one.rejected for one in pairs])
    )
    return {"pairs": len(pairs), "chosen_marked": round(chosen, 4), "rejected_marked": round(rejected, 4)}


def _is_marked(text: str) -> bool:
    """Whether it has marks of Markdown."""
    lines = "\n" + text
    return any(mark.search(lines) for mark in _MARKDOWN)


def position_report(shown: Mapping[str, tuple[int, int]]) -> dict[str, dict[str, float | int | bool]]:
    """By rater with enough votes: the share of choices that stood first (on the left), and whether that is no accident.

    shown   by rater: choices that stood first, and votes whose order is known
    """
    report: dict[str, dict[str, float | int | bool]] = {}
    for rater, (left, votes) in sorted(shown.items()):
        if votes >= POSITION_VOTES:
            p = binomial_p(left, votes)
            report[rater] = {
                "votes": votes,
                "left_share": round(left / votes, 4),
                "p": p,
                "flagged": p < POSITION_P,
            }
    return report


def binomial_p(successes: int, trials: int) -> float:
    """Of a fair coin: the probability of a count at least this far from the middle (exact, two-sided)."""
    far = abs(successes - trials / 2)
    outcomes = sum(comb(trials, k) for k in range(trials + 1) if abs(k - trials / 2) >= far)
    return float(min(1.0, outcomes / 2**trials))


def length_weights(pairs: Mapping[str, Texts], target: float = LENGTH_WARN) -> dict[str, float]:
    """Factors that bring the weighted share of chosen-is-longer among votes down to `target`; 1 where it is there."""
    votes = {name: pair for name, pair in pairs.items() if not pair.correction}
    share = _longer_share(list(votes.values()))
    if share is None or share <= target or share == 1.0:
        return dict.fromkeys(pairs, 1.0)
    factor = target / (1 - target) * (1 - share) / share
    return {name: factor if name in votes and _is_longer(pair) else 1.0 for name, pair in pairs.items()}


def _lengths(pairs: Sequence[Texts]) -> dict[str, float | int | str]:
    report: dict[str, float | int | str] = {"pairs": len(pairs)}
    if (share := _longer_share(pairs)) is not None:
        report["chosen_longer"] = round(share, 4)
        report["median_ratio"] = round(median(len(one.chosen) / max(1, len(one.rejected)) for one in pairs), 4)
    return report


def _longer_share(pairs: Sequence[Texts]) -> float | None:
    """Of the pairs whose sides differ in length."""
    unequal = [pair for pair in pairs if len(pair.chosen) != len(pair.rejected)]
    return sum(_is_longer(pair) for pair in unequal) / len(unequal) if unequal else None


def _is_longer(pair: Texts) -> bool:
    return len(pair.chosen) > len(pair.rejected)
