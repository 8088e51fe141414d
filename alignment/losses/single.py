"""Losses over single answers: a thumb up or down, or a demonstration. The answer stands on the chosen side."""

import torch
from torch import Tensor

from alignment.losses.registry import Losses, register_loss
from alignment.step.results import StepLogps


@register_loss("sft", "demonstrations")
def sft(logps: StepLogps) -> Losses:
    """Mean negative log-likelihood of the answer's tokens."""
    nll = -logps.chosen.means
    return Losses(nll, {"nll": nll})


@register_loss("kto", "answers", reference=True, baseline=True)
def kto(
    logps: StepLogps,
    *,
    baseline: Tensor,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Losses:
    """w_D (1 - sigmoid(beta (r - z0))) for a thumb up, w_U (1 - sigmoid(beta (z0 - r))) for one down.

    r = log p(y|x) - log p_ref(y|x), z0 the `baseline`, a scalar of at least 0 that carries no gradient: the mean
    log-ratio of answers to other prompts in the step (arXiv 2402.01306, equation 8 and section 4.1).
    """
    assert logps.reference is not None
    assert logps.desirable is not None
    ratio, up = logps.chosen.sums - logps.reference.chosen.sums, logps.desirable
    towards = torch.where(up, ratio - baseline, baseline - ratio)
    weight = torch.where(up, desirable_weight, undesirable_weight).to(ratio.dtype)
    per_row = weight * (1 - torch.sigmoid(beta * towards))
    reward = beta * ratio
    return Losses(
        per_row,
        {
            "nll": -logps.chosen.means,
            "rewards/answer": reward,
            "rewards/accuracy": (towards > 0).to(ratio.dtype),
            "kl": baseline.expand_as(ratio),
        },
    )
