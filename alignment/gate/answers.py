"""What answers look like from outside: empty, cut off, going round in circles. Pure; knows no model and no language."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

GRAM_TOKENS = 4
"""Repetition is counted in runs of so many tokens."""
LOOP_TIMES = 4
"""An answer in which one run occurs so often is going round in circles."""


class Answer(NamedTuple):
    """What a model wrote for one prompt."""

    text: str
    tokens: tuple[int, ...]
    """Without the end token."""
    ended: bool
    """It wrote an end token itself; it was not cut off."""


def is_empty(answer: Answer) -> float:
    """1 if nothing can be seen of it, else 0."""
    return float(not answer.text.strip())


def has_ended(answer: Answer) -> float:
    """1 if it ended by itself, else 0."""
    return float(answer.ended)


def length_tokens(answer: Answer) -> float:
    """How many tokens it has, the end token not counted."""
    return float(len(answer.tokens))


def repetition(answer: Answer) -> float:
    """The share of its 4-token runs that stood in it before; 0 if it is too short to have any."""
    counts = _grams(answer)
    return 1 - len(counts) / counts.total() if counts else 0.0


def is_looping(answer: Answer) -> float:
    """1 if some 4-token run occurs four times or more, else 0."""
    return float(max(_grams(answer).values(), default=0) >= LOOP_TIMES)


def distinct_share(answers: Sequence[Answer]) -> float:
    """How many different answers there are, as a share of all: 1 if no two prompts got the same."""
    return len({answer.text.strip() for answer in answers}) / len(answers)


FIGURES: dict[str, Callable[[Answer], float]] = {
    "generation_empty_share": is_empty,
    "generation_ended_share": has_ended,
    "generation_mean_tokens": length_tokens,
    "generation_repetition": repetition,
    "generation_looping_share": is_looping,
}
"""The figures of one answer, by the name of their mean over all answers."""


def _grams(answer: Answer) -> Counter[tuple[int, ...]]:
    starts = range(len(answer.tokens) - GRAM_TOKENS + 1)
    return Counter(answer.tokens[start : start + GRAM_TOKENS] for start in starts)
