"""The numbers of a run, worked out by hand, each with its reason."""

import pytest

from alignment.training.schedule import AUTO_LEARNING_RATE, rate_share, schedule
from gateway.contracts.pace import AUTO_EPOCHS_MOST
from gateway.contracts.training import TrainingOptions


def test_what_is_asked_for_is_done() -> None:
    plan = schedule(TrainingOptions(epochs=2, learning_rate=1e-4, pairs_per_step=4), pair_count=10)
    assert (plan.steps_per_epoch, plan.steps, plan.learning_rate) == (2.5, 5, 1e-4)
    assert plan.warmup_steps == 1
    assert plan.reasons[0] == "2 epochs: as asked"
    assert plan.reasons[1] == "learning rate 0.0001: as asked"


def test_max_steps_cuts_but_never_lengthens() -> None:
    assert schedule(TrainingOptions(epochs=2, max_steps=4), 10).steps == 4
    assert schedule(TrainingOptions(epochs=2, max_steps=400), 10).steps == 5


def test_one_pair_trains_at_least_one_step() -> None:
    plan = schedule(TrainingOptions(epochs=0.1), 1)
    assert (plan.steps, plan.warmup_steps) == (1, 0)


def test_few_pairs_are_seen_more_often_but_not_endlessly() -> None:
    few, some, many = (schedule(TrainingOptions(), count) for count in (20, 160, 10_000))
    assert few.steps == AUTO_EPOCHS_MOST * few.steps_per_epoch
    assert some.steps_per_epoch <= some.steps <= AUTO_EPOCHS_MOST * some.steps_per_epoch
    assert many.steps == many.steps_per_epoch
    assert few.learning_rate == AUTO_LEARNING_RATE
    assert all("epochs: " in plan.reasons[0] for plan in (few, some, many))


def test_the_rate_rises_to_its_peak_and_falls_by_half_a_cosine() -> None:
    shares = [rate_share(step, steps=6, warmup_steps=2) for step in range(6)]
    # A third, two thirds, the peak, then (1 + cos(k pi / 4)) / 2 for k = 1, 2, 3.
    assert shares == pytest.approx([1 / 3, 2 / 3, 1.0, 0.853553, 0.5, 0.146447], abs=1e-6)


def test_larger_models_learn_more_slowly() -> None:
    rates = [schedule(TrainingOptions(), 100, int(size)).learning_rate for size in (135e6, 1.2e9, 8e9)]
    assert rates == [2e-4, 1e-4, 5e-5]


def test_a_multiplier_scales_the_rate_whether_it_was_given_or_chosen() -> None:
    given = schedule(TrainingOptions(learning_rate=1e-4, learning_rate_multiplier=2.0), 8)
    assert given.learning_rate == 2e-4
    assert given.reasons[1] == "learning rate 0.0001: as asked; times 2, as asked: 0.0002"
    assert schedule(TrainingOptions(learning_rate_multiplier=0.5), 8).learning_rate == AUTO_LEARNING_RATE / 2
