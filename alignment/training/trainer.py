"""transformers' Trainer with our step: it keeps optimiser, schedule and checkpoints; what a step computes is ours."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer

from alignment.errors import TrainingDiverged
from alignment.step.batch import tokens_of
from alignment.training.batches import Planned
from alignment.training.exhaustion import is_out_of_memory
from alignment.training.guard import DivergenceGuard
from alignment.training.records import Metrics
from alignment.training.schedule import Schedule, rate_share
from alignment.training.scoring import RowScorer


class PairTrainer(Trainer):  # type: ignore[misc]  # transformers is not followed by the type checker
    """Runs steps of planned rows and logs what each loss is made of."""

    def __init__(self, *, scorer: RowScorer, guard: DivergenceGuard, plan: Schedule, **trainer_arguments: Any) -> None:
        super().__init__(data_collator=_as_they_are, **trainer_arguments)
        # Workers add up their gradients in the scorer: the model is called part by part, not through one wrapper.
        self.accelerator.prepare_model = _unwrapped
        self.scorer = scorer
        self.guard = guard
        self._plan = plan
        self._step_metrics: Metrics = {}
        self._step_started = time.monotonic()
        self._step_tokens = 0

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LambdaLR:
        """The learning rate by step, as `rate_share` says."""
        share = partial(rate_share, steps=self._plan.steps, warmup_steps=self._plan.warmup_steps)
        self.lr_scheduler = LambdaLR(optimizer or self.optimizer, share)
        return self.lr_scheduler

    def training_step(self, model: Any, inputs: dict[str, list[Planned]], *_: Any) -> torch.Tensor:
        """Gradients and loss of one step; smaller parts when memory runs out. Raises `TrainingDiverged`."""
        model.train()
        rows = inputs["rows"]
        while True:
            noise = _noise_state()
            try:
                metrics = self.scorer.score(model, rows, learn=True)
                break
            except Exception as error:
                if not is_out_of_memory(error) or self.args.world_size > 1:
                    raise
            model.zero_grad()
            _restore_noise(noise)
            self.scorer.budget.shrink(rows)
        self.guard.check(metrics, self.state.global_step + 1)
        self._step_metrics = metrics
        self._step_tokens = sum(tokens_of(one.row) for one in rows) * self.args.world_size
        return torch.tensor(metrics["loss"], device=model.device)

    def log(self, logs: Metrics, start_time: float | None = None) -> None:
        """Add what the loss was made of, and the pace, to the trainer's own figures."""
        if "loss" in logs:
            seconds = time.monotonic() - self._step_started
            pace = {
                "pairs_per_second": self._plan.pairs_per_step / seconds,
                "tokens_per_second": self._step_tokens / seconds,
            }
            self.state.epoch = self._epoch()  # to the trainer, the whole plan is one pass
            logs = {**logs, **self._step_metrics, **pace}
            self.guard.check({"grad_norm": logs["grad_norm"]}, self.state.global_step)
        super().log(logs, start_time)
        self._step_started = time.monotonic()

    def check_finite(self) -> None:
        """The losses of a step are those before its update; what the update made of the adapter is seen here."""
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad and not parameter.isfinite().all():
                raise TrainingDiverged(
                    f"{name} is no longer finite after step {self.state.global_step}; lower the learning rate"
                )

    def _epoch(self) -> float:
        return float(self.state.global_step / self._plan.steps_per_epoch)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """The adapter alone: not the pickled arguments, which the trainer writes but never reads back."""
        self.check_finite()
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save_pretrained(str(folder), state_dict=state_dict, save_embedding_layers=False)


def _as_they_are(rows: list[Planned]) -> dict[str, list[Planned]]:
    return {"rows": rows}


def _unwrapped(model: Any, **_: Any) -> Any:
    return model


def _noise_state() -> tuple[Any, Any]:
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None


def _restore_noise(state: tuple[Any, Any]) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state_all(state[1])
