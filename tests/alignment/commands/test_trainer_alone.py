"""The trainer is a tool of its own: it needs no engine, no gateway and no database, installed or running."""

import json
import os
import subprocess
import sys
from pathlib import Path

from alignment.pairs.pair import PreferencePair

ABSENT = ("vllm", "lmdeploy", "uvicorn", "fastapi", "aiosqlite", "asyncpg", "alembic")
"""Replaced by modules that fail as an uninstalled package does."""


def alignway(*words: object, without: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": f"{without}{os.pathsep}{Path.cwd()}", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "gateway", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)


def test_train_and_evaluate_work_where_neither_engine_nor_server_nor_database_is_installed(
    tiny_model: Path, colour_pairs: list[PreferencePair], tmp_path: Path
) -> None:
    without, out, pairs = tmp_path / "absent", tmp_path / "out", tmp_path / "pairs.jsonl"
    without.mkdir()
    for name in ABSENT:
        (without / f"{name}.py").write_text(f'raise ModuleNotFoundError("{name} is not installed", name="{name}")\n')
    rows = [{"prompt": p.prompt[0].text, "chosen": p.chosen.text, "rejected": p.rejected.text} for p in colour_pairs]
    pairs.write_text("\n".join(json.dumps(row) for row in rows))

    asked = ("--model", tiny_model, "--dataset", pairs)
    trained = alignway("train", *asked, "--out", out, "--max-steps", 2, "--device", "cpu", "--json", without=without)
    assert trained.returncode == 0, trained.stderr
    result = json.loads(trained.stdout)
    assert result["steps"] == 2
    measured = alignway("evaluate", *asked, "--adapter", result["adapter"], "--json", without=without)
    assert measured.returncode == 0, measured.stderr
    assert json.loads(measured.stdout)["pairs"] == 32
