"""What an A/A run says of limits: counted by hand, and against what normal theory says of a known disagreement."""

from collections.abc import Sequence

import pytest

from alignment.gate.items import AnswerItem, Items, PairItem, TextItem
from alignment.gate.noise import noise, noise_of
from gateway.contracts.gate_report import LimitNoise
from gateway.contracts.release import GateResult, Limit
from gateway.sections.gates import GateSettings

FIGURES = {"generation_empty_share": 0.0, "generation_ended_share": 1.0, "generation_mean_tokens": 40.0,
           "generation_repetition": 0.05}  # fmt: skip


def drawn(gate: str, **values: float) -> GateResult:
    """A gate that asks whether `drop` is below -0.05, `rise` above 0.02, and there are 200 pairs."""
    limits = {"drop": -0.05, "rise": 0.02, "pairs": 200.0}
    asked = [
        Limit(
            name=name, level="block", value=value, limit=limits[name], side="above" if name == "rise" else "below",
            crossed=value > limits[name] if name == "rise" else value < limits[name],
        )
        for name, value in values.items()
    ]  # fmt: skip
    return GateResult(gate=gate, verdict="pass", value=0.0, limit=0.0, reason="", limits=tuple(asked))


def known(found: Sequence[LimitNoise]) -> dict[tuple[str, str, str], LimitNoise]:
    return {(one.gate, one.name, one.level): one for one in found}


def test_false_alarms_are_counted_and_the_smallest_effect_moves_four_of_five_draws_across() -> None:
    drops, rises = (-0.06, -0.02, 0.0, 0.02, 0.04, 0.05), (0.0, 0.01, 0.01, 0.01, 0.03, 0.03)
    draws = [(drawn("a", drop=drop, rise=rise, pairs=12.0),) for drop, rise in zip(drops, rises, strict=True)]
    found = known(noise_of(draws, 6))
    # Above -0.05 by -0.01, 0.03, 0.05, 0.07, 0.09 and 0.1: four fifths of the way from the first to the last is 0.09.
    assert found["a", "drop", "block"].false_alarm_share == pytest.approx(1 / 6)
    assert found["a", "drop", "block"].smallest_effect == pytest.approx(0.09)
    # Below 0.02 by 0.02, 0.01, 0.01, 0.01, -0.01 and -0.01.
    assert found["a", "rise", "block"].false_alarm_share == pytest.approx(2 / 6)
    assert found["a", "rise", "block"].smallest_effect == pytest.approx(0.01)
    # How many pairs there are is no effect of a model.
    assert (found["a", "pairs", "block"].false_alarm_share, found["a", "pairs", "block"].smallest_effect) == (1.0, None)


def test_a_limit_that_always_speaks_sees_every_effect_and_one_that_was_not_asked_is_no_alarm() -> None:
    found = known(noise_of([(drawn("a", drop=-0.2),), (drawn("a"),), (drawn("b", drop=-0.1),)], 3))
    assert (found["a", "drop", "block"].false_alarm_share, found["a", "drop", "block"].smallest_effect) == (1 / 3, 0.0)
    assert found["b", "drop", "block"].false_alarm_share == 1 / 3


def pair(number: int) -> PairItem:
    """Of every ten, both models are right on six and wrong on two; each is right alone on one."""
    right = {"candidate": number % 10 < 7, "incumbent": number % 10 < 6 or number % 10 == 7}
    scores = {who: (-1.0, -2.0) if is_right else (-2.0, -1.0) for who, is_right in right.items()}
    return PairItem(id=str(number), prompt=str(number), tokens=9, is_matched=False, scores=scores)


ITEMS = Items(
    pairs=tuple(pair(number) for number in range(200)),
    texts=tuple(
        TextItem(language="en", tokens=50, nats=dict.fromkeys(("candidate", "incumbent"), 150.0 + number % 3))
        for number in range(12)
    ),
    answers=tuple(
        AnswerItem(prompt=str(number), texts=dict.fromkeys(("candidate", "incumbent", "base"), "so"),
                   figures=dict.fromkeys(("candidate", "incumbent", "base"), FIGURES), kl_nats=2.0, kl_tokens=10)
        for number in range(20)
    ),
)  # fmt: skip


def test_on_a_known_disagreement_the_limits_behave_as_theory_says() -> None:
    found = known(noise([ITEMS], GateSettings(), draws=200))
    # 20 % of 200 pairs differ, half each way: the difference scatters by sqrt(0.2 / 200) = 3.16 points.
    drop = found["holdout_preference", "drop", "block"]
    assert drop.false_alarm_share == pytest.approx(0.057, abs=0.05)  # 5 points are 1.58 standard errors
    assert drop.smallest_effect == pytest.approx(0.05 + 0.842 * 0.0316, abs=0.01)
    worse = found["holdout_preference", "surely_worse", "block"]
    assert worse.false_alarm_share == pytest.approx(0.025, abs=0.035)
    assert worse.smallest_effect == pytest.approx((1.96 + 0.842) * 0.0316, abs=0.014)
    # A candidate that is no better shows no gain in half of the draws.
    assert found["holdout_preference", "gain", "warn"].false_alarm_share == pytest.approx(0.5, abs=0.12)
    # Answers and texts that are the same for both never alarm, and a change is seen once it reaches the limit.
    rise = found["perplexity", "rise", "block"]
    assert (rise.false_alarm_share, rise.smallest_effect) == (0.0, pytest.approx(0.05))
    kl = found["drift", "kl", "warn"]
    assert (kl.false_alarm_share, kl.smallest_effect) == (1.0, 0.0)  # 0.2 nats a token, whichever are drawn


def test_the_same_seed_draws_the_same() -> None:
    few = Items(pairs=ITEMS.pairs[:30], texts=ITEMS.texts)
    assert noise([few], GateSettings(), 20, seed=3) == noise([few], GateSettings(), 20, seed=3)
    assert noise([few], GateSettings(), 20, seed=3) != noise([few], GateSettings(), 20, seed=4)
