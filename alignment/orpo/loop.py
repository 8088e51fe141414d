"""Train an adapter with ORPO: transformers' Trainer around our step, with checkpoints that survive a kill."""

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import PrinterCallback, Trainer, TrainingArguments
from transformers.integrations import TensorBoardCallback

from alignment.adapter.attach import attach_adapter, save_adapter
from alignment.errors import NotEnoughPairs, TrainingDiverged, TrainingStopped
from alignment.orpo.checkpoints import newest_complete, step_of
from alignment.orpo.loss import OrpoLoss, orpo_loss
from alignment.orpo.records import METRICS_FILE, Metrics, read_metrics
from alignment.orpo.schedule import Schedule, rate_share, schedule
from alignment.orpo.watch import (
    CHECKPOINT_SECONDS,
    Bar,
    Checkpoints,
    MetricsFile,
    OnProgress,
    Reporter,
    ShouldStop,
)
from alignment.pairs.render import TokenPair
from alignment.step.batch import StepBatch
from alignment.step.pair_step import PairStep
from alignment.step.results import StepLogps
from gateway.contracts.release import BaseModelRef
from gateway.contracts.training import TrainingOptions

ADAPTER_FOLDER = "adapter"


@dataclass(frozen=True, slots=True)
class Trained:
    """What a finished run leaves: an adapter, and how it went."""

    adapter: Path
    schedule: Schedule
    step: str
    """How its batches were scored, and why so."""
    last: Metrics
    """The metrics of the last step."""
    seconds: float
    """Of this process; a resumed run took longer in all."""


def train_adapter(
    model: Any,
    pairs: Sequence[TokenPair],
    options: TrainingOptions,
    base: BaseModelRef,
    folder: Path,
    *,
    pad_id: int,
    on_progress: OnProgress = lambda metrics: None,
    should_stop: ShouldStop = lambda: False,
    bar: bool = False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Trained:
    """Train on `pairs` and leave the adapter in `folder`/adapter; resumes from the newest whole checkpoint there.

    `folder` also gets `metrics.jsonl` (a line a step), `tensorboard/` and `checkpoint-*/`. With equal pairs, options
    and thread count the result on a CPU is the same to the byte, whether or not the run was interrupted.
    Raises `NotEnoughPairs`, `TrainingDiverged`, or `TrainingStopped` once `should_stop` answered true.
    """
    if not pairs:
        raise NotEnoughPairs("no pair is left to train on; add pairs, or raise max_length_tokens if all were too long")
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = newest_complete(folder)
    plan = schedule(options, len(pairs))
    torch.manual_seed(options.seed)
    adapted = attach_adapter(model, base, options)
    step = PairStep(adapted, pad_id)
    watch = Checkpoints(should_stop, checkpoint_seconds)
    trainer = OrpoTrainer(
        model=adapted,
        args=_arguments(options, plan, folder),
        train_dataset=_with_mean_weight_1(pairs),
        data_collator=step.collate,
        callbacks=[watch, Reporter(on_progress), *_records(folder, checkpoint), *([Bar()] if bar else [])],
        step=step,
        options=options,
        plan=plan,
    )
    trainer.remove_callback(PrinterCallback)
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if watch.stopped:
        raise TrainingStopped(f"stopped after step {trainer.state.global_step} of {plan.steps}, as asked")
    save_adapter(adapted, base, folder / ADAPTER_FOLDER)
    last = read_metrics(folder / METRICS_FILE)[-1]
    return Trained(folder / ADAPTER_FOLDER, plan, step.reason, last, time.monotonic() - started)


class OrpoTrainer(Trainer):  # type: ignore[misc]  # transformers is not followed by the type checker
    """transformers' Trainer with the ORPO loss of a batch of pairs, which logs what the loss is made of."""

    def __init__(self, *, step: PairStep, options: TrainingOptions, plan: Schedule, **trainer_arguments: Any) -> None:
        super().__init__(**trainer_arguments)
        self.loss_is_scaled_for_ga = False  # the loss is a mean over the batch
        self._step = step
        self._plan = plan
        self._options = options
        self._step_metrics: Metrics = {}
        self._step_started = time.monotonic()

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LambdaLR:
        """The learning rate by step, as `rate_share` says."""
        share = partial(rate_share, steps=self._plan.steps, warmup_steps=self._plan.warmup_steps)
        self.lr_scheduler = LambdaLR(optimizer or self.optimizer, share)
        return self.lr_scheduler

    def compute_loss(self, model: Any, inputs: StepBatch, *_: Any, **__: Any) -> torch.Tensor:
        """Scalar loss of one batch. Raises `TrainingDiverged` if it is not finite."""
        logps = self._step.logps(model, inputs, prompt=self._options.nll == "prompt_and_chosen")
        chosen, rejected, nll = logps.chosen.means, logps.rejected.means, likelihood(logps)
        loss = orpo_loss(chosen, rejected, nll, self._options.lambda_, inputs["weights"])
        if not math.isfinite(loss.total.item()):
            raise TrainingDiverged(
                f"the loss became {loss.total.item()} at step {self.state.global_step + 1}; "
                "lower the learning rate, or look for broken pairs near that step in the metrics file"
            )
        self._step_metrics = step_metrics(logps, loss, self._options.lambda_)
        return loss.total

    def log(self, logs: Metrics, start_time: float | None = None) -> None:
        """Add what the loss was made of, and the pace, to the trainer's own figures."""
        if "loss" in logs:
            now = time.monotonic()
            pace = self._options.pairs_per_step / (now - self._step_started)
            logs = {**logs, **self._step_metrics, "pairs_per_second": pace}
        super().log(logs, start_time)
        self._step_started = time.monotonic()

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        # The adapter alone: not the pickled arguments, which the trainer writes but never reads back.
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save_pretrained(str(folder), state_dict=state_dict, save_embedding_layers=False)


def likelihood(logps: StepLogps) -> torch.Tensor:
    """Mean negative log-likelihood (P,) of the chosen completion, and of the prompt too if it was scored."""
    if logps.prompt is None:
        return -logps.chosen.means
    return -(logps.prompt.sums + logps.chosen.sums) / (logps.prompt.counts + logps.chosen.counts)


@torch.no_grad()
def step_metrics(logps: StepLogps, loss: OrpoLoss, lambda_: float) -> Metrics:
    """Means over the batch. `nll` and `log_odds_ratio` in nats; rewards are lambda times mean log-probabilities."""
    chosen, rejected = lambda_ * logps.chosen.means, lambda_ * logps.rejected.means
    return {
        "nll": likelihood(logps).mean().item(),
        "log_odds_ratio": loss.log_odds_ratio.mean().item(),
        "rewards/chosen": chosen.mean().item(),
        "rewards/rejected": rejected.mean().item(),
        "rewards/accuracy": (logps.chosen.means > logps.rejected.means).float().mean().item(),
        "rewards/margin": (chosen - rejected).mean().item(),
    }


def _arguments(options: TrainingOptions, plan: Schedule, folder: Path) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=plan.steps,
        per_device_train_batch_size=options.pairs_per_step,
        learning_rate=plan.learning_rate,
        weight_decay=0.0,
        max_grad_norm=1.0,
        optim="adamw_torch",
        seed=options.seed,
        data_seed=options.seed,
        use_cpu=options.device == "cpu" or (options.device == "auto" and not torch.cuda.is_available()),
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",  # `Checkpoints` asks for them by time
        save_total_limit=2,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=[],
        dataloader_pin_memory=False,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # data parallel threads would bypass our step
    return arguments


def _records(folder: Path, checkpoint: Path | None) -> list[Any]:
    # Imported late: tensorboard costs half a second, and only a run needs it.
    from torch.utils.tensorboard import SummaryWriter

    step = step_of(checkpoint) if checkpoint else 0
    writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
    return [MetricsFile(folder / METRICS_FILE, step), TensorBoardCallback(writer)]


def _with_mean_weight_1(pairs: Sequence[TokenPair]) -> list[TokenPair]:
    """The pairs with their weights scaled to a mean of 1, so that trust does not change the learning rate."""
    mean = sum(pair.weight for pair in pairs) / len(pairs)
    return [dataclasses.replace(pair, weight=pair.weight / mean) for pair in pairs]
