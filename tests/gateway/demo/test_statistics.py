import math

import pytest

from gateway.demo.statistics import (
    answer_controls,
    distinct_share,
    median_words,
    paired_difference,
    perplexity_control,
    share,
)


def test_four_pairs_give_the_interval_worked_out_by_hand():
    # Changes +1, 0, 0, 0. The number of +1 in four draws is Binomial(4, 1/4): P(0) = 31.6 %, P(4) = 0.4 %,
    # P(>= 3) = 5.1 %. So the 2.5 % quantile is 0 and the 97.5 % quantile 3 of 4.
    found = paired_difference([False, False, True, True], [True, False, True, True])
    assert (found.points, found.low, found.high) == (25.0, 0.0, 75.0)


def test_prompts_are_paired_so_what_did_not_change_adds_no_width():
    # 24 of 48 changed: the mean of 48 draws of a fair coin has a standard deviation of 0.5 / sqrt(48) = 7.2 points.
    before, after = [True] * 12 + [False] * 36, [True] * 36 + [False] * 12
    found = paired_difference(before, after)
    assert found.points == 50.0
    spread = 1.96 * 100 * 0.5 / math.sqrt(48)
    assert found.low == pytest.approx(50 - spread, abs=2.1)  # a step of the bootstrap is 100 / 48 points
    assert found.high == pytest.approx(50 + spread, abs=2.1)


def test_the_same_seed_gives_the_same_interval():
    before, after = [False, True] * 10, [True, True, False, True] * 5
    assert paired_difference(before, after, seed=3) == paired_difference(before, after, seed=3)


def test_changes_all_alike_are_not_taken_for_certainty():
    # 1 - 0.025 ** (1 / 10) = 0.3085: so many prompts could change otherwise and ten draws still miss them.
    gained = paired_difference([False] * 10, [True] * 10)
    assert (gained.points, gained.high) == (100.0, 100.0)
    assert gained.low == pytest.approx(100 - 200 * 0.3085, abs=0.01)
    unchanged = paired_difference([True] * 10, [True] * 10)
    assert (unchanged.points, unchanged.low, unchanged.high) == pytest.approx((0, -30.85, 30.85), abs=0.01)


@pytest.mark.parametrize(("before", "after"), [([], []), ([True], [True, False])])
def test_unpaired_outcomes_are_refused(before, after):
    with pytest.raises(ValueError, match="same prompts"):
        paired_difference(before, after)


def test_shares_and_medians():
    assert share([True, False, False, True]) == 0.5
    assert median_words([1, 9, 4]) == 4
    assert median_words([1, 9, 4, 6]) == 5
    assert distinct_share(["a", "b ", "b", "c"]) == 0.75
    assert (share([]), median_words([]), distinct_share([])) == (0, 0, 0)


def test_controls_hold_at_their_limits_and_fail_beyond():
    texts = [f"answer {number}" for number in range(9)] + ["answer 0"]  # nine different of ten
    assert [control.holds for control in answer_controls(texts, [8] * 10)] == [True, True, True]
    texts[1] = "answer 0"
    assert [control.holds for control in answer_controls(texts, [7] * 10)] == [True, False, False]
    assert not answer_controls(["a", " "], [9, 9])[0].holds


@pytest.mark.parametrize(
    ("before", "after", "holds"),
    [(20, 20.9, True), (20, 21.1, False), (20, 15, True), (None, 20, False), (20, None, False)],
)
def test_perplexity_may_rise_by_a_twentieth_and_must_be_measured(before, after, holds):
    assert perplexity_control(before, after).holds is holds
