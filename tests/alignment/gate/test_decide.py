"""The gates as a table: each limit from both sides, worked out by hand."""

import math

import pytest

from alignment.gate.decide import PERPLEXITY_GATE, PREFERENCE_GATE, Evidence, decide
from gateway.contracts.release import GateResult, Interval


def interval(value: float, low: float, high: float) -> Interval:
    return Interval(value=value, low=low, high=high)


def judge(
    difference: tuple[float, float, float] = (0.10, 0.05, 0.15),
    accuracy: float = 0.8,
    pairs: int = 200,
    perplexity: float = 20.0,
) -> dict[str, GateResult]:
    evidence = Evidence(
        pairs, interval(accuracy, accuracy - 0.1, accuracy + 0.1), interval(*difference), perplexity, 20.0
    )
    return {result.gate: result for result in decide(evidence)}


@pytest.mark.parametrize(
    ("difference", "accuracy", "pairs", "verdict", "value", "limit"),
    [
        ((0.10, 0.05, 0.15), 0.80, 200, "pass", 0.10, 0.0),
        ((0.10, -0.02, 0.15), 0.80, 200, "pass", 0.10, 0.0),
        ((0.10, -0.021, 0.15), 0.80, 200, "warn", -0.021, -0.02),
        ((0.00, -0.01, 0.01), 0.80, 200, "warn", 0.00, 0.0),
        ((0.10, 0.05, 0.15), 0.80, 199, "warn", 199, 200),
        ((-0.01, -0.015, 0.0), 0.80, 200, "warn", -0.01, 0.0),
        ((-0.01, -0.015, -0.001), 0.80, 200, "block", -0.001, 0.0),
        ((-0.05, -0.15, 0.05), 0.80, 200, "warn", -0.15, -0.02),
        ((-0.051, -0.15, 0.05), 0.80, 200, "block", -0.051, -0.05),
        ((0.10, 0.05, 0.15), 0.50, 200, "pass", 0.10, 0.0),
        ((0.10, 0.05, 0.15), 0.49, 200, "block", 0.49, 0.5),
    ],
)
def test_preference_gate(
    difference: tuple[float, float, float], accuracy: float, pairs: int, verdict: str, value: float, limit: float
) -> None:
    result = judge(difference, accuracy, pairs)[PREFERENCE_GATE]
    assert (result.verdict, result.value, result.limit) == (verdict, value, limit)


@pytest.mark.parametrize(
    ("perplexity", "verdict"),
    [(19.0, "pass"), (20.0, "pass"), (20.39, "pass"), (20.41, "warn"), (20.99, "warn"), (21.01, "block")],
)
def test_perplexity_gate(perplexity: float, verdict: str) -> None:
    result = judge(perplexity=perplexity)[PERPLEXITY_GATE]
    assert result.verdict == verdict
    assert result.value == pytest.approx(perplexity / 20 - 1)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_perplexity_that_is_no_number_blocks(broken: float) -> None:
    assert judge(perplexity=broken)[PERPLEXITY_GATE].verdict == "block"


def test_every_reason_is_told_the_gravest_first() -> None:
    result = judge((-0.2, -0.3, -0.1), accuracy=0.4, pairs=12)[PREFERENCE_GATE]
    assert result.verdict == "block"
    assert result.reason == (
        "surely worse than the incumbent: -20.0 points, 95 % between -30.0 and -10.0; "
        "prefers the rejected side more often than not: accuracy 0.400; "
        "accuracy fell by more than 5 points: -20.0 points; "
        "may be worse than the incumbent by more than 2 points: 95 % between -30.0 and -10.0; "
        "no gain over the incumbent: -20.0 points; measured on 12 pairs only, fewer than 200"
    )


def test_without_holdout_the_gate_warns() -> None:
    preference, _ = decide(Evidence(0, None, None, 20.0, 20.0))
    assert (preference.verdict, preference.reason) == ("warn", "no pair was held out to measure on")
