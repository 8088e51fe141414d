"""Where the items of benchmarks are looked for, and what is said when they are not there."""

import csv
import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from alignment.errors import TasksMissing
from alignment.gate.task_files import BENCHMARKS, find_benchmarks, find_items, missing_items, read_items

MMLU, GSM8K, CEVAL, CMMLU = (BENCHMARKS[name] for name in ("mmlu", "gsm8k", "ceval", "cmmlu"))


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.mark.parametrize(
    ("name", "subject", "split", "place"),
    [
        ("mmlu", "anatomy", "test", "mmlu/anatomy/test-00000-of-00001.parquet"),  # as the hub has it
        ("mmlu", "anatomy", "test", "mmlu/anatomy/test.jsonl"),
        ("ceval", "law", "val", "ceval/law/ceval-exam-val.parquet"),  # the hub's first conversion
        ("cmmlu", "law", "test", "cmmlu/law/test/0000.parquet"),  # the hub's refs/convert/parquet
        ("ceval", "law", "val", "ceval/val/law_val.csv"),  # C-Eval's zip
        ("cmmlu", "law", "dev", "cmmlu/dev/law.csv"),  # CMMLU's zip
        ("gsm8k", "main", "train", "gsm8k/main/train-00000-of-00001.parquet"),
        ("gsm8k", "main", "test", "gsm8k/test.jsonl"),  # OpenAI's own repository
    ],
)
def test_files_are_found_as_the_hub_has_them(tmp_path: Path, name: str, subject: str, split: str, place: str) -> None:
    file = touch(tmp_path / place)
    assert find_items(tmp_path, BENCHMARKS[name], subject, split) == [file]


def test_other_subjects_and_other_splits_are_not_taken(tmp_path: Path) -> None:
    for place in ("law_and_order/test.jsonl", "law/dev-00000-of-00001.parquet", "test/law_and_order.csv", "test.jsonl"):
        touch(tmp_path / "cmmlu" / place)
    touch(tmp_path / "cmmlu" / "law" / "test" / "index.duckdb")
    assert find_items(tmp_path, CMMLU, "law", "test") == []


def test_shards_come_in_their_order_and_in_one_format(tmp_path: Path) -> None:
    files = [touch(tmp_path / "mmlu" / "law" / f"test-0000{number}-of-00002.parquet") for number in (1, 0)]
    touch(tmp_path / "mmlu" / "law" / "test-copy.jsonl")
    assert find_items(tmp_path, MMLU, "law", "test")[-1].suffix == find_items(tmp_path, MMLU, "law", "test")[0].suffix
    assert find_items(tmp_path, MMLU, "law", "test") == sorted(files)


def test_the_three_formats_say_the_same(tmp_path: Path) -> None:
    rows = [{"Question": "一加一？", "A": "1", "B": "2", "C": "3", "D": "4", "Answer": "B"}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "items.parquet")
    (tmp_path / "items.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", encoding="utf-8")
    with (tmp_path / "items.csv").open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for name in ("items.parquet", "items.jsonl", "items.csv"):
        assert read_items([tmp_path / name], CMMLU) == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"question": "q", "answer": "#### 1"}\n{"question": "q"}', "row 2: no answer; a row of gsm8k has question, "),
        ('["question"]', "row 1: no question, answer"),
        ("{not json", "cannot be read"),
        ("", "holds no rows"),
    ],
)
def test_a_bad_file_is_told_with_its_row(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "test.jsonl").write_text(text)
    with pytest.raises(TasksMissing, match=message):
        read_items([tmp_path / "test.jsonl"], GSM8K)


def test_a_damaged_parquet_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "test.parquet").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(TasksMissing, match=r"test\.parquet cannot be read"):
        read_items([tmp_path / "test.parquet"], GSM8K)


def test_what_is_missing_is_told_with_its_place_and_the_command_that_gets_it() -> None:
    message = missing_items(Path("/items"), GSM8K, ["main"], shots=True).message
    assert "/items/gsm8k/main/test*.parquet and /items/gsm8k/main/train*.parquet" in message
    assert "hf download openai/gsm8k --repo-type dataset --local-dir /items/gsm8k" in message
    alone = missing_items(Path("/items"), MMLU, ["law", "anatomy"], shots=False).message
    assert "wanted is /items/mmlu/law/test*.parquet (and likewise for any of 2 subjects)" in alone


def test_an_unknown_task_is_answered_with_those_that_are_known() -> None:
    with pytest.raises(TasksMissing, match="no task arc; choose among mmlu, gsm8k, bbh, ceval, cmmlu"):
        find_benchmarks(["mmlu", "arc"])
    assert [one.name for one in find_benchmarks(["bbh", "mmlu", "bbh"])] == ["bbh", "mmlu"]
