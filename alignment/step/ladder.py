"""Which rung scores a model: the fastest one that says the same of one pair as the padded rows do."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from alignment.step.batch import StepBatch

Score = Callable[[StepBatch], Tensor]
"""Log-probabilities (N,) of a batch's targets."""

_ALLOWED = {torch.float64: 1e-5, torch.float32: 1e-3, torch.bfloat16: 0.2, torch.float16: 0.05}
"""How far a log-probability may lie from the padded one, in nats; a rung that is wrong is off by far more. Models in
float64 too compute their norms in float32."""
_ALLOWED_GRADIENT = {torch.float64: 1e-5, torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.05}
"""How far gradients may lie apart, as a share of their length."""


def why_not(model: Any, fast: Score, padded: Score, batch: StepBatch) -> str | None:
    """Why the fast rung does not do for this model; None if it agrees with the padded one."""
    dtype = next(model.parameters()).dtype
    was_training = model.training
    model.eval()
    try:
        ours, theirs = fast(batch), padded(batch)
        apart = float((ours - theirs).detach().abs().max())
        if not apart <= _ALLOWED.get(dtype, 1e-3):
            return f"log-probabilities differ by {apart:.2g} nats"
        off = _gradients_apart(model, ours, theirs)
        return f"gradients differ by {100 * off:.2g} %" if off > _ALLOWED_GRADIENT.get(dtype, 1e-3) else None
    except Exception as error:  # whatever a model does not know how to do: the padded rung is always right
        return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    finally:
        model.train(was_training)


def _gradients_apart(model: Any, ours: Tensor, theirs: Tensor) -> float:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained or not ours.requires_grad:
        return 0.0
    sides = [torch.autograd.grad(side.sum(), trained, allow_unused=True) for side in (ours, theirs)]
    pairs = [(one, other) for one, other in zip(*sides, strict=True) if one is not None and other is not None]
    if len(pairs) < sum(other is not None for other in sides[1]):
        return 1.0
    difference = sum(float((one - other).double().square().sum()) for one, other in pairs)
    length = sum(float(other.double().square().sum()) for _, other in pairs)
    return float((difference / length) ** 0.5) if length else 0.0
