"""95 % intervals by the cluster bootstrap: prompts are drawn anew, with all that was measured on them. Pure."""

from collections.abc import Sequence

import numpy as np

from gateway.contracts.release import Interval

RESAMPLES = 2000
_LEVEL = 0.95


def mean_interval(values: Sequence[float], clusters: Sequence[str], seed: int = 0) -> Interval:
    """The mean of `values` with its percentile interval (Efron 1979), clusters resampled with replacement.

    values    at least one; for a paired comparison give the differences, one per pair.
    clusters  the prompt of each value: answers to one prompt are alike, so they are drawn together or not at all.
    """
    labels, members = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(members, weights=np.asarray(values, dtype=np.float64), minlength=len(labels))
    sizes = np.bincount(members, minlength=len(labels))
    drawn = np.random.default_rng(seed).integers(0, len(labels), size=(RESAMPLES, len(labels)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Interval(value=float(sums.sum() / sizes.sum()), low=float(low), high=float(high))
