"""The training job: read, render, train. Runs in the training process, under the command line, or in each worker."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from alignment.jobs.contracts import TrainJob, TrainResult
from alignment.models import load_for_training, load_renderer, load_tokenizer, pad_id
from alignment.pairs.read import read_demonstrations, read_pairs, read_thumbs
from alignment.pairs.sources import holdout_of
from alignment.training.batches import Row
from alignment.training.exhaustion import exhaustion_told
from alignment.training.holdout import held_out
from alignment.training.loop import train_adapter
from alignment.training.watch import Watching
from gateway.contracts.methods import find_method

_HOLDOUT_SHARE = 0.1
"""Of the rows, where a run that may stop early was given none to hold out."""


_THUMB_DOWN = "thumb_down"
"""An answer that nobody should imitate."""


class _Rows(NamedTuple):
    rows: Sequence[Any]
    dropped: dict[str, int]


def train(job: TrainJob, watching: Watching | None = None) -> TrainResult:
    """Read, render and train; see `train_adapter` for what lands in the folder and what is raised.

    Raises `DiskTooFull` or `OutOfMemory`, too, when the machine runs out of something.
    """
    with exhaustion_told(job.folder):
        return _train(job, watching or Watching())


def _train(job: TrainJob, watching: Watching) -> TrainResult:
    watching = replace(watching, bar=job.shows_progress, checkpoint_seconds=job.checkpoint_seconds)
    found = _rendered(job, job.pairs_file)
    rows, holdout = _split(job, found)
    trained = train_adapter(
        load_for_training(job.base_folder, job.options),
        rows,
        job.options,
        job.base,
        job.folder,
        pad_id=pad_id(load_tokenizer(job.base_folder)),
        holdout=holdout,
        watching=watching,
    )
    return TrainResult(
        adapter=trained.adapter,
        pairs=len(rows),
        dropped=found.dropped,
        shortened=sum(row.turns_dropped > 0 for row in found.rows),
        steps=trained.schedule.steps,
        learning_rate=trained.schedule.learning_rate,
        reasons=trained.reasons,
        last=trained.last,
        best=trained.best,
        seconds=trained.seconds,
        steps_made=trained.steps_made,
        device=trained.device,
        peak_memory_bytes=trained.peak_memory_bytes,
    )


def _rendered(job: TrainJob, file: Path) -> _Rows:
    """The rows that the method trains on, as token ids."""
    renderer = load_renderer(job.base_folder, job.options.max_length_tokens)
    kind = find_method(job.options.method).rows
    if kind == "pairs":
        return _Rows(*renderer.render_all(read_pairs(file)))
    if kind == "answers":
        return _Rows(*renderer.render_answers(read_thumbs(file)))
    answers = read_demonstrations(file)
    good = [answer for answer in answers if answer.is_desirable]
    rows, dropped = renderer.render_answers(good)
    down = len(answers) - len(good)
    return _Rows(rows, dropped | ({_THUMB_DOWN: down} if down else {}))


def _split(job: TrainJob, found: _Rows) -> tuple[Sequence[Row], Sequence[Row]]:
    """Rows to train on and rows held out: from a file of their own, or a tenth where an early stop asks for some."""
    if job.holdout_file is not None:
        return found.rows, _rendered(job, job.holdout_file).rows
    if job.options.early_stop is None and job.options.evaluate_every is None:
        return found.rows, ()
    if (frozen := holdout_of(job.pairs_file)) is not None:
        return found.rows, _rendered(job, frozen).rows
    return held_out(found.rows, _HOLDOUT_SHARE)
