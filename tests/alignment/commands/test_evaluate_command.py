"""`alignway evaluate` as a user types it: what it prints, and what it refuses."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from peft import LoraConfig, get_peft_model
from typer.testing import CliRunner

from alignment.commands.evaluate import evaluate
from alignment.commands.evaluation_table import evaluation_table, print_evaluation
from alignment.jobs.contracts import EvaluateResult, TaskReport, TaskTest
from alignment.models import load_model
from alignment.pairs.pair import PreferencePair
from gateway.contracts.release import Interval


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("adapter")
    get_peft_model(load_model(tiny_model), LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(str(folder))
    return folder


@pytest.fixture
def run(tmp_path: Path, tiny_model: Path, colour_pairs: list[PreferencePair]) -> Any:
    rows = [{"prompt": p.prompt[0].text, "chosen": p.chosen.text, "rejected": p.rejected.text} for p in colour_pairs]
    (tmp_path / "pairs.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    cli = typer.Typer()
    cli.command()(evaluate)
    words = ["--model", str(tiny_model), "--dataset", str(tmp_path / "pairs.jsonl")]
    return lambda *more: CliRunner().invoke(cli, [*words, *(str(word) for word in more)])


def test_json_alone_is_on_standard_output(run: Any, adapter: Path) -> None:
    done = run("--adapter", adapter, "--incumbent", adapter, "--generate", 3, "--json")
    assert done.exit_code == 0, done.output
    metrics = json.loads(done.stdout)["metrics"]
    for name in ("holdout_accuracy", "holdout_margin", "holdout_chosen_nll"):
        for suffix in ("", "_incumbent", "_base", "_difference", "_difference_base"):
            assert set(metrics[name + suffix]) == {"value", "low", "high"}
    assert metrics["generation_mean_tokens"]["value"] == 3.0
    assert done.stderr == ""


def test_people_get_a_table(run: Any, adapter: Path) -> None:
    done = run("--adapter", adapter, "--generate", 0)
    assert done.exit_code == 0, done.output
    assert "32 pairs about 32 prompts, 11 of one length" in done.stdout
    assert "prefers the chosen side" in done.stdout
    assert "perplexity, English" in done.stdout
    assert "answers:" not in done.stdout
    assert "difference: candidate minus base" in done.stdout
    for header in ("candidate", "base", "difference"):
        assert f" {header} ┃" in done.stdout
    assert "incumbent" not in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--incumbent", "x"), "give it too: --adapter DIR"),
        (("--texts", "en,fr"), "--texts knows en and zh, not fr"),
        (("--task", "arc"), "there is no task arc; choose among mmlu, gsm8k, bbh, ceval, cmmlu"),
        (("--task", "mmlu", "--task-limit", 0), "--task-limit is 1 or more, not 0"),
        (("--task", "mmlu", "--task-shots", -1), "--task-shots is 0 or more, not -1"),
        (("--adapter", "/nowhere"), "holds no LoRA adapter"),
    ],
)
def test_a_wrong_option_ends_with_status_1_and_says_what_to_do(run: Any, words: tuple[Any, ...], message: str) -> None:
    refused = run(*words)
    assert refused.exit_code == 1
    assert message in refused.output


def test_without_the_package_a_task_says_how_to_get_it(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "lm_eval" else find(name))
    refused = run("--task", "mmlu", "--tasks-dir", "items")
    assert refused.exit_code == 1
    assert "pip install 'alignway[lm-eval]'" in refused.output


def test_without_items_a_task_says_which_are_missing_and_where_they_belong(run: Any, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval", reason="lm-eval is not installed: pip install 'alignway[lm-eval]'")
    refused = run("--task", "gsm8k", "--tasks-dir", tmp_path / "items")
    assert refused.exit_code == 1
    assert f"wanted is {tmp_path}/items/gsm8k/main/test*.parquet" in refused.output
    assert "hf download openai/gsm8k" in refused.output


MEASURED = EvaluateResult(
    metrics={
        "holdout_accuracy": Interval(value=0.75, low=0.5, high=1.0),
        "holdout_accuracy_incumbent": Interval(value=0.5, low=0.25, high=0.75),
        "holdout_accuracy_base": Interval(value=0.25, low=0.0, high=0.5),
        "holdout_accuracy_difference": Interval(value=0.25, low=-0.125, high=0.5),
        "kl_to_base": Interval(value=0.125, low=0.1, high=0.15),
        "perplexity": 20.5,
        "perplexity_incumbent": 20.25,
        "perplexity_base": 20.0,
        "task_mmlu": Interval(value=0.5, low=0.25, high=0.75),
    },
    pairs=4,
    prompts=3,
    dropped={"too_long": 2},
    tasks={
        "mmlu": TaskReport(
            items=40, subjects=2, missing=("a", "b", "c", "d", "e", "f"),
            against_incumbent=TaskTest(won=5, lost=0, p_value=0.0625), against_base=TaskTest(won=3, lost=3, p_value=1),
        )
    },
)  # fmt: skip


def rows(has_incumbent: bool) -> dict[str, list[str]]:
    columns = evaluation_table(MEASURED, has_incumbent).columns
    cells = zip(*(column.cells for column in columns), strict=True)
    return {str(first): [str(cell) for cell in rest] for first, *rest in cells}


def test_a_row_holds_each_model_and_the_difference() -> None:
    found = rows(has_incumbent=True)
    assert found["prefers the chosen side"] == [
        "75.0%  (50.0% to 100.0%)", "50.0%  (25.0% to 75.0%)", "25.0%  (0.0% to 50.0%)", "+25.0%  (-12.5% to +50.0%)"
    ]  # fmt: skip
    assert found["perplexity, English"] == ["20.50", "20.25", "20.00", ""]
    assert found["KL to the base, nats a token"] == ["0.12500  (0.10000 to 0.15000)", "", "", ""]
    assert found["mmlu, answered right"][0] == "50.0%  (25.0% to 75.0%)"
    assert found["perplexity, English"][::2] == rows(has_incumbent=False)["perplexity, English"][:2]


def test_what_figures_do_not_say_stands_below(capsys: pytest.CaptureFixture[str]) -> None:
    print_evaluation(MEASURED, has_incumbent=True)
    told = capsys.readouterr().out
    assert "2 pairs left out: too_long" in told
    assert "mmlu: 40 items of 2 subjects" in told
    assert "not the whole of it: 6 of 8 subjects have no files: a, b, c, d, e and 1 more" in told
    assert "against the incumbent: 5 items won, 0 lost; p = 0.0625 (exact sign test)" in told
    assert "against the base: 3 items won, 3 lost; p = 1 (exact sign test)" in told
