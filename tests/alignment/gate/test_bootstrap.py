"""Intervals whose ends are known: constants have none, clusters count as one, many values come near the normal."""

import math

import pytest

from alignment.gate.bootstrap import mean_interval


def test_equal_values_have_an_interval_of_no_width() -> None:
    found = mean_interval([0.5] * 10, [str(i) for i in range(10)])
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


def test_one_prompt_alone_says_nothing_about_others() -> None:
    found = mean_interval([0.0, 1.0, 1.0], ["same", "same", "same"])
    assert (found.value, found.low, found.high) == pytest.approx((2 / 3, 2 / 3, 2 / 3))


def test_many_independent_values_come_near_the_normal_interval() -> None:
    found = mean_interval([0.0, 1.0] * 200, [str(i) for i in range(400)])
    half_width = 1.96 * 0.5 / math.sqrt(400)
    assert found.value == 0.5
    assert found.low == pytest.approx(0.5 - half_width, abs=0.006)
    assert found.high == pytest.approx(0.5 + half_width, abs=0.006)


def test_values_of_one_prompt_widen_the_interval() -> None:
    values = [0.0] * 50 + [1.0] * 50
    alone = mean_interval(values, [str(i) for i in range(100)])
    in_tens = mean_interval(values, [str(i // 10) for i in range(100)])
    assert in_tens.high - in_tens.low > 2 * (alone.high - alone.low)


def test_prompts_with_more_values_weigh_more_in_the_mean() -> None:
    assert mean_interval([1.0, 1.0, 1.0, 0.0], ["a", "a", "a", "b"]).value == 0.75


def test_the_same_seed_gives_the_same_interval() -> None:
    values, prompts = [0.1 * i * i for i in range(50)], [str(i) for i in range(50)]
    assert mean_interval(values, prompts) == mean_interval(values, prompts)
    assert mean_interval(values, prompts, seed=1) != mean_interval(values, prompts)
