"""Put a run together: transformers' Trainer around our step, and whoever watches it."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers import PrinterCallback, TrainingArguments

from alignment.errors import UnfitModel
from alignment.files import write_whole
from alignment.losses.catalogue import find_loss
from alignment.step.pair_step import PairStep
from alignment.training.batches import PlannedRows, Row, TokenBudget, auto_tokens
from alignment.training.event_file import EventFile
from alignment.training.guard import DivergenceGuard
from alignment.training.holdout import Holdout
from alignment.training.progress import shown_on
from alignment.training.records import METRICS_FILE, Metrics
from alignment.training.schedule import Schedule
from alignment.training.scoring import RowScorer
from alignment.training.trainer import PairTrainer
from alignment.training.watch import Checkpoints, Curves, MetricsFile, Reporter, Watching
from gateway.contracts.training import TrainingOptions

_BUDGET_FILE = "tokens_per_batch.json"
_EVALUATIONS = 10
"""How often a run with held-out rows evaluates, unless it is told."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run: what is asked for, and where it stands."""

    options: TrainingOptions
    plan: Schedule
    folder: Path
    pad_id: int
    done: int
    """Steps that a checkpoint has already."""
    watching: Watching


@dataclass(frozen=True, slots=True)
class Prepared:
    """A trainer ready to run, and those whose word is asked for at the end."""

    trainer: PairTrainer
    step: PairStep
    checkpoints: Checkpoints
    holdout: Holdout | None
    tokens: int
    """Scored at once, unless memory runs out."""


def prepare(adapted: Any, rows: Sequence[Row], held_out: Sequence[Row], run: Run) -> Prepared:
    """Everything that trains `adapted` on the rows. Raises `UnfitModel` if the workers cannot share the steps."""
    options, plan = run.options, run.plan
    arguments = _arguments(run)
    if options.gradient_checkpointing:
        adapted.enable_input_require_grads()
    adapted.to(arguments.device)
    step = PairStep(adapted, run.pad_id, options.neftune_alpha)
    tokens = _tokens_per_batch(options, adapted, run.folder)
    scorer = RowScorer(step, find_loss(options.method), options.loss_parameters, TokenBudget(tokens))
    guard = DivergenceGuard(adapted.config.get_text_config().vocab_size)
    checkpoints = Checkpoints(
        run.watching.should_stop,
        run.watching.checkpoint_seconds,
        lambda: guard.is_calm,
        on_checkpoint=run.watching.on_checkpoint,
    )
    # Whoever writes or shows something does so in the first worker only.
    events = EventFile(run.folder / "tensorboard", run.done + 1) if arguments.process_index == 0 else None
    holdout = _holdout(scorer, held_out, run, events) if held_out else None
    watchers = [*(_callbacks(run, events) if events else []), checkpoints, *([holdout] if holdout else [])]
    trainer = PairTrainer(
        model=adapted,
        args=arguments,
        train_dataset=PlannedRows(_with_mean_weight_1(rows), plan.steps, plan.pairs_per_step, options.seed),
        callbacks=[*watchers, *run.watching.callbacks],
        scorer=scorer,
        guard=guard,
        plan=plan,
    )
    trainer.remove_callback(PrinterCallback)
    return Prepared(trainer, step, checkpoints, holdout, tokens)


def _holdout(scorer: RowScorer, rows: Sequence[Row], run: Run, events: EventFile | None) -> Holdout:
    every = run.options.evaluate_every or max(1, run.plan.steps // _EVALUATIONS)

    def draw(found: Metrics) -> None:
        if events:
            events.add("holdout", {name: value for name, value in found.items() if name != "step"}, int(found["step"]))

    return Holdout(scorer, rows, run.folder, every, run.options.early_stop, run.done, draw)


def _arguments(run: Run) -> TrainingArguments:
    options, plan = run.options, run.plan
    arguments = TrainingArguments(
        output_dir=str(run.folder),
        max_steps=plan.steps,
        learning_rate=plan.learning_rate,
        weight_decay=0.0,
        max_grad_norm=1.0,
        optim="adamw_torch_fused",
        seed=options.seed,
        data_seed=options.seed,
        train_sampling_strategy="sequential",  # the plan is in order already
        use_cpu=options.device == "cpu" or (options.device == "auto" and not torch.cuda.is_available()),
        gradient_checkpointing=options.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",  # `Checkpoints` asks for them by time
        report_to=list(run.watching.report_to),
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


def _callbacks(run: Run, events: EventFile) -> list[Any]:
    shown = [shown_on(Console(stderr=True))] if run.watching.bar else []
    return [
        Reporter(run.watching.on_progress),
        MetricsFile(run.folder / METRICS_FILE, run.done),
        Curves(events),
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
    write_whole(file, json.dumps(tokens))
    return tokens


def _with_mean_weight_1(rows: Sequence[Row]) -> list[Row]:
    """The rows with their weights scaled to a mean of 1, so that trust does not change the learning rate."""
    mean = sum(row.weight for row in rows) / len(rows)
    return [dataclasses.replace(row, weight=row.weight / mean) for row in rows]  # type: ignore[type-var]
