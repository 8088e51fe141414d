"""A run that destroys its model is stopped, and one that merely fluctuates is not."""

import math

import pytest

from alignment.errors import TrainingDiverged
from alignment.training.guard import DivergenceGuard


def test_a_figure_that_is_no_number_stops_at_once() -> None:
    with pytest.raises(TrainingDiverged, match="grad_norm became inf at step 7; lower the learning rate"):
        DivergenceGuard(1000).check({"loss": 1.0, "grad_norm": math.inf}, 7)


@pytest.mark.parametrize(("name", "bad"), [("nll", 7.0), ("log_odds_ratio", -30.0), ("kl", 6.0)])
def test_three_steps_in_a_row_beyond_the_limit_stop(name: str, bad: float) -> None:
    guard = DivergenceGuard(1000)  # guessing blindly costs log 1000 = 6.9 nats
    for step, value in enumerate((bad, bad, 1.0, bad, bad), start=1):
        guard.check({name: value}, step)
    with pytest.raises(TrainingDiverged, match=f"{name} was beyond .* for 3 steps, until step 6"):
        guard.check({name: bad}, 6)


def test_a_step_s_figures_may_come_in_parts() -> None:
    guard = DivergenceGuard(1000)
    for step in (1, 2):
        guard.check({"kl": 6.0}, step)
        guard.check({"grad_norm": 1.0}, step)
    with pytest.raises(TrainingDiverged, match="until step 3"):
        guard.check({"kl": 6.0}, 3)


def test_a_model_that_began_worse_than_chance_is_not_stopped_for_it() -> None:
    guard = DivergenceGuard(1000)
    for step, nll in enumerate((8.0, 7.9, 7.8, 7.7), start=1):  # chance is 6.9
        guard.check({"nll": nll}, step)
    guard.check({"nll": 8.8}, 5)
    guard.check({"nll": 8.8}, 6)
    with pytest.raises(TrainingDiverged, match=r"nll was beyond 8\.7 for 3 steps"):  # a nat above the lowest
        guard.check({"nll": 8.8}, 7)


def test_what_was_saved_before_the_last_good_step_is_good() -> None:
    guard = DivergenceGuard(1000)
    assert guard.is_calm
    guard.check({"kl": 1.0}, 1)
    guard.check({"kl": 6.0}, 2)
    assert not guard.is_calm
    # Step 2 shows what the update of step 1 did, so what was saved after step 1 is doubtful too.
    assert [guard.is_good(step) for step in (0, 1, 2)] == [True, False, False]
    guard.check({"kl": 1.0}, 3)
    assert guard.is_calm
