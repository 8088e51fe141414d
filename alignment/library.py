"""The trainer as a library: what `alignway train` does, from Python.

from alignment.library import train
from gateway.contracts.training import TrainingOptions

result = train("smollm2-135m-instruct", "pairs.jsonl", "out", TrainingOptions(method="orpo", lambda_=0.2))
result.adapter      # PeftModel.from_pretrained opens it
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from alignment.adapter_card import adapter_card
from alignment.base_models.identity import describe
from alignment.base_models.resolve import resolve_model
from alignment.errors import BadPairs, DiskTooFull, FolderInUse, UnfitModel
from alignment.files import write_whole
from alignment.jobs.contracts import TrainJob, TrainResult
from alignment.jobs.workers import refuse_sharding, run_local, run_ray
from alignment.pairs.sources import resolve_dataset
from alignment.publish import software_versions
from alignment.training.checkpoints import CHECKPOINT_SECONDS, discard_all
from alignment.training.exhaustion import exhaustion_told
from gateway.contracts.training import TrainingOptions

RUN_FILE = "run.json"
CARD_FILE = "README.md"
RESULT_FILE = "result.json"
"""Written last: a run that has it is finished."""
_LOCK_FILE = ".lock"
Runner = Literal["local", "ray"]


def train(
    model: str | Path,
    dataset: str | Path,
    out: str | Path,
    options: TrainingOptions | None = None,
    *,
    holdout: str | Path | None = None,
    workers: int = 1,
    runner: Runner = "local",
    hub: Literal["huggingface", "modelscope"] = "huggingface",
    callbacks: Sequence[Any] = (),
    report_to: Sequence[str] = (),
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    should_stop: Callable[[], bool] = lambda: False,
    bar: bool = False,
) -> TrainResult:
    """Train an adapter for `model` on the pairs of `dataset`; everything lands in the folder `out`.

    model      a folder, an id of the hub, or the bundled model's name
    dataset    a file of pairs, a frozen data set, or an id of the hub (docs/training.md)
    holdout    pairs that are not trained on, for the curve and for `early_stop`
    workers    processes that share every step; `runner` says where they run
    callbacks  `transformers.TrainerCallback`s; `report_to` names reporters of transformers such as wandb. With one
               worker only.
    should_stop  asked between two steps; true ends the run behind a checkpoint with `TrainingStopped`. One worker only.
    bar        show progress on standard error: a bar on a terminal, else a line now and then
    Called again with the same arguments, an interrupted run goes on. Raises the errors of `alignment.errors`, among
    them `BadPairs` if `out` holds another run.
    """
    folder = resolve_model(str(model), hub)
    job = TrainJob(
        base_folder=folder,
        base=describe(folder),
        options=options or TrainingOptions(),
        pairs_file=resolve_dataset(str(dataset), hub),
        holdout_file=resolve_dataset(str(holdout), hub) if holdout else None,
        folder=Path(out),
        checkpoint_seconds=checkpoint_seconds,
        shows_progress=bar,
    )
    refuse_sharding()
    if (callbacks or report_to) and (workers > 1 or runner == "ray"):
        raise UnfitModel("callbacks and report_to go with a single worker: other processes cannot be handed them")
    with _way_on(job.folder), exhaustion_told(job.folder), _alone_in(job.folder):
        _claim_folder(job)
        if runner == "ray":
            result = run_ray(job, workers)
        elif workers > 1:
            result = run_local(job, workers)
        else:
            result = _run_here(job, should_stop=should_stop, callbacks=tuple(callbacks), report_to=tuple(report_to))
        card = adapter_card(job, result, read_run(job.folder), software_versions())
        write_whole(job.folder / CARD_FILE, card)
        write_whole(job.folder / RESULT_FILE, result.model_dump_json() + "\n")
        discard_all(job.folder)
    return result


def read_run(out: Path) -> dict[str, Any]:
    """What the run in a folder was asked for. Raises `BadPairs` if there is none."""
    try:
        run: dict[str, Any] = json.loads((out / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadPairs(
            f"{out} holds no run to go on with; leave --resume out, and name --dataset and --model"
        ) from error
    return run


def finished_run(out: Path) -> TrainResult | None:
    """What the run in a folder came to; None while there is something to go on with."""
    try:
        return TrainResult.model_validate_json((out / RESULT_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _run_here(job: TrainJob, **watching: Any) -> TrainResult:
    from alignment.jobs.training import train as run_here  # heavy, and whoever only starts workers does without
    from alignment.training.watch import Watching

    return run_here(job, Watching(**watching))


@contextlib.contextmanager
def _way_on(folder: Path) -> Iterator[None]:
    """Say how to go on where nothing but room is lacking."""
    try:
        yield
    except DiskTooFull as error:
        way = f"go on: alignway train --resume --out {folder}" if (folder / RUN_FILE).is_file() else "begin again"
        raise DiskTooFull(f"{error.message}; then {way}") from error


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Two processes in one folder would write over each other's checkpoints. A killed one holds nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / _LOCK_FILE, timeout=0):
            yield
    except Timeout as error:
        raise FolderInUse(
            f"another process is training in {folder}; wait until it ends, end it, or give another folder"
        ) from error


def _claim_folder(job: TrainJob) -> None:
    """Note what a folder's checkpoints belong to; refuse to go on from those of another run."""
    mine = {
        "options": job.options.model_dump(mode="json"),
        "base": job.base.model_dump(),
        "data_sha256": _digest(job.pairs_file),
        "holdout_sha256": _digest(job.holdout_file) if job.holdout_file else None,
    }
    run_file = job.folder / RUN_FILE
    if run_file.is_file():
        theirs = read_run(job.folder)
        if changed := [name for name, value in mine.items() if theirs.get(name) != value]:
            raise BadPairs(
                f"{job.folder} holds another run (its {', '.join(changed)} differ); give another folder, or remove it"
            )
    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / RESULT_FILE).unlink(missing_ok=True)
    holdout = job.holdout_file and job.holdout_file.absolute()
    asked = {"dataset": str(job.pairs_file.absolute()), "holdout": holdout and str(holdout)}
    run = mine | asked | {"model": str(job.base_folder)}
    write_whole(run_file, json.dumps(run, indent=1) + "\n")


def _digest(path: Path) -> str:
    """Of the bytes of a file, or of every file of a folder with its name."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file():
            digest.update(f"{file.relative_to(path)}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()
