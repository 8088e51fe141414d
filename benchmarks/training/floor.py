"""The least arithmetic that a step must do, and how fast this machine multiplies matrices: the floor under any trainer.

Counted: every linear layer of the body forward, and backward with respect to what comes in (its own weights are
frozen), the adapter forward and backward, attention over what each token may see, and the output matrix once forward
and once backward for the tokens that are scored. Each prompt once. Not counted: norms, activations, the optimiser.
"""

import time
from collections.abc import Sequence
from typing import Any

import torch

from alignment.step.batch import Pair
from alignment.step.products import times

_MATRIX = 2048


def least_flops(config: Any, pairs: Sequence[Pair], rank: int, score_prompts: bool) -> float:
    """Floating-point operations of one pass over the pairs, multiplications and additions counted apart."""
    tokens = sum(len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in pairs)
    scored = sum(len(pair.chosen) + len(pair.rejected) + (len(pair.prompt) - 1) * score_prompts for pair in pairs)
    body, adapter = _weights(config, rank)
    linear = tokens * (2 * body + 2 * body + 2 * adapter + 4 * adapter)
    head = scored * 4 * config.vocab_size * config.hidden_size
    return float(linear + head + sum(_attention(config, pair) for pair in pairs))


def matmul_peak(device: str, dtype: torch.dtype, seconds: float = 3.0) -> float:
    """Operations a second of a large matrix product: the best of those that fit into the time."""
    size = _MATRIX if device == "cpu" else 4 * _MATRIX
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        times(left, right)
        if device != "cpu":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def _weights(config: Any, rank: int) -> tuple[int, int]:
    """Numbers in the linear layers of the body, and in their adapters."""
    hidden, inner = config.hidden_size, config.intermediate_size
    head = getattr(config, "head_dim", None) or hidden // config.num_attention_heads
    queries, keys = config.num_attention_heads * head, config.num_key_value_heads * head
    shapes = [(hidden, queries), (hidden, keys), (hidden, keys), (queries, hidden)]
    shapes += [(hidden, inner), (hidden, inner), (inner, hidden)]
    layers = config.num_hidden_layers
    return layers * sum(a * b for a, b in shapes), layers * rank * sum(a + b for a, b in shapes)


def _attention(config: Any, pair: Pair) -> float:
    """Scores and weighted values forward (2 products), and the four products of their gradients."""
    prompt, chosen, rejected = len(pair.prompt), len(pair.chosen), len(pair.rejected)
    seen = (prompt + chosen) * (prompt + chosen + 1) / 2 + rejected * prompt + rejected * (rejected + 1) / 2
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return float(config.num_hidden_layers * (2 + 4) * 2 * seen * config.num_attention_heads * head)
