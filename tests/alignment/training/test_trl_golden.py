"""The loss on a real model against TRL's ORPOTrainer and against plain float64 logits, pair by pair.

The golden file is made by `benchmarks/training/make_trl_golden.py`. A second one, over other people's preference
data that is not ours to copy, is checked as well where `ALIGNWAY_TRL_REFERENCE` and `ALIGNWAY_PREFERENCES` name it.
"""

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from alignment.losses.orpo import likelihood, orpo_loss
from alignment.models import load_model, load_tokenizer
from alignment.pairs.pair import PreferencePair
from alignment.pairs.read import read_pairs
from alignment.pairs.render import PairRenderer
from alignment.pairs.tokens import TokenPair
from alignment.step.pair_step import PairStep
from gateway.contracts.message import Message

OWN = Path(__file__).parents[1] / "data" / "trl_golden.json"
OTHER = (os.environ.get("ALIGNWAY_TRL_REFERENCE"), os.environ.get("ALIGNWAY_PREFERENCES"))
# That reference was made on the same weights, saved in bfloat16.
BFLOAT16_WEIGHTS = "7ef915c9bf9d94d8d70211970476878352a5b95855c589ae987916d7a455242b"
OTHER_NAMES = {
    "avg_logp_chosen": "chosen_logps",
    "avg_logp_rejected": "rejected_logps",
    "nll": "nll",
    "log_odds": "log_odds_ratio",
    "loss": "total",
}


@dataclass(frozen=True)
class Golden:
    """Pairs as TRL tokenised them, and its values in both precisions."""

    pairs: list[TokenPair]
    float32: list[dict[str, float]]
    float64: list[dict[str, float]]
    lambda_: float
    bfloat16_weights: bool


@pytest.fixture(scope="module", params=["own", "other"] if all(OTHER) else ["own"])
def golden(request: pytest.FixtureRequest, real_model: Path) -> Golden:
    tokenizer = load_tokenizer(real_model)
    return _own() if request.param == "own" else _other(tokenizer)


@pytest.fixture(scope="module", params=["float64", "float32"])
def found(request: pytest.FixtureRequest, golden: Golden, real_model: Path) -> tuple[str, list[dict[str, float]]]:
    """Our values for every pair, in one precision after the other."""
    model = load_model(real_model, getattr(torch, request.param))
    if golden.bfloat16_weights:
        for parameter in model.parameters():
            parameter.data = parameter.data.bfloat16().to(parameter.dtype)
    step = PairStep(model, pad_id=0)
    return request.param, [_values(model, step, pair, golden.lambda_) for pair in golden.pairs]


def test_every_value_equals_trl_and_the_exact_one(golden: Golden, found: tuple[str, list[dict[str, float]]]) -> None:
    precision, ours = found
    # Not 1e-9: transformers takes the cosines of positions in float32, whose last digits are the processor's.
    expected, tolerance = (golden.float64, 1e-6) if precision == "float64" else (golden.float32, 2e-5)
    worst = {
        name: max(abs(one[name] - other[name]) for one, other in zip(ours, expected, strict=True))
        for name in OTHER_NAMES.values()
    }
    print(f"{precision}, largest differences: {worst}")
    assert max(worst.values()) <= tolerance, worst


def test_our_tokens_are_those_of_trl_without_its_second_end_token(real_model: Path) -> None:
    tokenizer = load_tokenizer(real_model)
    document = json.loads(OWN.read_text(encoding="utf-8"))
    for row in document["pairs"]:
        tokens = _rendered(tokenizer, _pair(row))
        assert tokens.prompt == row["prompt_ids"]
        assert _with_second_end(tokenizer, tokens.chosen) == row["chosen_ids"]
        assert _with_second_end(tokenizer, tokens.rejected) == row["rejected_ids"]


@torch.no_grad()
def _values(model: Any, step: PairStep, pair: TokenPair, lambda_: float) -> dict[str, float]:
    logps = step.logps(model, step.collate([pair]), prompt=True)
    nll = likelihood(logps)
    loss = orpo_loss(logps.chosen.means, logps.rejected.means, nll, lambda_)
    return {
        "chosen_logps": logps.chosen.means.item(),
        "rejected_logps": logps.rejected.means.item(),
        "nll": nll.item(),
        "log_odds_ratio": loss.log_odds_ratio.item(),
        "total": loss.per_pair.item(),
    }


def _own() -> Golden:
    document = json.loads(OWN.read_text(encoding="utf-8"))
    rows = document["pairs"]
    pairs = [TokenPair(row["id"], "", 1.0, row["prompt_ids"], row["chosen_ids"], row["rejected_ids"]) for row in rows]
    single, double = ([row[name] for row in rows] for name in ("trl_float32", "float64"))
    return Golden(pairs, single, double, document["lambda"], bfloat16_weights=False)


def _other(tokenizer: Any) -> Golden:
    reference, preferences = (Path(str(name)) for name in OTHER)
    document = json.loads(reference.read_text(encoding="utf-8"))
    texts = {pair.id: pair for pair in read_pairs(preferences)}
    pairs = [_as_trl(tokenizer, texts[row["id"]], document["max_length"]) for row in document["pairs"]]
    for pair, row in zip(pairs, document["pairs"], strict=True):
        assert [len(pair.prompt), len(pair.chosen), len(pair.rejected)] == [
            row["n_prompt"],
            row["n_chosen"],
            row["n_rejected"],
        ]
    assert document["model_safetensors_sha256"] == BFLOAT16_WEIGHTS
    single, double = (
        [{ours: values[theirs] for theirs, ours in OTHER_NAMES.items()} for values in rows]
        for rows in (document["pairs"], [row["float64"] for row in document["pairs"]])
    )
    return Golden(pairs, single, double, document["lambda"], bfloat16_weights=True)


def _as_trl(tokenizer: Any, pair: PreferencePair, max_length: int) -> TokenPair:
    """With the second end token, and what is too long cut off, as TRL does."""
    tokens = _rendered(tokenizer, pair)
    room = max_length - len(tokens.prompt)
    chosen, rejected = (_with_second_end(tokenizer, side)[:room] for side in (tokens.chosen, tokens.rejected))
    return dataclasses.replace(tokens, chosen=chosen, rejected=rejected)


def _rendered(tokenizer: Any, pair: PreferencePair) -> TokenPair:
    tokens = PairRenderer(tokenizer, [], max_length_tokens=100_000).render(pair)
    assert isinstance(tokens, TokenPair)
    return tokens


def _with_second_end(tokenizer: Any, completion: list[int]) -> list[int]:
    # The template writes a line break after its end token, and TRL then adds an end token of its own.
    return [*completion, *tokenizer("\n", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]


def _pair(row: dict[str, Any]) -> PreferencePair:
    chosen, rejected = (Message(role="assistant", content=row[side]) for side in ("chosen", "rejected"))
    return PreferencePair(row["id"], tuple(Message(**message) for message in row["messages"]), chosen, rejected)
