"""One training job shared by several workers: processes of this host, or of a Ray cluster.

Each worker loads the model, scores its share of every step and adds its gradients to those of the others, so that the
result is that of one worker with the same pairs a step, up to rounding. A lost worker ends all of them; they are
started again and go on from the newest checkpoint.
"""

import contextlib
import ctypes
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from alignment import errors
from alignment.errors import JobFailed, UnfitModel
from alignment.files import write_whole
from alignment.jobs.contracts import Failure, TrainJob, TrainResult
from alignment.left_out import left_out

_log = logging.getLogger(__name__)
_RESTARTS = 3
_PARENT_DEATH_SIGNAL = 1
"""As prctl numbers it."""
_RESULT_FILE, _FAILURE_FILE, _JOB_FILE = "result.json", "failure.json", "job.json"
# Workers that are started again would otherwise find the addresses of dead ones, and wait for half an hour.
_OWN_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
_UNSUPPORTED = {"ACCELERATE_USE_FSDP": "FSDP", "ACCELERATE_USE_DEEPSPEED": "DeepSpeed ZeRO"}


def run_local(job: TrainJob, workers: int, threads: int | None = None) -> TrainResult:
    """Share the job among `workers` processes of this host, through torch's elastic launcher.

    Raises what one worker raises, and `JobFailed` if the workers die.
    """
    folder = _prepared(job, workers)
    threads = threads or max(1, (os.cpu_count() or 1) // workers)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(workers),
        "--max-restarts", str(_RESTARTS), "-m", "alignment.jobs.workers", str(folder / _JOB_FILE),
    ]  # fmt: skip
    environment = os.environ | _OWN_STORE | {"OMP_NUM_THREADS": str(threads), "GLOO_SOCKET_IFNAME": _loopback()}
    ended = subprocess.run(command, env=environment, check=False, stdout=sys.stderr, preexec_fn=_end_with_parent)
    return _result(job, f"the workers ended with status {ended.returncode}; what they said stands above")


def run_ray(job: TrainJob, workers: int) -> TrainResult:
    """Share the job among `workers` of the Ray cluster that RAY_ADDRESS names, or of one on this host.

    The folders of model, pairs and run must be on storage that all hosts see. What the workers print goes to standard
    error. Raises what one worker raises, `UnfitModel` without Ray, and `JobFailed` if the workers die.
    """
    try:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
    except ImportError as error:
        raise UnfitModel("--runner ray needs Ray: pip install 'ray[train]'; or take --runner local") from error
    folder = _prepared(job, workers).absolute()  # Ray's workers have a working directory of their own
    on_gpu = job.options.device != "cpu" and _has_gpu()
    trainer = TorchTrainer(
        _ray_worker,
        train_loop_config={"job": str(folder / _JOB_FILE)},
        torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo"),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=on_gpu),
        run_config=RunConfig(
            storage_path=str(folder / "ray"), failure_config=FailureConfig(max_failures=_RESTARTS)
        ),
    )  # fmt: skip
    with contextlib.redirect_stdout(sys.stderr):
        try:
            trainer.fit()
        except Exception as error:  # Ray's own errors of a run share no base class
            _log.error("ray_failed: %s", error)
    return _result(job, "Ray ended without a result; what it said stands above")


def refuse_sharding() -> None:
    """Raise `UnfitModel` where accelerate was told to cut the model itself into shards: our step does not do that."""
    for variable, name in _UNSUPPORTED.items():
        if os.environ.get(variable, "").lower() in ("1", "true"):
            raise UnfitModel(
                f"{name} is not supported: every worker holds the whole base (with LoRA, gradients and optimiser are "
                f"small); unset {variable}, and take quantize = nf4 if the base is too large for one GPU"
            )


def _ray_worker(config: dict[str, Any]) -> None:
    _work(Path(config["job"]))


def _work(file: Path) -> None:
    """One worker's part. What went wrong is told in the file that the parent reads; a crash is left to the launcher."""
    from alignment.errors import AlignmentError

    with left_out():
        from alignment.jobs.training import train

    job = TrainJob.model_validate_json(file.read_text(encoding="utf-8"))
    try:
        result = train(job)
    except AlignmentError as error:
        failure = Failure(type=type(error).__name__, message=error.message)
        write_whole(file.parent / _FAILURE_FILE, failure.model_dump_json())
        return
    if os.environ.get("RANK", "0") == "0":
        write_whole(file.parent / _RESULT_FILE, result.model_dump_json())


def _prepared(job: TrainJob, workers: int) -> Path:
    refuse_sharding()
    if job.options.pairs_per_step % workers:
        raise UnfitModel(
            f"{job.options.pairs_per_step} pairs a step cannot be shared evenly by {workers} workers; take a multiple "
            f"of {workers} as pairs_per_step"
        )
    folder = job.folder / "workers"
    folder.mkdir(parents=True, exist_ok=True)
    for name in (_RESULT_FILE, _FAILURE_FILE):
        (folder / name).unlink(missing_ok=True)
    absolute = {name: path.absolute() for name, path in job if isinstance(path, Path)}
    write_whole(folder / _JOB_FILE, job.model_copy(update=absolute).model_dump_json())
    return folder


def _result(job: TrainJob, otherwise: str) -> TrainResult:
    folder = job.folder / "workers"
    if (folder / _RESULT_FILE).is_file():
        result = TrainResult.model_validate_json((folder / _RESULT_FILE).read_text(encoding="utf-8"))
        shutil.rmtree(folder)
        return result.model_copy(update={"adapter": job.folder / result.adapter.name})
    if (folder / _FAILURE_FILE).is_file():
        failure = Failure.model_validate_json((folder / _FAILURE_FILE).read_text(encoding="utf-8"))
        raise getattr(errors, failure.type, JobFailed)(failure.message)
    raise JobFailed(otherwise)


def _end_with_parent() -> None:
    """Let Linux end this process when the one that started it is gone: a run that is resumed has the folder alone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGTERM)


def _loopback() -> str:
    return os.environ.get("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


if __name__ == "__main__":
    _end_with_parent()
    _work(Path(sys.argv[1]))
