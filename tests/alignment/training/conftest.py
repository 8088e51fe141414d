"""Pairs in a file, and the words of a short run on them, for tests that train through the command line."""

import json
from pathlib import Path

import pytest

from alignment.pairs.pair import PreferencePair


@pytest.fixture
def pairs_file(tmp_path: Path, colour_pairs: list[PreferencePair]) -> Path:
    return _written(tmp_path / "pairs.jsonl", colour_pairs[4:])


@pytest.fixture
def holdout_file(tmp_path: Path, colour_pairs: list[PreferencePair]) -> Path:
    return _written(tmp_path / "holdout.jsonl", colour_pairs[:4])


@pytest.fixture
def words(tiny_model: Path, pairs_file: Path) -> list[str]:
    return [
        "--model", str(tiny_model), "--dataset", str(pairs_file), "--epochs", "100", "--learning-rate", "0.003",
        "--rank", "4", "--dropout", "0.1", "--device", "cpu", "--seed", "3",
    ]  # fmt: skip


def _written(path: Path, pairs: list[PreferencePair]) -> Path:
    rows = [{"prompt": p.prompt[0].text, "chosen": p.chosen.text, "rejected": p.rejected.text} for p in pairs]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
