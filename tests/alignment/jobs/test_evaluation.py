"""The job of measuring: three models from one copy in memory, each the same as when it is loaded alone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from alignment.gate.generations import pinned_prompts
from alignment.jobs.contracts import EvaluateJob, EvaluateResult
from alignment.jobs.evaluation import evaluate
from alignment.jobs.evidence import evidence_of
from alignment.models import load_model
from alignment.pairs.pair import PreferencePair
from gateway.contracts.case import Case


@pytest.fixture(scope="module")
def adapters(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two random adapters that say different things."""
    found = {}
    for seed, name in enumerate(("candidate", "incumbent")):
        torch.manual_seed(seed)
        adapted = get_peft_model(load_model(tiny_model), LoraConfig(r=2, target_modules=["q_proj", "down_proj"]))
        with torch.no_grad():
            for parameter_name, parameter in adapted.named_parameters():
                if "lora_B" in parameter_name:
                    parameter.normal_(std=0.5)
        found[name] = tmp_path_factory.mktemp(name)
        adapted.save_pretrained(str(found[name]))
    return found


@pytest.fixture
def job(tiny_model: Path, tmp_path: Path, colour_pairs: list[PreferencePair]) -> Callable[..., EvaluateJob]:
    """Makes a job over the colour pairs."""
    rows = [{"prompt": p.prompt[0].text, "chosen": p.chosen.text, "rejected": p.rejected.text} for p in colour_pairs]
    (tmp_path / "pairs.jsonl").write_text("\n".join(json.dumps(row) for row in rows))

    def make(**fields: Any) -> EvaluateJob:
        given = {"candidate": None, "incumbent": None, "pairs_file": tmp_path / "pairs.jsonl"} | fields
        return EvaluateJob(base_folder=tiny_model, max_length_tokens=256, **given)

    return make


def value(result: EvaluateResult, name: str) -> float:
    measured = result.metrics[name]
    return measured if isinstance(measured, float) else measured.value


FIGURES = (
    "holdout_accuracy", "holdout_matched_accuracy", "holdout_margin", "holdout_chosen_nll", "perplexity",
    "generation_mean_tokens", "generation_repetition", "generation_distinct_share",
)  # fmt: skip


def test_three_models_measure_as_each_does_alone(job: Callable[..., EvaluateJob], adapters: dict[str, Path]) -> None:
    more = {"generate_tokens": 6}
    together = evaluate(job(candidate=adapters["candidate"], incumbent=adapters["incumbent"], **more))
    alone = {"": evaluate(job(candidate=adapters["candidate"], **more)), "_base": evaluate(job(**more))}
    alone["_incumbent"] = evaluate(job(candidate=adapters["incumbent"], **more))
    for name in FIGURES:
        for suffix, result in alone.items():
            assert value(together, name + suffix) == pytest.approx(value(result, name), abs=2e-5, rel=2e-5)
    for name in FIGURES[:4]:
        for suffix, other in (("_difference", "_incumbent"), ("_difference_base", "_base")):
            apart = value(together, name) - value(together, name + other)
            assert value(together, name + suffix) == pytest.approx(apart, abs=1e-9)
    assert len({round(value(together, "perplexity" + suffix), 3) for suffix in alone}) == 3
    seen = evidence_of(together)
    for found, name in (
        (seen.accuracy, "holdout_accuracy"), (seen.accuracy_difference, "holdout_accuracy_difference"),
        (seen.accuracy_difference_base, "holdout_accuracy_difference_base"),
        (seen.margin_difference, "holdout_margin_difference"),
        (seen.matched_difference, "holdout_matched_accuracy_difference"),
    ):  # fmt: skip
        assert found is not None
        assert found.model_dump() == pytest.approx(together.metrics[name].model_dump(), abs=1e-9)  # type: ignore[union-attr]
    (texts,) = seen.perplexity
    told = (value(together, "perplexity"), value(together, "perplexity_base"), value(together, "perplexity_incumbent"))
    assert (texts.candidate, texts.base, texts.incumbent) == pytest.approx(told)
    assert seen.answers is not None
    assert seen.answers.repetition_base == pytest.approx(value(together, "generation_repetition_base"))


def test_without_an_incumbent_the_base_stands_in(job: Callable[..., EvaluateJob], adapters: dict[str, Path]) -> None:
    found = evaluate(job(candidate=adapters["candidate"]))
    assert found.metrics["holdout_margin_incumbent"] == found.metrics["holdout_margin_base"]
    assert not [name for name in found.metrics if name.endswith("_difference_base")]
    assert value(found, "kl_to_base") > 0.001
    assert found.metrics["perplexity_incumbent"] == found.metrics["perplexity_base"]


def test_the_base_alone_has_nothing_to_compare_with(job: Callable[..., EvaluateJob]) -> None:
    found = evaluate(job())
    assert set(found.metrics) == {
        "holdout_accuracy", "holdout_matched_accuracy", "holdout_margin", "holdout_chosen_nll", "perplexity",
        "perplexity_base",
    }  # fmt: skip
    assert found.metrics["perplexity"] == found.metrics["perplexity_base"]
    # blue against red, redred and redredred, with the end token: 5 tokens against 4, 7 and 10
    assert (found.pairs, found.prompts, found.matched_pairs) == (32, 32, 11)


def test_an_adapter_that_does_nothing_is_at_no_distance_from_its_base(
    job: Callable[..., EvaluateJob], tiny_model: Path, tmp_path: Path
) -> None:
    get_peft_model(load_model(tiny_model), LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(str(tmp_path))
    found = evaluate(job(candidate=tmp_path))
    assert value(found, "kl_to_base") == pytest.approx(0.0, abs=1e-6)
    assert value(found, "holdout_margin_difference") == 0.0


def test_chinese_pairs_bring_chinese_texts(job: Callable[..., EvaluateJob], tmp_path: Path) -> None:
    row = {"prompt": "天空是什么颜色？", "chosen": "蓝色。", "rejected": "red"}
    (tmp_path / "zh.jsonl").write_text(json.dumps(row))
    found = evaluate(job(pairs_file=tmp_path / "zh.jsonl"))
    assert found.languages == ("en", "zh")
    assert value(found, "perplexity_zh") > 1
    assert evaluate(job()).languages == ("en",)


def test_a_job_as_a_cycle_gives_it_writes_no_answers(job: Callable[..., EvaluateJob]) -> None:
    assert not [name for name in evaluate(job(pairs_file=None)).metrics if name.startswith("generation")]


def test_the_distance_of_answers_is_measured_where_the_candidate_writes(
    job: Callable[..., EvaluateJob], adapters: dict[str, Path], tiny_model: Path, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {"generate_tokens": 4, "measures_drift": True, "pairs_file": None}
    found = evaluate(job(candidate=adapters["candidate"], incumbent=adapters["candidate"], **asked))
    assert value(found, "answers_changed_incumbent") == 0.0  # the incumbent is the candidate itself
    assert value(found, "answers_kl_to_base") > 0.001
    evidence = evidence_of(found)
    assert evidence.answers is not None
    assert (evidence.answers.prompts, evidence.accuracy) == (20, None)
    get_peft_model(load_model(tiny_model), LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(str(tmp_path))
    still = evidence_of(evaluate(job(candidate=tmp_path, **asked))).drift
    assert still is not None
    assert still.kl.value == pytest.approx(0.0, abs=1e-6)
    assert still.changed == {"the incumbent": 0.0, "the base": 0.0}


def test_cases_are_answered_by_the_candidate_and_by_the_model_to_beat(
    job: Callable[..., EvaluateJob], adapters: dict[str, Path]
) -> None:
    prompt = [{"role": "user", "content": "colour 1?"}]
    rows = [{"must_contain": ["no model says this"]}, {"must_not_contain": ["nor this"], "severity": "warn"}]
    cases = tuple(Case.model_validate({"id": f"case_{n}", "prompt": prompt, **row}) for n, row in enumerate(rows))
    found = evaluate(job(candidate=adapters["candidate"], cases=cases, case_tokens=4, pairs_file=None))
    lacking = ("lacks 'no model says this'",)
    assert [(one.id, one.severity, one.failures, one.failures_before) for one in evidence_of(found).cases] == [
        ("case_0", "block", lacking, lacking), ("case_1", "warn", (), ()),
    ]  # fmt: skip


def test_progress_is_told_for_every_model_to_the_end(
    job: Callable[..., EvaluateJob], adapters: dict[str, Path]
) -> None:
    totals: dict[str, int] = {}
    done: dict[str, int] = {}

    def watch(what: str, total: int) -> Callable[[int], None]:
        totals[what], done[what] = total, 0
        return lambda more: done.__setitem__(what, done[what] + more)

    evaluate(job(candidate=adapters["candidate"], generate_tokens=2), watch)
    prompts = len(pinned_prompts(["en"]))
    assert totals == {
        "held-out pairs, candidate": 32, "texts (en), candidate": 40, "texts (en), base": 40,
        "answers, candidate": prompts, "answers, base": prompts,
    }  # fmt: skip
    assert done == totals


def test_benchmarks_compare_the_models_item_by_item(
    job: Callable[..., EvaluateJob], adapters: dict[str, Path], tmp_path: Path
) -> None:
    pytest.importorskip("lm_eval", reason="lm-eval is not installed: pip install 'alignway[lm-eval]'")
    rows = [{"question": f"What is {n}?", "choices": list("abcd"), "answer": n % 4} for n in range(24)]
    (tmp_path / "mmlu" / "anatomy").mkdir(parents=True)
    (tmp_path / "mmlu" / "anatomy" / "test.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    tasks = {"tasks": ("mmlu",), "tasks_folder": tmp_path, "task_limit": 20, "pairs_file": None}
    found = evaluate(job(candidate=adapters["candidate"], incumbent=adapters["incumbent"], **tasks))
    report = found.tasks["mmlu"]
    assert (report.items, report.subjects, len(report.missing)) == (20, 1, 56)
    assert report.against_incumbent is not None
    assert report.against_base is not None
    for test, suffix in ((report.against_incumbent, "_difference"), (report.against_base, "_difference_base")):
        assert value(found, "task_mmlu" + suffix) == pytest.approx((test.won - test.lost) / 20)
    alone = evaluate(job(candidate=adapters["incumbent"], **tasks))
    assert value(alone, "task_mmlu") == value(found, "task_mmlu_incumbent")
    assert value(alone, "task_mmlu_base") == value(found, "task_mmlu_base")
