"""One optimiser step's rows scored by the run's loss, in parts that fit into memory; with or without learning."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor

from alignment.losses.registry import Loss, Losses
from alignment.step.batch import Single, StepBatch, collate, to_device
from alignment.step.pair_step import PairStep
from alignment.training.batches import Planned, TokenBudget
from alignment.training.records import Metrics


class RowScorer:
    """Scores rows under a model by one loss."""

    def __init__(self, step: PairStep, loss: Loss, parameters: Mapping[str, float | str], budget: TokenBudget) -> None:
        self.budget = budget
        self._step, self._loss, self._parameters = step, loss, parameters

    def score(self, model: Any, rows: Sequence[Planned], *, learn: bool) -> Metrics:
        """`loss` and what it is made of, each the mean over the rows of all workers; `learn` adds up gradients.

        Several workers each score rows of their own and end with the gradient of all of them.
        """
        count = len(rows) * _workers()
        extra = {"baseline": self._baseline(model, rows, count)} if self._loss.needs_baseline else {}
        sums: dict[str, Tensor] = {}
        for part in self.budget.split(rows):
            batch = to_device(collate([one.row for one in part]), model.device)
            with self._step.held(model), torch.set_grad_enabled(learn):
                losses = self._losses(model, batch, extra)
                loss = (batch["weights"] * losses.per_row).sum() / count
                if learn:
                    torch.autograd.backward(loss)
            figures = {"loss": loss, **{name: values.sum() / count for name, values in losses.metrics.items()}}
            for name, value in figures.items():
                sums[name] = sums.get(name, 0.0) + value.detach()
        if learn:
            _add_up([parameter.grad for parameter in model.parameters() if parameter.requires_grad])
        values = torch.stack([value.float() for value in sums.values()])
        _add_up([values])
        return dict(zip(sums, values.tolist(), strict=True))

    def _losses(self, model: Any, batch: StepBatch, extra: Mapping[str, Tensor]) -> Losses:
        logps = self._step.logps(
            model,
            batch,
            prompt=self._loss.needs_prompt(self._parameters),
            reference=self._loss.needs_reference,
            divergence=self._loss.needs_divergence,
        )
        return self._loss.function(logps, **self._parameters, **extra)

    @torch.no_grad()
    def _baseline(self, model: Any, rows: Sequence[Planned], count: int) -> Tensor:
        """KTO's z0: the mean log-ratio of each prompt with the answer to the next one, at least 0."""
        total = torch.zeros((), device=model.device)
        for part in self.budget.split([Planned(mismatched(one), one.next) for one in rows]):
            batch = to_device(collate([one.row for one in part]), model.device)
            logps = self._step.logps(model, batch, reference=True)
            assert logps.reference is not None
            total = total + (logps.chosen.sums - logps.reference.chosen.sums).sum() / count
        _add_up([total])
        return total.clamp(min=0)


def mismatched(planned: Planned) -> Single:
    """The row's prompt with the next row's answer."""
    row, other = planned
    assert isinstance(row, Single)
    assert isinstance(other, Single)
    return dataclasses.replace(row, completion=other.completion, unscored=other.unscored)  # type: ignore[type-var]


def _workers() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def _add_up(tensors: Sequence[Tensor | None]) -> None:
    """Replace each tensor by its sum over all workers; one message for all of them."""
    if _workers() == 1:
        return
    given = [tensor for tensor in tensors if tensor is not None]
    flat = torch.cat([tensor.reshape(-1) for tensor in given])
    distributed.all_reduce(flat)
    start = 0
    for tensor in given:
        tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
        start += tensor.numel()
