"""The trainer's commands as a user types them, on a tiny model."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from alignment.commands import models
from alignment.commands.evaluate import evaluate
from alignment.commands.merge import merge
from alignment.commands.train import train
from alignment.pairs.pair import PreferencePair


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("ALIGNWAY_CACHE_DIR", str(tmp_path / "cache"))
    cli = typer.Typer()
    for command in (train, evaluate, merge):
        cli.command()(command)
    cli.add_typer(models.app, name="models")
    return lambda *words: CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture
def dataset(tmp_path: Path, colour_pairs: list[PreferencePair]) -> Path:
    rows = [{"prompt": p.prompt[0].text, "chosen": p.chosen.text, "rejected": p.rejected.text} for p in colour_pairs]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


QUICK = ("--max-steps", 8, "--learning-rate", 1e-2, "--rank", 4, "--device", "cpu")


def test_train_then_evaluate_then_merge(run: Any, tiny_model: Path, dataset: Path, tmp_path: Path) -> None:
    trained = run("train", "--model", tiny_model, "--dataset", dataset, "--out", tmp_path / "out", *QUICK, "--json")
    assert trained.exit_code == 0, trained.output
    result = json.loads(trained.stdout)
    assert (result["pairs"], result["steps"], result["dropped"]) == (32, 8, {})
    adapter = result["adapter"]
    assert not list((tmp_path / "out").glob("checkpoint-*"))

    measured = run("evaluate", "--model", tiny_model, "--adapter", adapter, "--dataset", dataset, "--json")
    metrics = json.loads(measured.stdout)["metrics"]
    assert metrics["holdout_accuracy"]["value"] == 1.0
    assert metrics["holdout_chosen_nll_difference"]["value"] < 0

    merged = run("merge", "--model", tiny_model, "--adapter", adapter, "--out", tmp_path / "merged", "--json")
    assert json.loads(merged.stdout)["rank"] == 4
    assert json.loads(merged.stdout)["check"]["max_relative_difference"] < 1e-5
    alone = run("evaluate", "--model", tmp_path / "merged", "--dataset", dataset, "--json")
    assert json.loads(alone.stdout)["metrics"]["holdout_margin"]["value"] == pytest.approx(
        metrics["holdout_margin"]["value"], abs=1e-5
    )


def test_people_are_told_what_was_done_and_what_comes_next(
    run: Any, tiny_model: Path, dataset: Path, tmp_path: Path
) -> None:
    trained = run("train", "--model", tiny_model, "--dataset", dataset, "--out", tmp_path / "out", *QUICK)
    assert trained.exit_code == 0, trained.output
    assert "stop after 8 steps: max_steps asks for it" in trained.output
    assert "Trained on 32 rows" in trained.output
    assert "Next: alignway merge" in trained.output
    adapter = tmp_path / "out" / "adapter"
    merged = run("merge", "--model", tiny_model, "--adapter", adapter, "--out", tmp_path / "merged")
    assert "Checked against base plus adapter (float32" in merged.output
    assert "100.0% of the next tokens agree" in merged.output


def test_beta_is_explained(run: Any, dataset: Path, tmp_path: Path) -> None:
    refused = run("train", "--dataset", dataset, "--out", tmp_path / "out", "--beta", "0.2")
    assert refused.exit_code == 1
    assert "what TRL and ms-swift call beta is `lambda` here" in refused.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--method", "ppo"), "there is no method ppo; choose one of orpo, orpo-kl, dpo"),
        (("--method", "orpo", "--orpo-alpha", "1"), "orpo as published has no KL term"),
        (("--method", "simpo", "--rpo-alpha", "1"), "method simpo has no parameter rpo_alpha"),
        (("--quantize", "nf4", "--device", "cpu"), "needs a GPU"),
        (("--device", "npu"), "device npu needs torch_npu"),
        (("--runner", "slurm"), "--runner is local or ray, not slurm"),
        (("--learning-rate", "-1"), "learning_rate"),
        (("--model", "nowhere-at-all"), "there is no folder nowhere-at-all, and it is no model id"),
        (("--hub", "elsewhere"), "--hub is huggingface or modelscope, not elsewhere"),
    ],
)
def test_a_wrong_option_ends_with_status_1_and_says_what_to_do(
    run: Any, tiny_model: Path, dataset: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    refused = run("train", "--model", tiny_model, "--dataset", dataset, "--out", tmp_path / "out", *words)
    assert refused.exit_code == 1
    assert message in refused.output


def test_a_bad_row_ends_with_its_line(run: Any, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"prompt": "a", "chosen": "b"}')
    refused = run("train", "--model", tiny_model, "--dataset", tmp_path / "bad.jsonl", "--out", tmp_path / "out")
    assert refused.exit_code == 1
    assert "line 1: no known shape" in refused.output


def test_a_folder_of_another_run_is_not_gone_on_with(run: Any, tiny_model: Path, dataset: Path, tmp_path: Path) -> None:
    words = ("train", "--model", tiny_model, "--dataset", dataset, "--out", tmp_path / "out", *QUICK)
    assert run(*words).exit_code == 0
    refused = run(*words, "--seed", 1)
    assert refused.exit_code == 1
    assert "holds another run" in refused.output


def test_going_on_takes_the_same_words_and_refuses_others(
    run: Any, tiny_model: Path, dataset: Path, tmp_path: Path
) -> None:
    words = ("train", "--model", tiny_model, "--dataset", dataset, "--out", tmp_path / "out", *QUICK)
    assert run(*words).exit_code == 0
    refused = run("train", "--resume", "--out", tmp_path / "out", "--rank", 8, "--lambda", 0.5, "--max-steps", 8)
    assert refused.exit_code == 1
    assert "leave --lambda, --rank out, or begin anew in another folder" in refused.output


def test_going_on_with_a_finished_run_tells_its_result_and_trains_nothing(
    run: Any, tiny_model: Path, dataset: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ("train", "--model", tiny_model, "--dataset", dataset, "--out", out, *QUICK)
    first = run(*words, "--json")
    written = (out / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns
    again = run(*words, "--resume", "--json")
    assert again.exit_code == 0
    assert json.loads(again.stdout) == json.loads(first.stdout)
    assert "is finished; nothing was left to do" in again.stderr
    assert (out / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns == written
    told = run("train", "--resume", "--out", out)
    assert f"Next: alignway merge --model {tiny_model} " in told.output


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_training_told_to_end_leaves_a_checkpoint_and_says_how_to_go_on(
    tiny_model: Path, dataset: Path, tmp_path: Path, sent: signal.Signals
) -> None:
    out = tmp_path / "out"
    words = ["train", "--model", tiny_model, "--dataset", dataset, "--out", out, "--max-steps", 5000, "--device", "cpu"]
    command = [sys.executable, "-m", "gateway", *map(str, words), "--checkpoint-seconds", "3600"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        while not (out / "metrics.jsonl").exists():
            assert child.poll() is None
            time.sleep(0.05)
        child.send_signal(sent)
        _, told = child.communicate(timeout=60)
    assert child.returncode == 1
    assert f"go on with: alignway train --resume --out {out}" in told
    (checkpoint,) = out.glob("checkpoint-*")
    steps = len((out / "metrics.jsonl").read_text().splitlines())
    assert checkpoint.name == f"checkpoint-{steps}"


def test_merge_never_mixes_into_a_folder_in_use(run: Any, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    refused = run("merge", "--model", tiny_model, "--adapter", tmp_path, "--out", tmp_path / "full")
    assert refused.exit_code == 1
    assert "is there already" in refused.output


def test_a_folder_without_an_adapter_is_refused(run: Any, tiny_model: Path, tmp_path: Path) -> None:
    refused = run("merge", "--model", tiny_model, "--adapter", tmp_path, "--out", tmp_path / "merged")
    assert refused.exit_code == 1
    assert "holds no LoRA adapter" in refused.output
    assert not (tmp_path / "merged").exists()


def test_models_path_tells_folder_and_identity(run: Any, tiny_model: Path) -> None:
    found = json.loads(run("models", "path", tiny_model, "--json").stdout)
    assert found["folder"] == str(tiny_model)
    assert found["base"]["model"] == "local/tiny-llama"


def test_help_is_quick_because_nothing_heavy_is_loaded() -> None:
    code = (
        "import sys, alignment.commands.train, alignment.commands.evaluate, alignment.commands.merge, "
        "alignment.commands.models; sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'peft')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
