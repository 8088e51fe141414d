"""The benchmarks that are known by name, and where their items lie in a folder of the user's. Knows no lm-eval.

The items are the hub's own files, copied as they are; nothing is fetched. What is missing is told with its place.
"""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignment.errors import TasksMissing


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark of lm-evaluation-harness, and its dataset on the hub."""

    name: str
    hub: str
    """The dataset whose files we read."""
    folder: str
    """Its task configurations, under lm_eval/tasks."""
    prefix: str
    """What stands before the subject in the names of its tasks."""
    split: str
    """What is measured on."""
    shots_split: str | None
    """Where worked examples are drawn from; None if the configuration brings its own."""
    fields: tuple[str, ...]
    """What every row has."""
    metric: str
    answer_filter: str
    """How lm-eval finds the answer in what was written; `none` where choices are compared."""
    only_subject: str | None = None
    """Set where there is one subject alone, whose files may also lie directly in the folder."""


BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark("mmlu", "cais/mmlu", "mmlu/default", "mmlu_", "test", "dev", ("question", "choices", "answer"),
                  "acc", "none"),
        Benchmark("gsm8k", "openai/gsm8k", "gsm8k", "gsm8k", "test", "train", ("question", "answer"),
                  "exact_match", "flexible-extract", only_subject="main"),
        Benchmark("bbh", "SaylorTwift/bbh", "bbh/cot_fewshot", "bbh_cot_fewshot_", "test", None, ("input", "target"),
                  "exact_match", "get-answer"),
        Benchmark("ceval", "ceval/ceval-exam", "ceval", "ceval-valid_", "val", "dev",
                  ("question", "A", "B", "C", "D", "answer"), "acc", "none"),
        Benchmark("cmmlu", "haonan-li/cmmlu", "cmmlu", "cmmlu_", "test", "dev",
                  ("Question", "A", "B", "C", "D", "Answer"), "acc", "none"),
    )
}  # fmt: skip

_PLACES = (
    "{subject}/{split}.*", "{subject}/{split}-*", "{subject}/*-{split}.*", "{subject}/{split}/*",
    "{split}/{subject}.*", "{split}/{subject}_{split}.*",
)  # fmt: skip
_DIRECT_PLACES = ("{split}.*", "{split}-*")
_FORMATS = (".parquet", ".jsonl", ".csv")


def find_benchmarks(names: Sequence[str]) -> list[Benchmark]:
    """The benchmarks of these names, each once. Raises `TasksMissing` for a name that is not known."""
    for name in names:
        if name not in BENCHMARKS:
            raise TasksMissing(f"there is no task {name}; choose among {', '.join(BENCHMARKS)}")
    return [BENCHMARKS[name] for name in dict.fromkeys(names)]


def find_items(folder: Path, benchmark: Benchmark, subject: str, split: str) -> list[Path]:
    """The files of one split, in their order; empty if there are none."""
    places = _PLACES + (_DIRECT_PLACES if subject == benchmark.only_subject else ())
    for place in places:
        found = (folder / benchmark.name).glob(place.format(subject=subject, split=split))
        files = sorted(path for path in found if path.suffix in _FORMATS)
        if files:
            return [path for path in files if path.suffix == files[0].suffix]
    return []


def read_items(files: Sequence[Path], benchmark: Benchmark) -> list[dict[str, Any]]:
    """Every row. Raises `TasksMissing` at a file that cannot be read, or at a row without the benchmark's fields."""
    rows = []
    for file in files:
        try:
            for number, row in enumerate(_rows(file), start=1):
                _refuse_other_fields(row, benchmark, f"{file}, row {number}")
                rows.append(row)
        except (OSError, ValueError) as error:
            raise TasksMissing(f"{file} cannot be read: {error}") from error
    if not rows:
        raise TasksMissing(f"{', '.join(str(file) for file in files)} holds no rows; copy the hub's file anew")
    return rows


def missing_items(folder: Path, benchmark: Benchmark, subjects: Sequence[str], shots: bool) -> TasksMissing:
    """The error that says which files are wanted, where they belong, and how to get them there."""
    subject = benchmark.only_subject or subjects[0]
    splits = [benchmark.split] + ([benchmark.shots_split] if shots and benchmark.shots_split else [])
    wanted = " and ".join(str(folder / benchmark.name / subject / f"{split}*.parquet") for split in splits)
    each = "" if benchmark.only_subject else f" (and likewise for any of {len(subjects)} subjects)"
    return TasksMissing(
        f"{benchmark.name}: no items under {folder / benchmark.name}; wanted is {wanted}{each}. Copy them from where "
        f"there is a network: hf download {benchmark.hub} --repo-type dataset --local-dir {folder / benchmark.name}; "
        f"unpack a zip there. JSON Lines and CSV do too (docs/evaluation.md)"
    )


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    if file.suffix == ".parquet":
        from pyarrow import parquet

        yield from parquet.read_table(file).to_pylist()
    elif file.suffix == ".csv":
        with file.open(encoding="utf-8-sig", newline="") as lines:
            yield from csv.DictReader(lines)
    else:
        yield from (json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip())


def _refuse_other_fields(row: Any, benchmark: Benchmark, place: str) -> None:
    absent = [name for name in benchmark.fields if not isinstance(row, dict) or row.get(name) is None]
    if absent:
        raise TasksMissing(
            f"{place}: no {', '.join(absent)}; a row of {benchmark.name} has {', '.join(benchmark.fields)}"
        )
