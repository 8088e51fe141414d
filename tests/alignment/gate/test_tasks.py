"""Benchmarks over a few items of our own, in the shape of the hub's files, through the real lm-evaluation-harness."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lm_eval", reason="lm-eval is not installed: pip install 'alignway[lm-eval]'")

from alignment.errors import TasksMissing, UnfitModel
from alignment.gate.harness_model import HarnessModel
from alignment.gate.task_files import BENCHMARKS
from alignment.gate.tasks import TaskSet, load_tasks, score_tasks
from alignment.models import load_model


def write(folder: Path, place: str, rows: list[dict[str, Any]]) -> None:
    file = folder / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")


@pytest.fixture
def items(tmp_path: Path) -> Path:
    """Two subjects of MMLU, one each of C-Eval, CMMLU and BBH, and GSM8K."""
    sums = [{"question": f"What is {n} and 1?", "choices": ["1", "2", "3", "4"], "answer": n} for n in range(4)]
    for subject in ("anatomy", "astronomy"):
        write(tmp_path, f"mmlu/{subject}/test.jsonl", sums)
        write(tmp_path, f"mmlu/{subject}/dev.jsonl", sums)
    rows = [{"question": f"{n}加一？", "A": "1", "B": "2", "C": "3", "D": "4", "answer": "ABCD"[n]} for n in range(4)]
    write(tmp_path, "ceval/law/val.jsonl", rows)
    write(tmp_path, "ceval/law/dev.jsonl", rows)
    capitals = [{name.title() if len(name) > 1 else name: value for name, value in row.items()} for row in rows]
    write(tmp_path, "cmmlu/agronomy/test.jsonl", capitals)
    write(tmp_path, "cmmlu/agronomy/dev.jsonl", capitals)
    write(tmp_path, "bbh/navigate/test.jsonl", [{"input": "Take 1 step. Are you back?", "target": "No"}] * 2)
    write(tmp_path, "gsm8k/test.jsonl", [{"question": "Two and two?", "answer": "2 + 2 = 4\n#### 4"}] * 3)
    write(tmp_path, "gsm8k/train.jsonl", [{"question": f"{n} and 0?", "answer": f"#### {n}"} for n in range(6)])
    return tmp_path


def load(items: Path, name: str, shots: int | None = None) -> TaskSet:
    (found,) = load_tasks([name], items, shots)
    return found


def test_every_benchmark_is_configured_as_the_installed_harness_has_it(items: Path) -> None:
    for found in load_tasks(list(BENCHMARKS), items):
        benchmark = found.benchmark
        for name, task in found.tasks.items():
            assert task.config.dataset_path == benchmark.hub
            assert (task.config.test_split or task.config.validation_split) == benchmark.split
            assert task.config.fewshot_split == benchmark.shots_split
            assert benchmark.metric in [metric["metric"] for metric in task.config.metric_list]
            filters = [one["name"] for one in task.config.filter_list or [{"name": "none"}]]
            assert benchmark.answer_filter in filters
            assert name.removeprefix(benchmark.prefix) in ("", task.config.dataset_name)
    assert {one.benchmark.name: len(one.tasks) + len(one.missing) for one in load_tasks(list(BENCHMARKS), items)} == {
        "mmlu": 57, "gsm8k": 1, "bbh": 27, "ceval": 52, "cmmlu": 67,
    }  # fmt: skip


@torch.no_grad()
def test_choices_are_scored_as_full_logits_score_them(items: Path, tiny_model: Path, byte_tokenizer: Any) -> None:
    model, told = load_model(tiny_model), []
    found = load(items, "mmlu")
    assert found.items(None) == [f"mmlu_{subject}/{n}" for subject in ("anatomy", "astronomy") for n in range(4)]
    scores = score_tasks(found, model, byte_tokenizer, None, told.append)
    expected = []
    for subject in ("anatomy", "astronomy"):
        for n in range(4):
            prompt = (
                f"The following are multiple choice questions (with answers) about {subject}.\n\n"
                f"What is {n} and 1?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:"
            )
            logps = []
            for letter in "ABCD":
                ids, rest = byte_tokenizer(prompt)["input_ids"], byte_tokenizer(f" {letter}")["input_ids"]
                logits = model(input_ids=torch.tensor([ids + rest])).logits[0, -len(rest) - 1 : -1].log_softmax(-1)
                logps.append(float(logits.gather(1, torch.tensor(rest)[:, None]).sum()))
            expected.append(float(logps.index(max(logps)) == n))
    assert scores == expected
    assert sum(told) == 8


@torch.no_grad()
def test_log_probabilities_agree_with_the_harness_own(tiny_model: Path, byte_tokenizer: Any) -> None:
    from lm_eval.models.huggingface import HFLM

    model = load_model(tiny_model)
    ours, theirs = HarnessModel(model, byte_tokenizer, lambda _: None), HFLM(model, tokenizer=byte_tokenizer)
    requests = [(("", ""), [40, 41, 42], completion) for completion in ([50], [51], [52, 53, 54])]
    requests += [(("", ""), [60 + number % 9 for number in range(600)], [50, 51])]  # longer than the model's window
    for (logp, greedy), (other, other_greedy) in zip(
        ours._loglikelihood_tokens(requests), theirs._loglikelihood_tokens(requests, disable_tqdm=True), strict=True
    ):
        assert logp == pytest.approx(other, abs=1e-4)
        assert greedy == other_greedy
    best = int(model(input_ids=torch.tensor([[40, 41]])).logits[0, -1].argmax())
    assert [one[1] for one in ours._loglikelihood_tokens([(("", ""), [40, 41], [best])])] == [True]


def test_choices_after_a_long_prompt_need_no_logits_of_the_prompt(
    wide_model: Any, byte_tokenizer: Any, largest: Any
) -> None:
    harness = HarnessModel(wide_model, byte_tokenizer, lambda _: None)
    with largest:
        harness._loglikelihood_tokens([(("", ""), [7] * 400, completion) for completion in ([50], [51, 52])])
    assert largest.size_bytes < 10 << 20  # two positions take 0.8 MB; all of them would take 160


def test_what_is_written_is_judged_by_the_last_number(
    items: Path, tiny_model: Path, byte_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = iter(["2 + 2 = 4\n#### 4", "It is 4, or 5", "I do not know"])
    monkeypatch.setattr(HarnessModel, "generate_until", lambda self, requests: [next(written) for _ in requests])
    found = load(items, "gsm8k")
    assert found.tasks["gsm8k"].config.num_fewshot == 5
    assert score_tasks(found, load_model(tiny_model), byte_tokenizer, None) == [1.0, 0.0, 0.0]


def test_a_model_writes_its_own_answers(items: Path, tiny_model: Path, byte_tokenizer: Any) -> None:
    told: list[int] = []
    found = load(items, "gsm8k", shots=0)
    assert found.tasks["gsm8k"].config.num_fewshot == 0
    assert score_tasks(found, load_model(tiny_model), byte_tokenizer, 2, told.append) == [0.0, 0.0]
    assert sum(told) == 2


def test_a_model_whose_window_is_too_short_is_refused(items: Path, tiny_model: Path, byte_tokenizer: Any) -> None:
    with pytest.raises(UnfitModel, match="bbh_cot_fewshot_navigate lets a model write 1024 tokens, but this one reads"):
        score_tasks(load(items, "bbh"), load_model(tiny_model), byte_tokenizer, None)


@pytest.mark.parametrize(
    ("name", "task", "missing"), [("ceval", "ceval-valid_law", 51), ("cmmlu", "cmmlu_agronomy", 66)]
)
def test_chinese_benchmarks_run_and_a_limit_is_per_subject(
    items: Path, tiny_model: Path, byte_tokenizer: Any, name: str, task: str, missing: int
) -> None:
    found = load(items, name)
    assert (list(found.tasks), len(found.missing)) == ([task], missing)
    assert len(score_tasks(found, load_model(tiny_model), byte_tokenizer, 3)) == 3


def test_worked_examples_need_their_file_only_if_there_are_any(
    items: Path, tiny_model: Path, byte_tokenizer: Any
) -> None:
    for subject in ("anatomy", "astronomy"):
        (items / "mmlu" / subject / "dev.jsonl").unlink()
    (items / "gsm8k" / "train.jsonl").unlink()
    assert len(score_tasks(load(items, "mmlu"), load_model(tiny_model), byte_tokenizer, 1)) == 2
    with pytest.raises(TasksMissing, match=r"anatomy/dev\*\.parquet"):
        load(items, "mmlu", shots=5)
    with pytest.raises(TasksMissing, match=r"train\*\.parquet"):
        load(items, "gsm8k")


def test_without_files_the_benchmark_says_which_are_wanted(tmp_path: Path) -> None:
    with pytest.raises(TasksMissing, match=r"cmmlu/agronomy/test\*\.parquet .* any of 67 subjects"):
        load(tmp_path, "cmmlu")
    with pytest.raises(TasksMissing, match="--tasks-dir DIR"):
        load_tasks(["mmlu"], None)
