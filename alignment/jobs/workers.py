"""One training job shared by several workers: processes of this host, or of a Ray cluster.

Each worker loads the model, scores its share of every step and adds its gradients to those of the others, so that the
result is that of one worker with the same pairs a step, up to rounding. A lost worker ends all of them; they are
started again and go on from the newest checkpoint.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from alignment.errors import JobFailed, UnfitModel
from alignment.jobs.contracts import Failure, TrainJob, TrainResult

_RESTARTS = 3
_RESULT_FILE, _FAILURE_FILE, _JOB_FILE = "result.json", "failure.json", "job.json"
_UNSUPPORTED = {"ACCELERATE_USE_FSDP": "FSDP", "ACCELERATE_USE_DEEPSPEED": "DeepSpeed ZeRO"}


def run_local(job: TrainJob, workers: int, threads: int | None = None) -> TrainResult:
    """Share the job among `workers` processes of this host, through torch's elastic launcher. Raises `JobFailed`."""
    folder = _prepared(job)
    threads = threads or max(1, (os.cpu_count() or 1) // workers)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(workers),
        "--max-restarts", str(_RESTARTS), "-m", "alignment.jobs.workers", str(folder / _JOB_FILE),
    ]  # fmt: skip
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "GLOO_SOCKET_IFNAME": _loopback(),
        # A store for each start: in a shared one, workers that are started again find the addresses of the dead.
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    }
    ended = subprocess.run(command, env=environment, check=False, stdout=sys.stderr)
    return _result(job, f"the workers ended with status {ended.returncode}; what they said stands above")


def run_ray(job: TrainJob, workers: int) -> TrainResult:
    """Share the job among `workers` of the Ray cluster that RAY_ADDRESS names, or of one on this host.

    The folders of model, pairs and run must be on storage that all hosts see. Raises `UnfitModel` without Ray.
    """
    try:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
    except ImportError as error:
        raise UnfitModel("--runner ray needs Ray: pip install 'ray[train]'; or take --runner local") from error
    folder = _prepared(job)
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
    trainer.fit()
    return _result(job, "Ray ended without a result; its own log says why")


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
    from alignment.jobs.training import train

    job = TrainJob.model_validate_json(file.read_text(encoding="utf-8"))
    is_first = os.environ.get("RANK", "0") == "0"
    try:
        result = train(job)
    except AlignmentError as error:
        if is_first:
            failure = Failure(type=type(error).__name__, message=error.message)
            (file.parent / _FAILURE_FILE).write_text(failure.model_dump_json(), encoding="utf-8")
        return
    if is_first:
        (file.parent / _RESULT_FILE).write_text(result.model_dump_json(), encoding="utf-8")


def _prepared(job: TrainJob) -> Path:
    refuse_sharding()
    folder = job.folder / "workers"
    folder.mkdir(parents=True, exist_ok=True)
    for name in (_RESULT_FILE, _FAILURE_FILE):
        (folder / name).unlink(missing_ok=True)
    (folder / _JOB_FILE).write_text(job.model_dump_json(), encoding="utf-8")
    return folder


def _result(job: TrainJob, otherwise: str) -> TrainResult:
    folder = job.folder / "workers"
    if (folder / _RESULT_FILE).is_file():
        return TrainResult.model_validate_json((folder / _RESULT_FILE).read_text(encoding="utf-8"))
    if (folder / _FAILURE_FILE).is_file():
        raise JobFailed(json.loads((folder / _FAILURE_FILE).read_text(encoding="utf-8"))["message"])
    raise JobFailed(otherwise)


def _loopback() -> str:
    return os.environ.get("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


if __name__ == "__main__":
    _work(Path(sys.argv[1]))
