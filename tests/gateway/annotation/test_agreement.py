"""Agreement against published examples, against scikit-learn and statsmodels, and by hand."""

import random
from collections import Counter

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters
from statsmodels.stats.inter_rater import fleiss_kappa as statsmodels_fleiss

from gateway.annotation.agreement import (
    cohen_kappa,
    common_votes,
    estimate,
    fleiss_kappa,
    krippendorff_alpha,
    raw_agreement,
    votes_of,
)

KRIPPENDORFF_2011 = ("123321412...", "1233224125.3", ".3332342251.", "12332441251.")
"""Computing Krippendorff's Alpha-Reliability, section C: four observers, twelve units, `.` for a missing vote."""


def units(rows: tuple[str, ...]) -> Counter[tuple[str, ...]]:
    return Counter(tuple(sorted(vote for vote in unit if vote != ".")) for unit in zip(*rows, strict=True))


def test_alpha_is_that_of_krippendorffs_example_with_missing_votes() -> None:
    assert krippendorff_alpha(units(KRIPPENDORFF_2011)) == pytest.approx(0.743, abs=5e-4)


def test_alpha_is_that_of_krippendorffs_example_of_two_observers() -> None:
    # section A of the same paper: ten units, alpha 0.095
    assert krippendorff_alpha(units(("0100000000", "1110010010"))) == pytest.approx(0.095, abs=5e-4)


@pytest.mark.parametrize(
    ("both_yes", "split", "both_no", "kappa"),
    [(45, 5, 45, 0.80), (88, 5, 2, 0.23)],
)
def test_nine_of_ten_agree_and_kappa_still_falls_when_one_answer_prevails(
    both_yes: int, split: int, both_no: int, kappa: float
) -> None:
    table = Counter({("y", "y"): both_yes, ("y", "n"): split, ("n", "y"): split, ("n", "n"): both_no})
    assert raw_agreement(table) == pytest.approx(0.9)
    assert cohen_kappa(table) == pytest.approx(kappa, abs=0.005)


def test_alpha_by_hand_of_three_items() -> None:
    items = Counter({("left", "left"): 2, ("left", "right"): 1})
    # o = 2 unequal ordered pairs; n = 6, 5 left and 1 right: expected (36 - 26) / 5 = 2; alpha = 1 - 2 / 2
    assert krippendorff_alpha(items) == pytest.approx(0.0)


def test_cohens_kappa_is_that_of_scikit_learn() -> None:
    draw = random.Random(7)
    for _ in range(20):
        first = [draw.choice(["left", "right", "tie"]) for _ in range(60)]
        second = [vote if draw.random() < 0.6 else draw.choice(["left", "right", "tie"]) for vote in first]
        ours = cohen_kappa(Counter(zip(first, second, strict=True)))
        assert ours == pytest.approx(cohen_kappa_score(first, second))


def test_fleiss_kappa_is_that_of_statsmodels() -> None:
    draw = random.Random(8)
    for raters in (2, 3, 5):
        table = [[draw.choice(["left", "left", "right", "tie"]) for _ in range(raters)] for _ in range(40)]
        ours = fleiss_kappa(Counter(tuple(sorted(row)) for row in table))
        assert ours == pytest.approx(statsmodels_fleiss(aggregate_raters(np.array(table))[0]))


def test_fleiss_kappa_needs_equally_many_votes_on_each_item() -> None:
    assert fleiss_kappa(Counter([("left", "right"), ("left", "left", "left")])) is None
    assert fleiss_kappa(Counter([("left",), ("right",)])) is None


def test_what_is_undefined_is_none_and_not_a_number() -> None:
    alike = Counter({("left", "left"): 5})
    assert (krippendorff_alpha(alike), cohen_kappa(alike), fleiss_kappa(alike)) == (None, None, None)
    assert raw_agreement(Counter({("left",): 5})) is None
    assert estimate(krippendorff_alpha, [], seed=1) is None


def test_the_interval_is_the_same_for_the_same_seed_and_holds_the_value() -> None:
    items = [("left", "left")] * 40 + [("right", "right")] * 40 + [("left", "right")] * 20
    one, again = (estimate(krippendorff_alpha, items, seed=3, resamples=300) for _ in range(2))
    assert one is not None
    assert one == again
    # value: 40 unequal of n = 200, 100 each: expected 20000 / 199; the standard error is near 0.08
    assert one.value == pytest.approx(1 - 40 / (20000 / 199))
    assert 0.38 < one.low < 0.5 < one.value < 0.7 < one.high < 0.82
    assert one.items == 100


def test_two_raters_are_compared_on_what_both_judged() -> None:
    ballots = {f"i{n}": {"anna": "left", "ben": "left" if n % 2 else "right"} for n in range(20)}
    ballots |= {"x": {"anna": "left"}, "y": {"ben": "tie", "chen": "tie"}}
    assert set(common_votes(ballots, 20)) == {("anna", "ben")}
    assert Counter(common_votes(ballots, 20)["anna", "ben"]) == {("left", "left"): 10, ("left", "right"): 10}
    assert len(votes_of(ballots)) == 21
