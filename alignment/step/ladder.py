"""Which rung scores a model: the first that says the same of a trial batch as the padded rows do."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from alignment.step.batch import Lengths, StepBatch
from alignment.step.rungs import PADDED, RUNGS

log = logging.getLogger(__name__)

Score = Callable[[str, StepBatch], Tensor]
"""Log-probabilities (N,) of a batch's targets on the rung of that name."""

_ALLOWED = {torch.float64: 1e-5, torch.float32: 1e-3, torch.bfloat16: 0.2, torch.float16: 0.05}
"""How far a log-probability may lie from the padded one, in nats; a rung that is wrong is off by far more. Models in
float64 too compute their norms in float32."""
_ALLOWED_GRADIENT = {torch.float64: 1e-5, torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.05}
"""How far gradients may lie apart, as a share of their length."""
_TRIAL_WINDOW = 16
"""Sliding windows are this short during the trial, so that a short trial shows whether a rung keeps to them."""


class Choice(NamedTuple):
    """The rung taken, and in words why that and none before it."""

    rung: str
    reason: str


def choose(model: Any, candidates: Sequence[str], score: Score, batch: StepBatch) -> Choice:
    """Try the rungs in their order on the batch; the first that agrees with the padded one is taken."""
    refused: list[str] = []
    was_training = model.training
    model.eval()
    try:
        padded = _Scored.of(model, score, PADDED, batch)
        for name in candidates:
            reason = _why_not(model, score, name, batch, padded)
            if reason is None:
                return Choice(name, _taken(name, refused))
            log.info("rung_refused", extra={"rung": name, "reason": reason})
            refused.append(f"not {name}: {reason}")
    finally:
        model.train(was_training)
    return Choice(PADDED, _taken(PADDED, refused))


def trial_batch(vocabulary: int, device: torch.device) -> StepBatch:
    """Two pairs of arbitrary tokens; where it costs little, longer than the blocks that GPU kernels work in."""
    prompt = 24 if device.type == "cpu" else 160
    lengths = [Lengths(prompt, 9, 13), Lengths(5, 7, 4)]
    tokens = sum(one.total for one in lengths)
    return StepBatch(
        input_ids=torch.randint(vocabulary, (tokens,), generator=torch.Generator().manual_seed(0)).to(device),
        lengths=lengths,
        weights=torch.ones(2, device=device),
        desirable=torch.ones(2, dtype=torch.bool, device=device),
    )


@contextmanager
def short_windows(causal: Any) -> Iterator[None]:
    """While it lasts, no sliding window of the model is longer than a few tokens."""
    holders: dict[int, Any] = {
        id(one): one for module in causal.modules() for one in (module, getattr(module, "config", None))
    }
    before = [(one, window) for one in holders.values() if (window := _window_of(one)) > _TRIAL_WINDOW]
    for holder, _ in before:
        holder.sliding_window = _TRIAL_WINDOW
    try:
        yield
    finally:
        for holder, window in before:
            holder.sliding_window = window


def _window_of(holder: Any) -> int:
    window = getattr(holder, "__dict__", {}).get("sliding_window")
    return window if isinstance(window, int) else 0


class _Scored(NamedTuple):
    """A batch on one rung: its log-probabilities (N,), and their gradients if the model learns."""

    logps: Tensor
    gradients: list[Tensor | None]

    @classmethod
    def of(cls, model: Any, score: Score, name: str, batch: StepBatch) -> "_Scored":
        """Raises whatever the model raises."""
        logps = score(name, batch)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not trained or not logps.requires_grad:
            return cls(logps.detach(), [])
        return cls(logps.detach(), list(torch.autograd.grad(logps.sum(), trained, allow_unused=True)))


def _why_not(model: Any, score: Score, name: str, batch: StepBatch, padded: _Scored) -> str | None:
    """Why the rung does not do for this model; None if it agrees with the padded one."""
    try:
        ours = _Scored.of(model, score, name, batch)
    except Exception as error:  # whatever a model does not know how to do: the padded rung is always right
        return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    dtype = model.dtype
    apart = float((ours.logps - padded.logps).abs().max())
    if not apart <= _ALLOWED.get(dtype, 1e-3):
        return f"log-probabilities differ by {apart:.2g} nats"
    off = _gradients_apart(ours.gradients, padded.gradients)
    return None if off <= _ALLOWED_GRADIENT.get(dtype, 1e-3) else f"gradients differ by {100 * off:.2g} %"


def _gradients_apart(ours: Sequence[Tensor | None], theirs: Sequence[Tensor | None]) -> float:
    """The length of the difference as a share of the length of theirs; 1 if ours lack one."""
    pairs = [(one, other) for one, other in zip(ours, theirs, strict=True) if one is not None and other is not None]
    if len(pairs) < sum(other is not None for other in theirs):
        return 1.0
    difference = sum(float((one - other).double().square().sum()) for one, other in pairs)
    length = sum(float(other.double().square().sum()) for _, other in pairs)
    return float((difference / length) ** 0.5) if length else 0.0


def _taken(name: str, refused: Sequence[str]) -> str:
    means = RUNGS[name].means
    if name == PADDED:
        return f"{means}: {'; '.join(refused)}"
    return "; ".join([f"{means} ({name}): a trial pair came out as it does padded", *refused])
