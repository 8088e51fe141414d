"""Slices of held-out pairs: which there are, and how often chance alone makes one as low, counted by hand."""

import numpy as np
import pytest

from alignment.gate.items import PairItem
from alignment.gate.slices import chances, slices_of

WORLDS = 4000


def pair(number: int, **kinds: str) -> PairItem:
    return PairItem(id=str(number), prompt=str(number), tokens=number, is_matched=False, kinds=kinds, scores={})


def test_slices_are_those_that_say_something_of_a_part() -> None:
    pairs = [pair(n, source="votes", rater="end_user" if n < 151 else "annotator") for n in range(200)]
    found = {name: int(among.sum()) for name, among in slices_of(pairs).items()}
    # All are of one source; 49 annotated pairs are too few; 0 to 199 tokens fall into four equal quarters.
    assert found == {"rater end_user": 151} | {f"length quartile {number}": 50 for number in (1, 2, 3, 4)}
    assert not slices_of([pair(n) for n in range(199)])["length quartile 1"][50:].any()
    assert slices_of([pair(7)] * 120) == {}  # of one length: the quarter is the whole


@pytest.mark.parametrize(
    ("gains", "labels", "slices", "expected"),
    [
        # Both prompts of the slice fell: they fall alike in one of four worlds.
        ([-1, -1, 0, 0], [0, 1, 2, 3], [[1, 1, 0, 0]], [1 / 4]),
        # Either of two such slices does in 1 - (3/4)^2 of them, and that is what both are held to.
        ([-1, -1, -1, -1], [0, 1, 2, 3], [[1, 1, 0, 0], [0, 0, 1, 1]], [7 / 16, 7 / 16]),
        # Pairs about one prompt change places together: one coin, not two.
        ([-1, -1, 0, 0], [0, 0, 1, 2], [[1, 1, 0, 0]], [1 / 2]),
        # Nothing is lower than a slice that gained, and nothing is surprising about one without a difference.
        ([1, 1, 0, 0], [0, 1, 2, 3], [[1, 1, 0, 0]], [1.0]),
        ([0, 0, 0, 0], [0, 1, 2, 3], [[1, 1, 0, 0]], [1.0]),
    ],
)
def test_chance_is_asked_of_all_slices_together(
    gains: list[float], labels: list[int], slices: list[list[int]], expected: list[float]
) -> None:
    among = {str(number): np.array(one, dtype=bool) for number, one in enumerate(slices)}
    found = chances(np.array(gains, dtype=float), np.array(labels), among, WORLDS)
    assert found == pytest.approx(expected, abs=0.03)
