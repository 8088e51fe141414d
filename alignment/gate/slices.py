"""Held-out pairs by where they come from, who judged and how long they are: does the candidate lose on some? Pure.

Of many slices one is low by chance. So how surprising the lowest is, is asked of all slices together: candidate and
rival change places at random, prompt by prompt, and the lowest standardised sum of each such world is what a slice is
held to (the single-step min-T of Westfall and Young 1993, which keeps 5 % for all slices however they overlap).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from alignment.gate.items import PairItem

LEAST_SLICE_PAIRS = 50
"""A smaller slice says too little to be looked at."""
_TINY = 1e-9

Flags = NDArray[np.bool_]


def slices_of(pairs: Sequence[PairItem]) -> dict[str, Flags]:
    """Which pairs are in which slice, by its name. A slice of all pairs, or of too few, is none."""
    found: dict[str, list[str | None]] = {}
    for kind in dict.fromkeys(kind for pair in pairs for kind in pair.kinds):
        found[kind] = [pair.kinds.get(kind) for pair in pairs]
    found["length"] = [f"quartile {number}" for number in _quartiles([pair.tokens for pair in pairs])]
    slices = {
        f"{kind} {name}": np.array([label == name for label in labels])
        for kind, labels in found.items()
        for name in sorted({label for label in labels if label is not None})
    }
    return {name: among for name, among in slices.items() if LEAST_SLICE_PAIRS <= among.sum() < len(pairs)}


def chances(
    gains: NDArray[np.float64], labels: NDArray[np.int64], slices: Mapping[str, Flags], worlds: int
) -> list[float]:
    """For each slice, in how many of so many worlds without a difference the lowest of all slices is as low.

    gains   of each pair, candidate minus rival.
    labels  the prompt of each pair, 0 to the number of prompts less one: its pairs change places together.
    """
    if not slices:
        return []
    sums = np.stack([np.bincount(labels, weights=gains * among) for among in slices.values()], axis=1)  # (prompts, k)
    scale = np.sqrt((sums**2).sum(axis=0))
    scale[scale == 0] = 1.0
    seen = sums.sum(axis=0) / scale
    signs = np.random.default_rng(0).integers(0, 2, size=(worlds, len(sums))) * 2.0 - 1
    lowest = (signs @ sums / scale).min(axis=1)
    return [float((1 + (lowest <= one + _TINY).sum()) / (1 + worlds)) for one in seen]


def _quartiles(values: Sequence[int]) -> list[int]:
    """1 to 4: in which quarter of all values each lies; equal values lie in the same."""
    bounds = np.quantile(values, [0.25, 0.5, 0.75])
    return [int(number) + 1 for number in np.searchsorted(bounds, values, side="left")]
