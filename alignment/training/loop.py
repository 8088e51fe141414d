"""Train an adapter: transformers' Trainer around our step, with checkpoints that survive a kill."""

import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from alignment.adapter.attach import attach_adapter, save_adapter
from alignment.errors import NotEnoughPairs, TrainingDiverged, TrainingStopped
from alignment.files import fresh_folder, replace_folder
from alignment.training.batches import Row
from alignment.training.checkpoints import Found, discard, find_newest, sealed_checkpoints, step_of
from alignment.training.curves import CURVES_FILE, plot_curves
from alignment.training.exhaustion import is_out_of_memory
from alignment.training.holdout import Holdout, best_adapter
from alignment.training.memory import peak_bytes, reserve_kept
from alignment.training.prepare import Prepared, Run, prepare
from alignment.training.records import METRICS_FILE, Metrics, read_metrics
from alignment.training.schedule import Schedule, schedule
from alignment.training.watch import Watching
from gateway.contracts.release import BaseModelRef
from gateway.contracts.training import TrainingOptions

ADAPTER_FOLDER = "adapter"
_log = logging.getLogger(__name__)


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
    steps_made: int
    """By this process."""
    device: str
    peak_memory_bytes: int
    """Of this process, on the device."""


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

    `folder` also gets `metrics.jsonl` (a line a step), `training.png`, `tensorboard/`, `checkpoint-*/`, and with rows
    `holdout.jsonl`. With equal rows, options and thread count the result on a CPU is the same to the byte, whether or
    not the run was interrupted.
    Raises `NotEnoughPairs`, `TrainingDiverged`, `OutOfMemory`, `CheckpointDamaged`, or `TrainingStopped` once
    `should_stop` answered true.
    """
    if not rows:
        raise NotEnoughPairs("no pair is left to train on; add pairs, or raise max_length_tokens if all were too long")
    folder.mkdir(parents=True, exist_ok=True)
    plan = schedule(options, len(rows), model.num_parameters())
    found = find_newest(folder)
    torch.manual_seed(options.seed)
    adapted = attach_adapter(model, base, options)
    done = step_of(found.newest) if found.newest else 0
    prepared = prepare(adapted, rows, holdout, Run(options, plan, folder, pad_id, done, watching or Watching()))
    started = time.monotonic()
    _run(prepared, found, folder)
    if prepared.trainer.is_world_process_zero():
        _finish(adapted, base, folder, prepared.holdout)
    return Trained(
        adapter=folder / ADAPTER_FOLDER,
        schedule=plan,
        reasons=(*plan.reasons, prepared.step.reason, *found.notes, *_happened(prepared)),
        last=read_metrics(folder / METRICS_FILE)[-1],
        best=prepared.holdout.best() if prepared.holdout else None,
        seconds=time.monotonic() - started,
        steps_made=prepared.trainer.state.global_step - done,
        device=adapted.device.type,
        peak_memory_bytes=peak_bytes(adapted.device),
    )


def _run(prepared: Prepared, found: Found, folder: Path) -> None:
    trainer = prepared.trainer
    for note in found.notes if trainer.is_world_process_zero() else ():
        _log.warning(note)
    try:
        with reserve_kept():
            trainer.train(resume_from_checkpoint=str(found.newest) if found.newest else None)
        trainer.check_finite()
    except TrainingDiverged as error:
        raise TrainingDiverged(f"{error.message}. {_last_good(prepared, folder)}") from error
    if prepared.checkpoints.stopped:
        raise TrainingStopped(f"stopped after step {trainer.state.global_step} of {trainer.state.max_steps}, as asked")


def _finish(adapted: Any, base: BaseModelRef, folder: Path, holdout: Holdout | None) -> None:
    """Leave the adapter; what could make it anew (checkpoints, the best so far) stays for the caller to remove."""
    try:
        plot_curves(read_metrics(folder / METRICS_FILE), folder / CURVES_FILE)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        _log.warning("%s was not drawn: no memory is left (%s); the adapter is whole", CURVES_FILE, error)
    unfinished = fresh_folder(folder / f".{ADAPTER_FOLDER}.part")
    save_adapter(adapted, base, unfinished)
    if best := holdout.best() if holdout else None:
        kept = best_adapter(folder, best)
        shutil.copyfile(kept, unfinished / kept.name)
    replace_folder(unfinished, folder / ADAPTER_FOLDER)


def _happened(prepared: Prepared) -> list[str]:
    trainer, holdout = prepared.trainer, prepared.holdout
    happened = [f"at most {prepared.tokens:,} tokens at a time"]
    if trainer.scorer.budget.tokens < prepared.tokens:
        happened.append(f"memory ran out: from then on at most {trainer.scorer.budget.tokens:,} tokens at a time")
    best = holdout.best() if holdout else None
    if holdout and best:
        ended = f", and the run ended at step {trainer.state.global_step}" if holdout.stopped_early else ""
        happened.append(f"the adapter of step {best['step']:g} is kept: best on the held-out rows{ended}")
    return happened


def _last_good(prepared: Prepared, folder: Path) -> str:
    """Checkpoints of the adapter that diverged are removed, so that nobody goes on with one."""
    for checkpoint in sealed_checkpoints(folder):
        if not prepared.trainer.guard.is_good(step_of(checkpoint)):
            discard(checkpoint)
            continue
        return f"The last good adapter is that of step {step_of(checkpoint)}, in {checkpoint}"
    return "No good checkpoint had been written yet"
