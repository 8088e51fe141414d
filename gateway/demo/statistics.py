"""The figures of the report, from plain numbers: a paired interval, and the controls. Standard library only."""

import random
import statistics
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

CONFIDENCE = 0.95
RESAMPLES = 10_000

MIN_DISTINCT_SHARE = 0.90
MIN_MEDIAN_WORDS = 8
MAX_PERPLEXITY_RISE = 0.05


class Difference(BaseModel):
    """After minus before, in points of 100, with its 95 % interval."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    points: float
    low: float
    high: float


class Control(BaseModel):
    """Something that must not suffer for the style. `value` is absent where it was not measured; that does not hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    value: float | None
    limit: float
    holds: bool


def share(outcomes: Sequence[bool]) -> float:
    """The share of true outcomes, 0 to 1; 0 of none."""
    return sum(outcomes) / len(outcomes) if outcomes else 0.0


def paired_difference(before: Sequence[bool], after: Sequence[bool], seed: int = 0) -> Difference:
    """Difference of two shares over the same prompts, with a percentile bootstrap over prompts.

    Resampling pairs that all changed alike shows no spread at all; the interval is then the exact one-sided bound on
    how many prompts might change otherwise and never have been drawn.
    """
    if not before or len(before) != len(after):
        raise ValueError("a paired difference needs the same prompts before and after, one at least")
    changes = [int(b) - int(a) for a, b in zip(before, after, strict=True)]
    mean = sum(changes) / len(changes)
    low, high = _alike_bounds(mean, len(changes)) if len(set(changes)) == 1 else _bootstrap_bounds(changes, seed)
    return Difference(points=100 * mean, low=100 * low, high=100 * high)


def _bootstrap_bounds(changes: list[int], seed: int) -> tuple[float, float]:
    generator = random.Random(seed)
    size = len(changes)
    means = sorted(sum(generator.choices(changes, k=size)) / size for _ in range(RESAMPLES))
    tail = round(RESAMPLES * (1 - CONFIDENCE) / 2)
    return means[tail], means[RESAMPLES - 1 - tail]


def _alike_bounds(change: float, size: int) -> tuple[float, float]:
    """All `size` changes equal `change`. A share of others above `unseen` would have shown up, 39 times in 40."""
    unseen = 1.0 - ((1 - CONFIDENCE) / 2) ** (1 / size)
    return change - (change + 1) * unseen, change + (1 - change) * unseen


def median_words(lengths: Sequence[int]) -> float:
    """The median number of words; 0 of none."""
    return float(statistics.median(lengths)) if lengths else 0.0


def distinct_share(texts: Sequence[str]) -> float:
    """How many different answers there are, per answer; 0 of none."""
    return len({text.strip() for text in texts}) / len(texts) if texts else 0.0


def answer_controls(texts: Sequence[str], lengths: Sequence[int]) -> list[Control]:
    """The answers after the swap: none empty, nearly all different, not clipped to a few words."""
    empty = sum(not text.strip() for text in texts)
    distinct, median = distinct_share(texts), median_words(lengths)
    return [
        Control(name="empty answers", value=empty, limit=0, holds=empty == 0),
        Control(name="distinct share", value=distinct, limit=MIN_DISTINCT_SHARE, holds=distinct >= MIN_DISTINCT_SHARE),
        Control(name="median words", value=median, limit=MIN_MEDIAN_WORDS, holds=median >= MIN_MEDIAN_WORDS),
    ]


def perplexity_control(before: float | None, after: float | None) -> Control:
    """The relative rise of the perplexity on a fixed text."""
    rise = after / before - 1 if before and after else None
    holds = rise is not None and rise <= MAX_PERPLEXITY_RISE
    return Control(name="perplexity rise", value=rise, limit=MAX_PERPLEXITY_RISE, holds=holds)
