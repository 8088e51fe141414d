"""95 % intervals by the cluster bootstrap: prompts are drawn anew, with all that was measured on them. Pure."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gateway.contracts.release import Interval

RESAMPLES = 2000
_LEVEL = 0.95
_DRAWN_AT_A_TIME = 1 << 22
Values = Sequence[float] | NDArray[np.float64]
Labels = Sequence[str] | NDArray[np.int64]


def mean_interval(values: Values, clusters: Labels, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """The mean of `values` with its percentile interval (Efron 1979), clusters resampled with replacement.

    values    at least one; for a paired comparison give the differences, one per pair.
    clusters  the prompt of each value: answers to one prompt are alike, so they are drawn together or not at all.
    """
    return ratio_interval(values, [1.0] * len(values), clusters, seed, resamples)


def ratio_interval(
    sums: Values, counts: Values, clusters: Labels, seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """The sum of `sums` over the sum of `counts`, with its interval: a mean per token, say, from sums per pair."""
    labels, members = np.unique(np.asarray(clusters), return_inverse=True)
    above, below = (
        np.bincount(members, weights=np.asarray(side, dtype=np.float64), minlength=len(labels))
        for side in (sums, counts)
    )
    generator, ratios = np.random.default_rng(seed), np.empty(resamples)
    rows = max(1, _DRAWN_AT_A_TIME // len(labels))
    for start in range(0, resamples, rows):
        part = ratios[start : start + rows]
        drawn = generator.integers(0, len(labels), size=(len(part), len(labels)))
        part[:] = above[drawn].sum(axis=1) / below[drawn].sum(axis=1)
    low, high = np.quantile(ratios, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Interval(value=float(above.sum() / below.sum()), low=float(low), high=float(high))
