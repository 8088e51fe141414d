"""What a model does between its last hidden state and its logits, found out by looking at its own logits.

Nearly all multiply by the output matrix and are done. Some scale the products (Cohere, Granite), some cap them (Gemma
2): both can be done block by block. A head that does anything else is left to the model itself, with all of its logits.
"""

from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from alignment.step.products import linear
from alignment.step.vocabulary import at_least_float32, token_divergence, token_logps

_SCALES = ("logit_scale", "logits_scaling", "lm_head_multiplier")
_CAP = "final_logit_softcapping"
_ALLOWED = {torch.float64: 1e-5, torch.float32: 1e-4}
"""How far understood logits may lie from the model's own, as a share of their length; 0.05 in half precision."""
_PROBE_TOKENS = 8
_LOGIT_BLOCK_BYTES = 64 << 20


class Finish(NamedTuple):
    """What becomes of the products z of the output matrix: cap * tanh(scale * z / cap), or scale * z without a cap."""

    scale: float = 1.0
    cap: float | None = None

    def of(self, products: Tensor) -> Tensor:
        """Logits of the products, element by element."""
        scaled = products if self.scale == 1 else products * self.scale
        return scaled if self.cap is None else self.cap * torch.tanh(scaled / self.cap)


def possible_finishes(config: Any) -> list[Finish]:
    """What a model with these settings may do, the likeliest first: models use one name for a factor and a divisor."""
    factors = [float(value) for name in _SCALES if (value := getattr(config, name, None))]
    cap = getattr(config, _CAP, None)
    scales = dict.fromkeys([scale for factor in factors for scale in (factor, 1 / factor)] + [1.0])
    return [Finish(scale, limit) for limit, scale in product(([float(cap)] if cap else []) + [None], scales)]


@torch.no_grad()
def finish_of(causal: Any, body: Any) -> Finish | None:
    """The finish that gives the model's own logits of a few tokens; None if there is none."""
    caught: list[Any] = []
    was_training = causal.training
    causal.eval()
    try:
        hook = body.register_forward_hook(lambda _module, _given, said: caught.append(said.last_hidden_state))
        try:
            config = causal.config.get_text_config()
            ids = torch.arange(1, _PROBE_TOKENS + 1, device=causal.device)[None] % config.vocab_size
            logits = causal(input_ids=ids, use_cache=False).logits[0].double()
        finally:
            hook.remove()
        head = causal.get_output_embeddings()
        products = at_least_float32(linear(caught[-1][0], head.weight, head.bias)).double()
        apart = [(float((one.of(products) - logits).norm()), one) for one in possible_finishes(config)]
        nearest, finish = min(apart, key=lambda entry: entry[0])
        return finish if nearest <= _ALLOWED.get(causal.dtype, 0.05) * float(logits.norm()) else None
    except Exception:  # whatever this head is, it is not one of ours
        return None
    finally:
        causal.train(was_training)


def head_logps(hidden: Tensor, head: Any, finish: Finish, targets: Tensor) -> Tensor:
    """hidden (N, H), targets (N,) -> log-probabilities (N,) of the targets; no gradient flows into the head."""
    if finish == Finish():
        return token_logps(hidden, head, targets)

    def block(hidden: Tensor, targets: Tensor) -> Tensor:
        return _logits(hidden, head, finish).log_softmax(1).gather(1, targets[:, None]).squeeze(1)

    return _in_blocks(block, head, hidden, targets)


def head_divergence(hidden: Tensor, reference: Tensor, head: Any, finish: Finish) -> Tensor:
    """hidden, reference (N, H) -> KL(p || p_ref) (N,) in nats over the whole vocabulary; gradient to hidden alone."""
    if finish == Finish():
        return token_divergence(hidden, reference, head)

    def block(hidden: Tensor, reference: Tensor) -> Tensor:
        return divergence(_logits(hidden, head, finish), _logits(reference, head, finish))

    return _in_blocks(block, head, hidden, reference)


def divergence(own: Tensor, other: Tensor) -> Tensor:
    """KL (N,) in nats of the distributions that logits (N, V) stand for."""
    p, q = own.log_softmax(1), other.log_softmax(1)
    return (p.exp() * (p - q)).sum(1)


def _logits(hidden: Tensor, head: Any, finish: Finish) -> Tensor:
    bias = None if head.bias is None else head.bias.detach()
    return finish.of(at_least_float32(linear(hidden, head.weight.detach(), bias)))


def _in_blocks(block: Callable[[Tensor, Tensor], Tensor], head: Any, *sides: Tensor) -> Tensor:
    """The block of every few rows, made again in the backward pass, so that no more logits than those are kept."""
    row_bytes = head.weight.shape[0] * at_least_float32(sides[0][:0]).element_size()
    rows = max(16, _LOGIT_BLOCK_BYTES // row_bytes)
    parts = zip(*(torch.split(side, rows) for side in sides), strict=True)
    return torch.cat([checkpoint(block, *part, use_reentrant=False) for part in parts])
