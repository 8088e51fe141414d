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
