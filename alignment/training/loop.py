"""Train an adapter: transformers' Trainer around our step, with checkpoints that survive a kill."""

import dataclasses
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainingArguments
from transformers.integrations import TensorBoardCallback

from alignment.adapter.attach import attach_adapter, save_adapter
from alignment.errors import NotEnoughPairs, TrainingDiverged, TrainingStopped, UnfitModel
from alignment.losses.catalogue import find_loss
from alignment.step.pair_step import PairStep
from alignment.training.batches import PlannedRows, Row, TokenBudget, auto_tokens
from alignment.training.checkpoints import newest_complete, step_of
from alignment.training.guard import DivergenceGuard
from alignment.training.holdout import BEST_FOLDER, Holdout
from alignment.training.records import METRICS_FILE, Metrics, read_metrics
from alignment.training.schedule import Schedule, schedule
from alignment.training.scoring import RowScorer
from alignment.training.trainer import PairTrainer
from alignment.training.watch import (
    CHECKPOINT_SECONDS,
    Bar,
    Checkpoints,
    MetricsFile,
    OnProgress,
    Reporter,
    ShouldStop,
)
from gateway.contracts.release import BaseModelRef
from gateway.contracts.training import TrainingOptions

ADAPTER_FOLDER = "adapter"
_BUDGET_FILE = "tokens_per_batch.json"
_EVALUATIONS = 10
"""How often a run with held-out rows evaluates, unless it is told."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What a finished run leaves: an adapter, and how it went."""

    adapter: Path
    schedule: Schedule
    reasons: tuple[str, ...]
    """Why the numbers of the run are what they are, how batches were scored, and what happened on the way."""
    last: Metrics
    """The metrics of the last step."""
    best: Metrics | None
    """The best evaluation on held-out rows; its adapter is the one that was kept."""
    seconds: float
    """Of this process; a resumed run took longer in all."""


@dataclass(frozen=True, slots=True)
class Watching:
    """What is told of a run while it goes, and how often it is saved."""

    on_progress: OnProgress = lambda metrics: None
    should_stop: ShouldStop = lambda: False
    bar: bool = False
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    callbacks: tuple[Any, ...] = ()
    """transformers' callbacks, called beside ours."""
    report_to: tuple[str, ...] = ()
    """Further reporters of transformers by name (`wandb`, `mlflow`); TensorBoard and JSON lines are always written."""


def train_adapter(
    model: Any,
    rows: Sequence[Row],
    options: TrainingOptions,
    base: BaseModelRef,
    folder: Path,
    *,
    pad_id: int,
    holdout: Sequence[Row] = (),
    watching: Watching | None = None,
) -> Trained:
    """Train on `rows` and leave the adapter in `folder`/adapter; resumes from the newest whole checkpoint there.

    `folder` also gets `metrics.jsonl` (a line a step), `tensorboard/` and `checkpoint-*/`, and with rows held out
    `holdout.jsonl`. With equal rows, options and thread count the result on a CPU is the same to the byte, whether or
    not the run was interrupted.
    Raises `NotEnoughPairs`, `TrainingDiverged`, `OutOfMemory`, or `TrainingStopped` once `should_stop` answered true.
    """
    if not rows:
        raise NotEnoughPairs("no pair is left to train on; add pairs, or raise max_length_tokens if all were too long")
    watching = watching or Watching()
    folder.mkdir(parents=True, exist_ok=True)
    plan = schedule(options, len(rows), model.num_parameters())
    checkpoint = newest_complete(folder)
    torch.manual_seed(options.seed)
    adapted = attach_adapter(model, base, options)
    trainer, watchers = _prepared(adapted, rows, options, plan, folder, pad_id, holdout, watching, checkpoint)
    started = time.monotonic()
    budget = trainer.scorer.budget.tokens
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except TrainingDiverged as error:
        raise TrainingDiverged(f"{error.message}. {_last_good(folder)}") from error
    if watchers.checkpoints.stopped:
        raise TrainingStopped(f"stopped after step {trainer.state.global_step} of {plan.steps}, as asked")
    if trainer.is_world_process_zero():
        _finish(adapted, base, folder, watchers.holdout)
    return Trained(
        adapter=folder / ADAPTER_FOLDER,
        schedule=plan,
        reasons=(*plan.reasons, watchers.step.reason, *_happened(trainer, budget, watchers.holdout)),
        last=read_metrics(folder / METRICS_FILE)[-1],
        best=watchers.holdout.best() if watchers.holdout else None,
        seconds=time.monotonic() - started,
    )


@dataclass(frozen=True, slots=True)
class _Watchers:
    step: PairStep
    checkpoints: Checkpoints
    holdout: Holdout | None


def _prepared(
    adapted: Any,
    rows: Sequence[Row],
    options: TrainingOptions,
    plan: Schedule,
    folder: Path,
    pad_id: int,
    holdout: Sequence[Row],
    watching: Watching,
    checkpoint: Path | None,
) -> tuple[PairTrainer, _Watchers]:
    """The trainer, and those around it whose word is asked for at the end."""
    arguments = _arguments(options, plan, folder, watching.report_to)
    if options.gradient_checkpointing:
        adapted.enable_input_require_grads()
    adapted.to(arguments.device)
    step = PairStep(adapted, pad_id, options.neftune_alpha)
    budget = TokenBudget(_tokens_per_batch(options, adapted, folder))
    scorer = RowScorer(step, find_loss(options.method), options.loss_parameters, budget)
    done = step_of(checkpoint) if checkpoint else 0
    every = options.evaluate_every or max(1, plan.steps // _EVALUATIONS)
    watch = _Watchers(
        step,
        Checkpoints(watching.should_stop, watching.checkpoint_seconds),
        Holdout(scorer, holdout, folder, every, options.early_stop, done) if holdout else None,
    )
    trainer = PairTrainer(
        model=adapted,
        args=arguments,
        train_dataset=PlannedRows(_with_mean_weight_1(rows), plan.steps, plan.pairs_per_step, options.seed),
        callbacks=[*_callbacks(watching, arguments, folder, done), watch.checkpoints, *watching.callbacks],
        scorer=scorer,
        guard=DivergenceGuard(adapted.config.get_text_config().vocab_size),
        plan=plan,
    )
    if watch.holdout:
        trainer.add_callback(watch.holdout)
    trainer.remove_callback(PrinterCallback)
    return trainer, watch


def _arguments(options: TrainingOptions, plan: Schedule, folder: Path, report_to: Sequence[str]) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=plan.steps,
        learning_rate=plan.learning_rate,
        weight_decay=0.0,
        max_grad_norm=1.0,
        optim="adamw_torch",
        seed=options.seed,
        data_seed=options.seed,
        train_sampling_strategy="sequential",  # the plan is in order already
        use_cpu=options.device == "cpu" or (options.device == "auto" and not torch.cuda.is_available()),
        gradient_checkpointing=options.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",  # `Checkpoints` asks for them by time
        save_total_limit=2,
        report_to=list(report_to),
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=[],
        dataloader_pin_memory=False,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # data parallel threads would bypass our step
    workers = arguments.world_size
    if plan.pairs_per_step % workers:
        raise UnfitModel(f"{plan.pairs_per_step} pairs a step cannot be shared evenly by {workers} workers")
    arguments.per_device_train_batch_size = plan.pairs_per_step // workers
    return arguments


def _callbacks(watching: Watching, arguments: TrainingArguments, folder: Path, done: int) -> list[Any]:
    """Whoever writes or shows something does so in the first worker only."""
    if arguments.process_index:
        return []
    # Imported late: tensorboard costs half a second, and only a run needs it.
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1)
    shown = [Bar()] if watching.bar else []
    return [
        Reporter(watching.on_progress),
        MetricsFile(folder / METRICS_FILE, done),
        TensorBoardCallback(writer),
        *shown,
    ]


def _tokens_per_batch(options: TrainingOptions, model: Any, folder: Path) -> int:
    """As asked; or as estimated when the run began, so that a resumed one adds its parts up in the same order."""
    if options.tokens_per_batch != "auto":
        return options.tokens_per_batch
    file = folder / _BUDGET_FILE
    if file.is_file():
        return int(json.loads(file.read_text()))
    tokens = auto_tokens(model.config, model.device)
    file.write_text(json.dumps(tokens))
    return tokens


def _finish(adapted: Any, base: BaseModelRef, folder: Path, holdout: Holdout | None) -> None:
    save_adapter(adapted, base, folder / ADAPTER_FOLDER)
    if holdout and (folder / BEST_FOLDER).is_dir():
        shutil.copyfile(folder / BEST_FOLDER / "adapter_model.safetensors",
                        folder / ADAPTER_FOLDER / "adapter_model.safetensors")  # fmt: skip
        shutil.rmtree(folder / BEST_FOLDER)


def _happened(trainer: PairTrainer, budget: int, holdout: Holdout | None) -> list[str]:
    happened = [f"at most {budget:,} tokens at a time"]
    if trainer.scorer.budget.tokens < budget:
        happened.append(f"memory ran out: from then on at most {trainer.scorer.budget.tokens:,} tokens at a time")
    best = holdout.best() if holdout else None
    if holdout and best:
        ended = f", and the run ended at step {trainer.state.global_step}" if holdout.stopped_early else ""
        happened.append(f"the adapter of step {best['step']:g} is kept: best on the held-out rows{ended}")
    return happened


def _last_good(folder: Path) -> str:
    checkpoint = newest_complete(folder)
    if checkpoint is None:
        return "No checkpoint had been written yet"
    return f"The last good adapter is that of step {step_of(checkpoint)}, in {checkpoint}"


def _with_mean_weight_1(rows: Sequence[Row]) -> list[Row]:
    """The rows with their weights scaled to a mean of 1, so that trust does not change the learning rate."""
    mean = sum(row.weight for row in rows) / len(rows)
    return [dataclasses.replace(row, weight=row.weight / mean) for row in rows]  # type: ignore[type-var]
