"""Values worked out by hand: p = 1/2 has odds 1, p = 3/4 has odds 3, p = 1/4 has odds 1/3."""

import math

import pytest
import torch

from alignment.losses.orpo import log1mexp, log_odds, orpo_loss

LOG_HALF, LOG_QUARTER, LOG_THREE_QUARTERS = math.log(0.5), math.log(0.25), math.log(0.75)


def tensor(*values: float, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype)


def test_log1mexp_is_log_of_one_minus_the_probability() -> None:
    found = log1mexp(tensor(LOG_HALF, LOG_QUARTER, LOG_THREE_QUARTERS))
    assert found.tolist() == pytest.approx([LOG_HALF, LOG_THREE_QUARTERS, LOG_QUARTER], abs=1e-15)


def test_log1mexp_keeps_its_digits_at_both_ends() -> None:
    # 1 - exp(-1e-6) = 1e-6 (1 - 5e-7 + ...); log(1 - exp(-30)) = -exp(-30) up to a relative 5e-14.
    found = log1mexp(tensor(-1e-6, -30.0, dtype=torch.float32))
    assert found[0].item() == pytest.approx(math.log(1e-6) - 5e-7, rel=1e-6)
    assert found[1].item() == pytest.approx(-math.exp(-30.0), rel=1e-6)


def test_log_odds_of_a_half_three_quarters_and_a_quarter() -> None:
    found = log_odds(tensor(LOG_HALF, LOG_THREE_QUARTERS, LOG_QUARTER))
    assert found.tolist() == pytest.approx([0.0, math.log(3), -math.log(3)], abs=1e-15)


def test_loss_of_one_pair_worked_out_by_hand() -> None:
    # Odds 3 against 1/3: the ratio is 9, its log-sigmoid log(9/10); nll log 4/3; lambda 0.1.
    loss = orpo_loss(tensor(LOG_THREE_QUARTERS), tensor(LOG_QUARTER), tensor(-LOG_THREE_QUARTERS), 0.1)
    assert loss.log_odds_ratio.item() == pytest.approx(math.log(9))
    assert loss.penalty.item() == pytest.approx(math.log(10 / 9))
    assert loss.per_pair.mean().item() == pytest.approx(math.log(4 / 3) + 0.1 * math.log(10 / 9))


def test_even_odds_cost_log_2() -> None:
    loss = orpo_loss(tensor(-1.7), tensor(-1.7), tensor(0.0), 1.0)
    assert loss.log_odds_ratio.item() == 0.0
    assert loss.per_pair.mean().item() == pytest.approx(math.log(2))


def test_lambda_0_is_plain_fine_tuning() -> None:
    loss = orpo_loss(tensor(-1.0, -3.0), tensor(-2.0, -0.5), tensor(1.0, 3.0), 0.0)
    assert loss.per_pair.mean().item() == pytest.approx(2.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("near_zero", [0.0, -1e-9, -1e-12, -1e-30])
def test_a_certain_completion_gives_no_nan_in_value_or_gradient(dtype: torch.dtype, near_zero: float) -> None:
    logps = torch.tensor([near_zero, -1e4], dtype=dtype, requires_grad=True)
    loss = orpo_loss(logps[:1], logps[1:], -logps[:1], 0.1)
    loss.per_pair.sum().backward()
    assert math.isfinite(loss.per_pair.mean().item())
    assert logps.grad is not None
    assert torch.isfinite(logps.grad).all()
    loss = orpo_loss(logps[1:], logps[:1], -logps[1:], 0.1)
    assert math.isfinite(loss.per_pair.mean().item())


def test_gradient_agrees_with_finite_differences() -> None:
    chosen = tensor(-0.1, -0.69, -0.7, -5.0).requires_grad_()
    rejected = tensor(-2.0, -0.7, -0.69, -0.3).requires_grad_()
    assert torch.autograd.gradcheck(lambda c, r: orpo_loss(c, r, -c, 0.3).per_pair.sum(), (chosen, rejected))
