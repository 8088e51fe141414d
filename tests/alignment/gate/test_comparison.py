"""Three models on the same items: which names come out, and what is subtracted from what."""

import pytest

from alignment.gate.bootstrap import ratio_interval
from alignment.gate.comparison import Sides, compared, sign_test

ITEMS = ["a", "b", "c", "d"]


def values(found: dict[str, object]) -> dict[str, float]:
    return {name: interval.value for name, interval in found.items()}  # type: ignore[attr-defined]


def test_a_model_alone_is_compared_with_nothing() -> None:
    assert values(compared("x", Sides([1.0, 2.0, 3.0, 4.0]), ITEMS)) == {"x": 2.5}


def test_without_an_incumbent_the_base_is_the_incumbent() -> None:
    found = compared("x", Sides([1.0, 1.0, 1.0, 0.0], base=[0.0, 1.0, 0.0, 0.0]), ITEMS)
    assert values(found) == {"x": 0.75, "x_incumbent": 0.25, "x_base": 0.25, "x_difference": 0.5}


def test_with_an_incumbent_both_differences_are_told() -> None:
    found = compared("x", Sides([3.0] * 4, base=[1.0] * 4, incumbent=[2.5] * 4), ITEMS)
    assert values(found) == {
        "x": 3.0, "x_incumbent": 2.5, "x_base": 1.0, "x_difference": 0.5, "x_difference_base": 2.0
    }  # fmt: skip


def test_differences_are_paired() -> None:
    # Both are uncertain on their own, yet the candidate is better by exactly 0.25 everywhere.
    base = [float(i) for i in range(8)]
    found = compared("x", Sides([value + 0.25 for value in base], base), [str(i) for i in range(8)])
    difference = found["x_difference"]
    assert (difference.value, difference.low, difference.high) == pytest.approx((0.25, 0.25, 0.25))
    assert found["x"].high - found["x"].low > 2


def test_items_in_different_numbers_are_an_error() -> None:
    with pytest.raises(ValueError, match="length"):
        compared("x", Sides([1.0] * 4, [1.0] * 3), ITEMS)


@pytest.mark.parametrize(
    ("won", "lost", "p_value"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 0, 2 / 32),
        (0, 5, 2 / 32),
        (8, 2, 2 * (1 + 10 + 45) / 1024),
        (3, 3, 1.0),
    ],
)
def test_sign_test_counts_how_rarely_a_fair_coin_falls_so(won: int, lost: int, p_value: float) -> None:
    candidate, other = [1.0] * won + [0.0] * lost + [1.0, 0.0], [0.0] * won + [1.0] * lost + [1.0, 0.0]
    assert sign_test(candidate, other) == pytest.approx((won, lost, p_value))


def test_sign_test_stays_a_number_where_thousands_differ() -> None:
    even = sign_test([1.0] * 3000 + [0.0] * 3000, [0.0] * 3000 + [1.0] * 3000)
    assert even.p_value == 1.0
    assert 0 <= sign_test([1.0] * 4000, [0.0] * 4000).p_value < 1e-300


def test_a_ratio_weighs_every_token_alike() -> None:
    # 2 nats over 10 tokens and 1 over 1: 3 over 11, not the mean of 0.2 and 1.
    assert ratio_interval([2.0, 1.0], [10.0, 1.0], ["a", "b"]).value == pytest.approx(3 / 11)


def test_a_ratio_that_is_the_same_everywhere_has_no_width() -> None:
    found = ratio_interval([2.0, 6.0, 1.0], [4.0, 12.0, 2.0], ["a", "b", "c"])
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
