"""Benchmarks through lm-evaluation-harness, over items from local files: its own prompts, its own way of scoring.

The package is optional (extra `lm-eval`) and imported only here and in `harness_model.py`, when a task is asked for.
"""

import contextlib
import importlib.util
import io
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignment.errors import TasksMissing, UnfitModel
from alignment.gate.progress import OnProgress, untold
from alignment.gate.task_files import Benchmark, find_benchmarks, find_items, missing_items, read_items

_SHOTS_SEED = 1234
"""lm-eval's own default: which worked examples are drawn where they are drawn at random."""


@dataclass(frozen=True, slots=True)
class TaskSet:
    """A benchmark ready to run."""

    benchmark: Benchmark
    tasks: dict[str, Any]
    """lm-eval's task of every subject whose items are there, by its name."""
    missing: tuple[str, ...]
    """Subjects whose items are not there."""

    def items(self, limit: int | None) -> list[str]:
        """Names of the items that are measured, in the order of their scores."""
        sizes = {name: len(task.eval_docs) for name, task in self.tasks.items()}
        return [f"{name}/{index}" for name, size in sizes.items() for index in range(min(size, limit or size))]


def require_tasks(names: Sequence[str], folder: Path | None) -> None:
    """Raise `TasksMissing` if the package or the folder of a benchmark is not there; costs nothing."""
    benchmarks = find_benchmarks(names)
    if benchmarks and importlib.util.find_spec("lm_eval") is None:
        raise TasksMissing("tasks need lm-evaluation-harness: pip install 'alignway[lm-eval]'")
    for benchmark in benchmarks:
        if folder is None or not (folder / benchmark.name).is_dir():
            raise TasksMissing(
                f"there are no items of {benchmark.name} in {folder}; docs/evaluation.md has the layout, or leave it "
                "out of gates.tasks"
            )


def load_tasks(names: Sequence[str], folder: Path | None, shots: int | None = None) -> list[TaskSet]:
    """The benchmarks of these names over the items in a folder.

    `shots`: worked examples before each item; None leaves it to lm-eval's configuration of the task. Raises
    `TasksMissing` for a name, package or file that is not there.
    """
    benchmarks = find_benchmarks(names)
    if not benchmarks:
        return []
    if importlib.util.find_spec("lm_eval") is None:
        raise TasksMissing("tasks need lm-evaluation-harness: pip install 'alignway[lm-eval]'")
    if folder is None:
        raise TasksMissing("say where the items of the tasks lie: --tasks-dir DIR (docs/evaluation.md has the layout)")
    with _quietly():
        return [_task_set(benchmark, folder, shots) for benchmark in benchmarks]


def score_tasks(
    tasks: TaskSet, model: Any, tokenizer: Any, limit: int | None, on_progress: OnProgress = untold
) -> list[float]:
    """1 for each item answered right and 0 for the others, in the order of `TaskSet.items`."""
    from lm_eval.evaluator import evaluate

    from alignment.gate.harness_model import HarnessModel

    with _quietly():
        harness = HarnessModel(model, tokenizer, on_progress)
        _refuse_short_window(tasks, harness.max_length)
        found = evaluate(harness, {"tasks": tasks.tasks}, limit=limit, bootstrap_iters=0, log_samples=True)
    return _scores(tasks, found["samples"], tasks.items(limit))


def _scores(tasks: TaskSet, samples: dict[str, list[dict[str, Any]]], items: Sequence[str]) -> list[float]:
    found = {
        f"{name}/{sample['doc_id']}": float(sample[tasks.benchmark.metric])
        for name in tasks.tasks
        for sample in samples[name]
        if sample["filter"] == tasks.benchmark.answer_filter
    }
    return [found[item] for item in items]


def _task_set(benchmark: Benchmark, folder: Path, shots: int | None) -> TaskSet:
    from lm_eval.tasks import TaskManager

    configured = Path(str(importlib.util.find_spec("lm_eval").origin)).parent / "tasks" / benchmark.folder  # type: ignore[union-attr]
    manager = TaskManager(include_defaults=False, include_path=configured)
    subjects = _subjects(benchmark, manager.all_subtasks)
    tasks = {
        name: _task(manager, name, benchmark, subject, folder, shots)
        for name, subject in subjects.items()
        if find_items(folder, benchmark, subject, benchmark.split)
    }
    if not tasks:
        raise missing_items(folder, benchmark, list(subjects.values()), shots != 0)
    return TaskSet(benchmark, tasks, tuple(subject for name, subject in subjects.items() if name not in tasks))


def _subjects(benchmark: Benchmark, names: Sequence[str]) -> dict[str, str]:
    """The subject of each of the benchmark's tasks, by the task's name."""
    if benchmark.only_subject is not None:
        return {benchmark.prefix: benchmark.only_subject}
    return {name: name.removeprefix(benchmark.prefix) for name in names if name.startswith(benchmark.prefix)}


def _task(manager: Any, name: str, benchmark: Benchmark, subject: str, folder: Path, shots: int | None) -> Any:
    """lm-eval's own task, its items read from our files instead of fetched."""
    files = {benchmark.split: find_items(folder, benchmark, subject, benchmark.split)}
    spec: dict[str, Any] = {"task": name}
    if benchmark.shots_split is not None:
        files[benchmark.shots_split] = find_items(folder, benchmark, subject, benchmark.shots_split)
        if not files[benchmark.shots_split]:
            del files[benchmark.shots_split]
            spec |= {"fewshot_split": None, "training_split": None, "fewshot_config": None}
    # In a group, because only there does lm-eval lay changes over a task that it knows by name.
    changed = {"group": benchmark.name, "task": [spec | {"custom_dataset": _reader(files, benchmark)}]}
    task = manager.load(changed)["tasks"][name]
    configured = task.config.num_fewshot or 0
    wanted = configured if shots is None else shots
    if wanted and benchmark.shots_split is not None and benchmark.shots_split not in files:
        raise missing_items(folder, benchmark, [subject], shots=True)
    task.set_config(key="num_fewshot", value=wanted)
    task.set_fewshot_seed(seed=_SHOTS_SEED)
    return task


def _reader(files: dict[str, list[Path]], benchmark: Benchmark) -> Callable[..., Any]:
    """What lm-eval calls for the splits of a task; it hands over settings that we have no use for."""

    def read(**_: Any) -> Any:
        from datasets import Dataset

        return {split: Dataset.from_list(read_items(found, benchmark)) for split, found in files.items()}

    return read


def _refuse_short_window(tasks: TaskSet, max_length: int) -> None:
    for name, task in tasks.tasks.items():
        written = (task.config.generation_kwargs or {}).get("max_gen_toks", 256)
        if task.OUTPUT_TYPE == "generate_until" and written >= max_length:
            raise UnfitModel(
                f"{name} lets a model write {written} tokens, but this one reads {max_length} in all; leave it out"
            )


@contextlib.contextmanager
def _quietly() -> Any:
    """Without lm-eval's notes and bars; what goes wrong comes as an exception."""
    log = logging.getLogger("lm_eval")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        log.setLevel(before)
