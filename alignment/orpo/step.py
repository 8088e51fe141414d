"""The forward pass of a step: a batch of pairs in, mean log-probabilities out. The one place a faster step replaces.

The chosen and the rejected rows run apart, each without the other's padding, and the vocabulary is looked at only
where a completion token is predicted, a block of positions at a time: full logits are never held.
"""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from alignment.pairs.collate import PairBatch

NllMode = Literal["chosen", "prompt_and_chosen"]

_LOGIT_BLOCK_BYTES = 64 << 20
# Models that do more than a matrix product after the last hidden state name it with one of these settings.
_HEAD_EXTRAS = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")


class PairLogps(NamedTuple):
    """Per pair, in nats per token; each (B,), float32 (float64 for a float64 model)."""

    chosen: Tensor
    """Mean log-probability over the tokens of the chosen completion."""
    rejected: Tensor
    """The same for the rejected completion."""
    nll: Tensor
    """Mean negative log-likelihood over the tokens the likelihood term covers; above 0."""


def pair_logps(model: Any, batch: PairBatch, nll: NllMode = "chosen") -> PairLogps:
    """Score both completions of every pair under the model.

    model  a causal language model of transformers, or a PeftModel around one whose output embeddings are frozen.
    nll    `chosen`: the completion only. `prompt_and_chosen`: also the prompt but its first token, as TRL does.
    """
    pairs = batch["weights"].shape[0]
    chosen_rows, rejected_rows = (_rows(batch, part) for part in (slice(0, pairs), slice(pairs, None)))
    chosen_logps, chosen_mask = _token_logps(model, *chosen_rows, whole=nll == "prompt_and_chosen")
    rejected_logps, rejected_mask = _token_logps(model, *rejected_rows, whole=False)
    chosen = _masked_mean(chosen_logps, chosen_mask)
    likelihood = chosen if nll == "chosen" else _masked_mean(chosen_logps, chosen_rows[1][:, 1:].bool())
    return PairLogps(chosen, _masked_mean(rejected_logps, rejected_mask), -likelihood)


def _rows(batch: PairBatch, part: slice) -> tuple[Tensor, Tensor, Tensor]:
    """Some rows of the batch, without the columns that are padding in all of them."""
    attention_mask = batch["attention_mask"][part]
    width = int(attention_mask.sum(dim=1).max())
    return batch["input_ids"][part, :width], attention_mask[:, :width], batch["completion_mask"][part, :width]


def _token_logps(
    model: Any, input_ids: Tensor, attention_mask: Tensor, completion_mask: Tensor, whole: bool
) -> tuple[Tensor, Tensor]:
    """Log-probabilities (R, T-1) of the tokens after the first, 0 where not wanted, and the mask of the completion."""
    wanted = attention_mask[:, 1:].bool() if whole else completion_mask[:, 1:]
    targets = input_ids[:, 1:][wanted]
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    if any(getattr(causal.config, name, None) for name in _HEAD_EXTRAS):
        logits = causal(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits[:, :-1][wanted]
        scores = _at_least_float32(logits).log_softmax(-1).gather(1, targets[:, None]).squeeze(1)
    else:
        body, head = getattr(causal, causal.base_model_prefix), causal.get_output_embeddings()
        hidden = body(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
        scores = _scores(hidden[:, :-1][wanted], head, targets)
    spread = scores.new_zeros(wanted.shape).masked_scatter(wanted, scores)
    return spread, completion_mask[:, 1:]


def _scores(hidden: Tensor, head: Any, targets: Tensor) -> Tensor:
    """hidden (N, H), targets (N,) -> log-probabilities (N,) of the targets; no gradient flows into the head."""
    scores: Tensor = _TokenLogps.apply(hidden, head.weight.detach(), head.bias, targets)  # type: ignore[no-untyped-call]
    return scores


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """(R, T) and its mask -> (R,). A completion always holds its end token, so no row is empty."""
    return (values * mask).sum(dim=1) / mask.sum(dim=1)


def _at_least_float32(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


class _TokenLogps(torch.autograd.Function):
    """Log-probability of one target token per hidden state, with a frozen output matrix, block by block.

    The gradient of log p(y) with respect to the hidden state is W[y] - softmax(h W^T) W, whatever the loss is. It is
    formed in the forward pass while a block's logits are at hand, so they need neither be kept nor be made again.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
        """hidden (N, H), weight (V, H), bias (V,) or None, targets (N,) -> (N,) log-probabilities."""
        logps = torch.empty(len(hidden), dtype=_at_least_float32(hidden[:0]).dtype, device=hidden.device)
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        block = max(16, _LOGIT_BLOCK_BYTES // (weight.shape[0] * logps.element_size()))
        for start in range(0, len(hidden), block):
            part = slice(start, start + block)
            logits = _at_least_float32(torch.nn.functional.linear(hidden[part], weight, bias))
            logits -= logits.logsumexp(dim=1, keepdim=True)
            logps[part] = logits.gather(1, targets[part, None]).squeeze(1)
            if gradient is not None:
                gradient[part] = weight[targets[part]] - logits.exp_().to(weight.dtype) @ weight
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return logps

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, None, None, None]:
        """upstream (N,) -> the gradient (N, H) of the hidden states; the output matrix gets none."""
        (gradient,) = ctx.saved_tensors
        return upstream[0].to(gradient.dtype)[:, None] * gradient, None, None, None
