"""The card beside an adapter: what it learnt from, why so, and words that open it."""

import hashlib
import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from alignment.adapter_card import adapter_card
from alignment.jobs.contracts import TrainJob, TrainResult
from gateway.contracts.release import BaseModelRef
from gateway.contracts.training import TrainingOptions
from tests.alignment.trainer_child import run


def job(model: str) -> TrainJob:
    return TrainJob(
        base_folder=Path("/models/secret"),
        base=BaseModelRef(model=model, revision="r7", weights_sha256="abc"),
        options=TrainingOptions(method="dpo", beta=0.3, rank=8),
        pairs_file=Path("/data/votes.jsonl"),
        folder=Path("/runs/7"),
    )


RESULT = TrainResult(
    adapter=Path("/runs/7/adapter"),
    pairs=90,
    dropped={"too_long": 7, "same_tokens": 3},
    shortened=2,
    steps=24,
    learning_rate=2e-4,
    reasons=("24 steps of 4 pairs", "learning rate 0.0002: as asked"),
    last={"step": 24, "loss": 0.5, "rewards/accuracy": 0.75},
    best={"step": 20, "loss": 0.625},
    seconds=3.0,
)
ROWS = {"dataset": "/data/votes.jsonl", "data_sha256": "d1", "holdout": "/data/kept.jsonl", "holdout_sha256": "h1"}


def test_the_card_names_method_data_reasons_figures_and_versions() -> None:
    card = adapter_card(job("owner/model"), RESULT, ROWS, {"torch": "2.13"})
    for line in (
        "base_model: owner/model",
        "tags: [alignway, dpo, lora]",
        "# Adapter for owner/model, trained with DPO",
        "| revision | r7 |",
        "| weights_sha256 | abc |",
        "| file | votes.jsonl |",
        "| sha256 | d1 |",
        "| rows trained on | 90 |",
        "| rows left out | 7: longer than max_length_tokens, even without the oldest turns |",
        "| rows left out | 3: both answers are the same tokens |",
        "| rows without their oldest turns, to fit | 2 |",
        "| held-out file | kept.jsonl |",
        "| beta | 0.3 |",
        "- learning rate 0.0002: as asked",
        "| rewards/accuracy | 0.75 |",
        "| loss | 0.625 |",
        "| torch | 2.13 |",
        'base = AutoModelForCausalLM.from_pretrained("owner/model", revision="r7")',
        'model = PeftModel.from_pretrained(base, "adapter")',
    ):
        assert line in card.splitlines(), line
    for folder in ("/models", "/data", "/runs"):
        assert folder not in card


def test_the_card_of_a_run_opens_its_adapter(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"prompt": f"colour {number}?", "chosen": "blue", "rejected": "red"} for number in range(8)]
    rows += [{"prompt": "long?", "chosen": "blue" * 200, "rejected": "red"}]
    pairs, out = tmp_path / "pairs.jsonl", tmp_path / "out"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--model", tiny_model, "--dataset", pairs, "--out", out, "--device", "cpu", "--max-length", 128]
    ended = run([*words, "--max-steps", 2], tmp_path / "log")
    assert ended.status == 0, ended.err
    assert sorted(path.name for path in (out / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    card = (out / "README.md").read_text()
    assert f"| sha256 | {hashlib.sha256(pairs.read_bytes()).hexdigest()} |" in card
    assert "| rows trained on | 8 |" in card
    assert "| rows left out | 1: longer than" in card
    assert "| nll | prompt_and_chosen |" in card
    assert str(tmp_path) not in card
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    (out / tiny_model.name).symlink_to(tiny_model)
    monkeypatch.chdir(out)
    opened: dict[str, torch.nn.Module] = {}
    exec(code, opened)
    weights = {name.replace(".default", ""): value for name, value in opened["model"].state_dict().items()}
    for name, value in load_file(out / "adapter" / "adapter_model.safetensors").items():
        assert torch.equal(weights[name], value)
