"""Losses over pairs beside ORPO. Log-ratios are against the base, which is the model with its adapter switched off."""

import torch.nn.functional as F
from torch import Tensor

from alignment.losses.metrics import pair_metrics
from alignment.losses.registry import Losses, register_loss
from alignment.step.results import StepLogps


@register_loss("dpo", "pairs", reference=True)
def dpo(logps: StepLogps, *, beta: float = 0.1, rpo_alpha: float = 0.0) -> Losses:
    """-log sigmoid(beta (r_w - r_l)), r = log p(y|x) - log p_ref(y|x) (arXiv 2305.18290, equation 7).

    `rpo_alpha` above 0 adds that much of the chosen side's mean negative log-likelihood (RPO, arXiv 2404.19733).
    """
    chosen, rejected = log_ratios(logps)
    nll = -logps.chosen.means
    per_pair = -F.logsigmoid(beta * (chosen - rejected)) + rpo_alpha * nll
    return Losses(per_pair, {"nll": nll} | pair_metrics(beta * chosen, beta * rejected))


@register_loss("orpo-kl", "pairs", reference=True, divergence=True)
def orpo_kl(logps: StepLogps, *, beta: float = 0.1, kl_coef: float = 1.0) -> Losses:
    """DPO plus `kl_coef` times KL(p || p_ref) per token, exact over the vocabulary.

    The KL is taken at the tokens of the two logged answers. It is not the KL under the model's own sampling.
    """
    assert logps.divergence is not None
    kl = logps.divergence.means
    per_pair, metrics = dpo(logps, beta=beta)
    return Losses(per_pair + kl_coef * kl, {**metrics, "kl": kl})


@register_loss("ipo", "pairs", reference=True)
def ipo(logps: StepLogps, *, beta: float = 0.1) -> Losses:
    """(h - 1/(2 beta))^2, h the difference of the log-ratios (arXiv 2310.12036, equation 17; beta is its tau).

    The log-ratios are means over tokens, as the authors do for answers of unequal length.
    """
    assert logps.reference is not None
    chosen = logps.chosen.means - logps.reference.chosen.means
    rejected = logps.rejected.means - logps.reference.rejected.means
    per_pair = (chosen - rejected - 1 / (2 * beta)).square()
    return Losses(per_pair, {"nll": -logps.chosen.means} | pair_metrics(beta * chosen, beta * rejected))


@register_loss("simpo", "pairs")
def simpo(logps: StepLogps, *, beta: float = 2.0, gamma: float = 1.0) -> Losses:
    """-log sigmoid(beta (l_w - l_l) - gamma), l means over tokens (arXiv 2405.14734, equation 6)."""
    chosen, rejected = beta * logps.chosen.means, beta * logps.rejected.means
    per_pair = -F.logsigmoid(chosen - rejected - gamma)
    return Losses(per_pair, {"nll": -logps.chosen.means} | pair_metrics(chosen, rejected))


def log_ratios(logps: StepLogps) -> tuple[Tensor, Tensor]:
    """log p(y|x) - log p_ref(y|x) of the chosen and of the rejected side, (P,) each, summed over tokens."""
    assert logps.reference is not None
    reference = logps.reference
    return logps.chosen.sums - reference.chosen.sums, logps.rejected.sums - reference.rejected.sums
