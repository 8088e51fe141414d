"""An export is whole or absent, tells what it cost, and says what to type when something is missing."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from safetensors import safe_open
from typer.testing import CliRunner

from alignment.commands.export import export
from alignment.commands.merge import merge
from alignment.export.environment import find_python
from alignment.export.order import ExportResult
from alignment.models import load_model, load_tokenizer
from gateway.contracts.release import BaseModelRef
from gateway.contracts.training import TrainingOptions

EXPORT_PYTHON = Path(os.environ.get("ALIGNWAY_EXPORT_PYTHON") or Path(sys.prefix).parent / ".venv-export/bin/python")
needs_environment = pytest.mark.skipif(
    not EXPORT_PYTHON.is_file(), reason="there is no export environment: make export-env"
)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setenv("ALIGNWAY_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("ALIGNWAY_EXPORT_PYTHON", raising=False)
    cli = typer.Typer()
    cli.command()(export)
    cli.command()(merge)
    return lambda *words: CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture
def adapter(tiny_model: Path, tmp_path: Path) -> Path:
    from alignment.adapter.attach import attach_adapter, save_adapter

    base = BaseModelRef(model="owner/model", revision="r1", weights_sha256="0")
    adapted = attach_adapter(load_model(tiny_model), base, TrainingOptions(rank=4, alpha=8))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.2)
    save_adapter(adapted, base, tmp_path / "adapter")
    return tmp_path / "adapter"


def stand_in(folder: Path, body: str) -> Path:
    """A Python of an export environment that runs `body` instead of the program; `order` is what it was asked."""
    script = folder / "stand_in.py"
    script.write_text(f"import json, os, shutil, signal, sys\norder = json.load(sys.stdin)\n{body}\n")
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}"\n')
    python.chmod(0o755)
    return python


def answering(folder: Path, perplexity: str) -> Path:
    """A stand-in that copies the weights and reports that perplexity."""
    return stand_in(
        folder,
        "for name in ('config.json', 'model.safetensors'):\n"
        "    shutil.copy(os.path.join(order['model'], name), order['out'])\n"
        f"print(json.dumps({{'report': {{'perplexity': {perplexity}, 'seconds': 1.0, 'versions': {{}}}}}}))",
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--quantize", "int3"), "--quantize is w4a16, gptq, awq, fp8 or none, not int3"),
        (("--quantize", "fp8", "--dataset", "rows.jsonl"), "fp8 looks at no data; leave --dataset out"),
        (("--quantize", "none", "--dataset", "rows.jsonl"), "none looks at no data"),
        (("--quantize", "w4a16", "--export-python", "absent/python"), "absent/python is no Python to run"),
        (("--quantize", "none", "--adapter", "absent"), "holds no LoRA adapter"),
        (("--quantize", "none", "--hub", "elsewhere"), "--hub is huggingface or modelscope"),
    ],
)
def test_a_wrong_option_ends_with_status_1_and_says_what_to_do(
    run: Any, tiny_model: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    refused = run("export", "--model", tiny_model, "--out", tmp_path / "out", *words)
    assert refused.exit_code == 1
    assert message in refused.output
    assert not (tmp_path / "out").exists()


def test_without_the_environment_the_error_says_what_to_type(
    run: Any, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    refused = run("export", "--model", tiny_model, "--out", tmp_path / "out", "--quantize", "w4a16")
    assert refused.exit_code == 1
    assert "make export-env" in refused.output
    assert "python3 -m venv .venv-export && .venv-export/bin/pip install llmcompressor" in refused.output


def test_the_environment_is_found_beside_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    python = tmp_path / ".venv-export" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    assert find_python(None) == python


def test_none_copies_the_model_and_nothing_else(run: Any, tiny_model: Path, tmp_path: Path) -> None:
    done = run("export", "--model", tiny_model, "--out", tmp_path / "out", "--quantize", "none", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["perplexity_after"] is None
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "alignway-export.json",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert (tmp_path / "out/model.safetensors").read_bytes() == (tiny_model / "model.safetensors").read_bytes()
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_none_with_an_adapter_is_what_merge_writes(run: Any, tiny_model: Path, adapter: Path, tmp_path: Path) -> None:
    words = ("--model", tiny_model, "--adapter", adapter)
    assert run("export", *words, "--out", tmp_path / "out", "--quantize", "none").exit_code == 0
    assert run("merge", *words, "--out", tmp_path / "merged").exit_code == 0
    exported, merged = (tmp_path / name / "model.safetensors" for name in ("out", "merged"))
    assert exported.read_bytes() == merged.read_bytes() != (tiny_model / "model.safetensors").read_bytes()


def test_a_rise_beyond_the_limit_is_refused_and_nothing_kept(run: Any, tiny_model: Path, tmp_path: Path) -> None:
    words = ("export", "--model", tiny_model, "--out", tmp_path / "out", "--quantize", "w4a16")
    refused = run(*words, "--export-python", answering(tmp_path, "1e6"))
    assert refused.exit_code == 1
    assert "raised perplexity from" in refused.output
    assert "--max-perplexity-rise 0.5 allows; nothing was kept" in refused.output
    refused = run(*words, "--export-python", answering(tmp_path, "float('nan')"))
    assert refused.exit_code == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["python", "stand_in.py"]


def test_a_rise_of_more_than_a_tenth_is_kept_with_a_warning(run: Any, tiny_model: Path, tmp_path: Path) -> None:
    words = ("--model", tiny_model, "--out", tmp_path / "out", "--quantize", "w4a16", "--max-perplexity-rise", 1e6)
    done = run("export", *words, "--export-python", answering(tmp_path, "1e6"), "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["perplexity_rise"] == pytest.approx(1e6 / result["perplexity_before"] - 1)
    assert "warning: perplexity rose by" in done.stderr
    assert json.loads((tmp_path / "out/alignway-export.json").read_text())["scheme"] == "w4a16"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("print(json.dumps({'failure': 'ValueError: too odd'}))", "could not quantise the model: ValueError: too odd"),
        ("print(json.dumps({'failure': \"ModuleNotFoundError: No module named 'x'\"}))", "make export-env"),
        ("print('last words', file=sys.stderr); sys.exit(3)", "ended with status 3; its last words:\n  last words"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "most likely because the machine ran out of memory"),
    ],
    ids=["refused", "incomplete", "crashed", "killed"],
)
def test_what_went_wrong_over_there_is_told(
    run: Any, tiny_model: Path, tmp_path: Path, body: str, message: str
) -> None:
    python = stand_in(tmp_path, body)
    words = ("--model", tiny_model, "--out", tmp_path / "out", "--quantize", "w4a16", "--export-python", python)
    refused = run("export", *words)
    assert refused.exit_code == 1
    assert message in refused.output
    assert not (tmp_path / "out").exists()


def test_the_rise_is_a_share_of_what_it_was() -> None:
    assert ExportResult(scheme="w4a16", size_bytes=1, perplexity_before=20, perplexity_after=23).rise == pytest.approx(
        0.15
    )
    assert ExportResult(scheme="none", size_bytes=1).rise == 0


def test_help_loads_nothing_heavy() -> None:
    code = "import sys, alignment.commands.export; sys.exit(any(n in sys.modules for n in ('torch', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@needs_environment
@pytest.mark.parametrize("scheme", ["w4a16", "gptq", "awq", "fp8"])
def test_a_model_is_quantised_in_the_export_environment(
    run: Any, tiny_model: Path, adapter: Path, tmp_path: Path, scheme: str
) -> None:
    words = ("--model", tiny_model, "--adapter", adapter, "--out", tmp_path / "out", "--quantize", scheme)
    done = run("export", *words, "--export-python", EXPORT_PYTHON, "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert abs(result["perplexity_rise"]) < 0.1
    assert result["versions"].keys() == {"llmcompressor", "compressed-tensors", "transformers", "torch"}
    assert result["calibration_sequences"] == (24 if scheme in ("gptq", "awq") else 0)
    quantized = json.loads((tmp_path / "out/config.json").read_text())["quantization_config"]
    assert quantized["quant_method"] == "compressed-tensors"
    assert quantized["ignore"] == ["lm_head"]
    weights = quantized["config_groups"]["group_0"]["weights"]
    assert weights["symmetric"]
    if scheme != "fp8":
        assert (weights["num_bits"], weights["group_size"], quantized["format"]) == (4, 32, "pack-quantized")
    with safe_open(tmp_path / "out/model.safetensors", framework="pt") as tensors:
        assert "model.layers.0.mlp.up_proj.weight_scale" in tensors.keys()  # noqa: SIM118
    assert load_tokenizer(tmp_path / "out").chat_template == load_tokenizer(tiny_model).chat_template
