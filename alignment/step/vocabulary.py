"""From hidden states to log-probabilities of given tokens, without ever holding the logits of all positions."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from alignment.step.products import linear, times

_LOGIT_BLOCK_BYTES = 64 << 20


def at_least_float32(values: Tensor) -> Tensor:
    """The values in float32, or in float64 if they are that already."""
    return values if values.dtype == torch.float64 else values.float()


def token_logps(hidden: Tensor, head: Any, targets: Tensor) -> Tensor:
    """hidden (N, H), targets (N,) -> log-probabilities (N,) of the targets; no gradient flows into the head."""
    scores: Tensor = _TokenLogps.apply(hidden, head.weight.detach(), head.bias, targets)  # type: ignore[no-untyped-call]
    return scores


def token_divergence(hidden: Tensor, reference: Tensor, head: Any) -> Tensor:
    """hidden, reference (N, H) -> KL(p || p_ref) (N,) in nats over the whole vocabulary; gradient to hidden alone."""
    kl: Tensor = _TokenDivergence.apply(hidden, reference, head.weight.detach(), head.bias)  # type: ignore[no-untyped-call]
    return kl


class _TokenLogps(torch.autograd.Function):
    """Log-probability of one target token per hidden state, with a frozen output matrix, block by block.

    The gradient of log p(y) with respect to the hidden state is W[y] - softmax(h W^T) W, whatever the loss is. It is
    formed in the forward pass while a block's logits are at hand, so they need neither be kept nor be made again.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
        """hidden (N, H), weight (V, H), bias (V,) or None, targets (N,) -> (N,) log-probabilities."""
        logps = torch.empty(len(hidden), dtype=at_least_float32(hidden[:0]).dtype, device=hidden.device)
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        for part in _blocks(len(hidden), weight.shape[0] * logps.element_size()):
            logits = at_least_float32(linear(hidden[part], weight, bias))
            logits -= logits.logsumexp(dim=1, keepdim=True)
            logps[part] = logits.gather(1, targets[part, None]).squeeze(1)
            if gradient is not None:
                gradient[part] = weight[targets[part]] - times(logits.exp_().to(weight.dtype), weight)
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return logps

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, None, None, None]:
        """upstream (N,) -> the gradient (N, H) of the hidden states; the output matrix gets none."""
        (gradient,) = ctx.saved_tensors
        return upstream[0].to(gradient.dtype)[:, None] * gradient, None, None, None


class _TokenDivergence(torch.autograd.Function):
    """KL(p || q) at each position, p from hidden states and q from reference ones, through one frozen output matrix.

    Its gradient with respect to the logits of p is p (log p - log q - KL), formed while both are at hand.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, reference: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """hidden, reference (N, H), weight (V, H), bias (V,) or None -> (N,)."""
        divergence = torch.empty(len(hidden), dtype=at_least_float32(hidden[:0]).dtype, device=hidden.device)
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        for part in _blocks(len(hidden), 3 * weight.shape[0] * divergence.element_size()):
            p, q = (at_least_float32(linear(side[part], weight, bias)).log_softmax(1) for side in (hidden, reference))
            apart, share = p - q, p.exp()
            divergence[part] = (share * apart).sum(1)
            if gradient is not None:
                gradient[part] = times((share * (apart - divergence[part, None])).to(weight.dtype), weight)
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return divergence

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, None, None, None]:
        """upstream (N,) -> the gradient (N, H) of the hidden states alone."""
        (gradient,) = ctx.saved_tensors
        return upstream[0].to(gradient.dtype)[:, None] * gradient, None, None, None


def _blocks(rows: int, row_bytes: int) -> Iterator[slice]:
    block = max(16, _LOGIT_BLOCK_BYTES // row_bytes)
    for start in range(0, rows, block):
        yield slice(start, start + block)
