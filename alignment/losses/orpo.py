"""The ORPO loss (Hong, Lee, Thorne 2024, arXiv 2403.07691): pure tensor functions, and how training calls them."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from alignment.losses.metrics import pair_metrics
from alignment.losses.registry import Losses, register_loss
from alignment.step.results import StepLogps

_LOG_HALF = -math.log(2.0)


class OrpoLoss(NamedTuple):
    """What `orpo_loss` returns."""

    per_pair: Tensor
    """(B,) to minimise, in nats."""
    log_odds_ratio: Tensor
    """(B,): above 0 where the chosen completion is favoured."""
    penalty: Tensor
    """(B,): minus the log-sigmoid of the log odds ratio; never negative."""


def log1mexp(logps: Tensor) -> Tensor:
    """log(1 - exp(x)) for x <= 0, element by element, without cancellation (Mächler 2012, equation 7).

    Two forms meet at x = -log 2. Inputs closer to 0 than the smallest step below 1 are moved there, so that both the
    value and the gradient stay finite where a completion is certain (x -> 0).
    """
    x = logps.clamp(max=-torch.finfo(logps.dtype).eps)
    near = x > _LOG_HALF
    # Each branch sees a harmless value where the other one applies: `where` alone would let a NaN gradient through.
    near_value = torch.log(-torch.expm1(torch.where(near, x, _LOG_HALF)))
    far_value = torch.log1p(-torch.exp(torch.where(near, _LOG_HALF, x)))
    return torch.where(near, near_value, far_value)


def log_odds(logps: Tensor) -> Tensor:
    """log(p / (1 - p)) of probabilities given by their logarithm: (B,) -> (B,), in nats."""
    return logps - log1mexp(logps)


def orpo_loss(chosen_logps: Tensor, rejected_logps: Tensor, nll: Tensor, lambda_: float) -> OrpoLoss:
    """Likelihood loss on the chosen completion plus the weighted odds-ratio penalty (equation 6 of the paper).

    Shapes   (B,) floating point for B pairs, for every tensor; better float32 than less.
    Units    nats per token: the log-probabilities are means over completion tokens, so below 0; `nll` is above 0.
    lambda_  weight of the penalty; at 0 this is plain fine-tuning.
    """
    log_odds_ratio = log_odds(chosen_logps) - log_odds(rejected_logps)
    penalty = -F.logsigmoid(log_odds_ratio)
    return OrpoLoss(per_pair=nll + lambda_ * penalty, log_odds_ratio=log_odds_ratio, penalty=penalty)


def likelihood(logps: StepLogps) -> Tensor:
    """Mean negative log-likelihood (P,) of the chosen completion, and of the prompt too if it was scored."""
    if logps.prompt is None:
        return -logps.chosen.means
    return -(logps.prompt.sums + logps.chosen.sums) / (logps.prompt.counts + logps.chosen.counts)


@register_loss("orpo", "pairs", prompt_when={"nll": "prompt_and_chosen"})
def orpo(logps: StepLogps, *, lambda_: float = 0.1, nll: str = "chosen") -> Losses:
    """ORPO over a batch; `nll` is settled by whether the prompt was scored. Rewards are lambda times mean logs."""
    chosen, rejected, own = logps.chosen.means, logps.rejected.means, likelihood(logps)
    loss = orpo_loss(chosen, rejected, own, lambda_)
    return Losses(
        loss.per_pair,
        {"nll": own, "log_odds_ratio": loss.log_odds_ratio} | pair_metrics(lambda_ * chosen, lambda_ * rejected),
    )
