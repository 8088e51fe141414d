"""Several workers on one run: the same result as one, and the same ends."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from alignment.base_models.identity import describe
from alignment.errors import UnfitModel
from alignment.jobs.contracts import TrainJob, TrainResult
from alignment.jobs.training import train
from alignment.jobs.workers import refuse_sharding, run_local, run_ray
from alignment.library import train as run_library
from gateway.contracts.training import TrainingOptions
from tests.alignment import trainer_child


@pytest.fixture
def pairs_file(tmp_path: Path) -> Path:
    rows = [
        {
            "prompt": f"Say a colour, number {number}.",
            "chosen": f"blue {number}",
            "rejected": f"I would rather not {number}",
        }
        for number in range(10)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def job(model: Path, pairs: Path, folder: Path, **options: Any) -> TrainJob:
    given = {"rank": 4, "max_steps": 6, "learning_rate": 1e-2, "device": "cpu", "seed": 3} | options
    return TrainJob(
        base_folder=model,
        base=describe(model),
        options=TrainingOptions.model_validate(given),
        pairs_file=pairs,
        folder=folder,
    )


def alone(wanted: TrainJob) -> TrainResult:
    """In a process of its own, as each worker is."""
    return TrainResult.model_validate_json(trainer_child.apart(_train, wanted.model_dump_json()))


def _train(wanted: str) -> str:
    torch.set_num_threads(1)
    return train(TrainJob.model_validate_json(wanted)).model_dump_json()


def test_two_workers_train_with_kto_what_one_trains(tiny_model: Path, pairs_file: Path, tmp_path: Path) -> None:
    one = alone(job(tiny_model, pairs_file, tmp_path / "one", method="kto"))
    two = run_local(job(tiny_model, pairs_file, tmp_path / "two", method="kto"), workers=2, threads=1)
    assert (two.steps, two.pairs) == (one.steps, one.pairs)
    assert two.last["loss"] == pytest.approx(one.last["loss"], abs=1e-5)
    ours, theirs = (load_file(result.adapter / "adapter_model.safetensors") for result in (two, one))
    for name, value in theirs.items():
        assert float((ours[name] - value).norm()) <= 1e-3 * float(value.norm()) + 1e-6, name
    assert len((tmp_path / "two" / "metrics.jsonl").read_text().splitlines()) == one.steps


def test_a_lost_worker_is_started_again_and_the_run_ends_as_if_nothing_had_been(
    tiny_model: Path, pairs_file: Path, tmp_path: Path
) -> None:
    whole = run_local(job(tiny_model, pairs_file, tmp_path / "whole", epochs=20, max_steps=40), workers=2, threads=1)
    found: list[int] = []
    thread = threading.Thread(target=_kill_a_worker, args=(tmp_path / "broken", found))
    thread.start()
    broken = run_local(job(tiny_model, pairs_file, tmp_path / "broken", epochs=20, max_steps=40), workers=2, threads=1)
    thread.join()
    assert found
    steps = [json.loads(line)["step"] for line in (tmp_path / "broken" / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 41))
    ours, theirs = (load_file(result.adapter / "adapter_model.safetensors") for result in (broken, whole))
    for name, value in theirs.items():
        assert float((ours[name] - value).norm()) <= 1e-3 * float(value.norm()) + 1e-6, name


def _kill_a_worker(folder: Path, found: list[int]) -> None:
    """One of ours, once a few steps are done."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        metrics = folder / "metrics.jsonl"
        if metrics.is_file() and len(metrics.read_text().splitlines()) >= 5:
            mine = psutil.Process().children(recursive=True)
            workers = [
                child for child in mine if "RANK" in _environment(child) and str(folder) in " ".join(child.cmdline())
            ]
            if workers:
                found.append(workers[-1].pid)
                os.kill(workers[-1].pid, signal.SIGKILL)
                return
        time.sleep(0.02)


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


def test_what_one_worker_cannot_do_is_told_once(tiny_model: Path, pairs_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UnfitModel, match="3 pairs a step cannot be shared evenly by 2 workers"):
        run_local(job(tiny_model, pairs_file, tmp_path / "odd", pairs_per_step=3), workers=2, threads=1)


def test_two_workers_from_the_command_line_train_with_orpo_what_one_trains(
    tiny_model: Path, pairs_file: Path, tmp_path: Path
) -> None:
    words = ["--model", tiny_model, "--dataset", pairs_file, "--max-steps", 4, "--learning-rate", 1e-2, "--rank", 4]
    words += ["--device", "cpu", "--evaluate-every", 2, "--early-stop", 5, "--holdout", pairs_file]
    ended = {
        workers: trainer_child.run(
            [*words, "--out", tmp_path / workers, "--workers", workers, "--json"], tmp_path / "log"
        )
        for workers in ("1", "2")
    }
    one, two = (json.loads(each.out) for each in ended.values())
    assert two["last"]["loss"] == pytest.approx(one["last"]["loss"], abs=1e-5)
    assert two["best"]["loss"] == pytest.approx(one["best"]["loss"], abs=1e-5)
    assert "step 4 of 4  loss " in ended["2"].err
    ours, theirs = (load_file(Path(result["adapter"]) / "adapter_model.safetensors") for result in (two, one))
    for name, value in theirs.items():
        assert float((ours[name] - value).norm()) <= 1e-3 * float(value.norm()) + 1e-6, name
    assert sorted(path.name for path in (tmp_path / "2").iterdir()) == sorted(
        path.name for path in (tmp_path / "1").iterdir()
    )


def test_what_the_workers_refuse_is_told_once(tiny_model: Path, pairs_file: Path, tmp_path: Path) -> None:
    words = ["--model", tiny_model, "--dataset", pairs_file, "--device", "cpu", "--quantize", "nf4", "--workers", 2]
    ended = trainer_child.run([*words, "--out", tmp_path / "out"], tmp_path / "log")
    assert ended.status == 1
    assert ended.err.count("needs a GPU") == 1
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("variable", "name"), [("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed ZeRO")]
)
def test_sharding_the_model_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, variable: str, name: str) -> None:
    monkeypatch.setenv(variable, "true")
    with pytest.raises(UnfitModel, match=f"{name} is not supported"):
        refuse_sharding()


def test_callbacks_that_other_processes_would_never_see_are_refused(
    tiny_model: Path, pairs_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(UnfitModel, match="go with a single worker"):
        run_library(tiny_model, pairs_file, tmp_path / "out", workers=2, report_to=["wandb"])


def test_ray_that_is_not_installed_is_named(
    tiny_model: Path, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray.train", None)
    with pytest.raises(UnfitModel, match=r"pip install 'ray\[train\]'"):
        run_ray(job(tiny_model, pairs_file, tmp_path / "ray"), workers=2)


def test_workers_end_with_the_command_that_started_them_and_the_run_goes_on(
    tiny_model: Path, pairs_file: Path, tmp_path: Path
) -> None:
    words = ["--model", tiny_model, "--dataset", pairs_file, "--epochs", 100, "--max-steps", 60, "--rank", 4]
    words += ["--device", "cpu", "--checkpoint-seconds", 0, "--workers", 2]
    out = tmp_path / "out"
    process = trainer_child.start([*words, "--out", out], tmp_path / "log")
    _wait_until(lambda: (out / "metrics.jsonl").is_file() and _lines(out) >= 5)
    workers = _processes_of(out)
    process.kill()
    process.join()
    assert len(workers) >= 3  # the launcher and two workers
    _wait_until(lambda: not _processes_of(out))
    ended = trainer_child.run(["--resume", "--out", out, "--workers", 2], tmp_path / "log")
    assert ended.status == 0, ended.err
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 61))


def _lines(out: Path) -> int:
    return len((out / "metrics.jsonl").read_text().splitlines())


def _processes_of(out: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = " ".join(process.info["cmdline"] or ())
        if "alignment.jobs.workers" in words and str(out) in words and process.info["status"] != "zombie":
            found.append(process)
    return found


def _wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_two_workers_of_ray_train_what_one_trains(tiny_model: Path, pairs_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray.train", reason="Ray is not installed: pip install 'alignway[ray]'")
    words = ["train", "--model", tiny_model, "--dataset", pairs_file, "--max-steps", 6, "--learning-rate", 1e-2]
    words += ["--rank", 4, "--device", "cpu", "--seed", 3, "--out", "ray", "--workers", 2, "--runner", "ray", "--json"]
    command = [sys.executable, "-m", "gateway", *map(str, words)]
    paths = os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths, "ALIGNWAY_CACHE_DIR": str(tmp_path / "cache")}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    two = json.loads(ended.stdout)  # nothing of what Ray prints stands beside it
    one = alone(job(tiny_model, pairs_file, tmp_path / "one", nll="prompt_and_chosen"))
    assert two["last"]["loss"] == pytest.approx(one.last["loss"], abs=1e-5)
    ours, theirs = (
        load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (tmp_path / "ray", tmp_path / "one")
    )
    for name, value in theirs.items():
        assert float((ours[name] - value).norm()) <= 1e-3 * float(value.norm()) + 1e-6, name
