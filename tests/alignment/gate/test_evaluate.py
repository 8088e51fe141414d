"""Scores against single rows of full logits; summaries against sums done by hand."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from alignment.gate.evaluate import PairScore, compare, perplexity, perplexity_texts, score_pairs, summarise
from alignment.models import load_model
from alignment.pairs.tokens import TokenPair


def token_pair(number: int) -> TokenPair:
    return TokenPair(f"p{number}", f"ph_{number % 3}", 1.0, [0, 40 + number], [50] * (1 + number) + [1], [60, 61, 1])


def mean_logp(model: Any, prompt: list[int], completion: list[int]) -> float:
    ids = torch.tensor([prompt + completion])
    logps = model(input_ids=ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])
    return float(logps[-len(completion) :].mean())


@torch.no_grad()
def test_every_pair_is_scored_in_its_place_whatever_the_batches(tiny_model: Path) -> None:
    model = load_model(tiny_model)
    pairs = [token_pair(number) for number in (5, 0, 3, 1, 4, 2)]
    for pair, score in zip(pairs, score_pairs(model, pairs, pad_id=1), strict=True):
        assert score.prompt_hash == pair.prompt_hash
        assert score.chosen_logp == pytest.approx(mean_logp(model, pair.prompt, pair.chosen), abs=1e-5)
        assert score.rejected_logp == pytest.approx(mean_logp(model, pair.prompt, pair.rejected), abs=1e-5)


def test_summary_worked_out_by_hand() -> None:
    scores = [PairScore("a", -1.0, -2.0), PairScore("b", -2.0, -1.5), PairScore("b", -3.0, -4.0)]
    summary = summarise(scores)
    assert (summary.pairs, summary.prompts) == (3, 2)
    assert summary.accuracy.value == pytest.approx(2 / 3)
    assert summary.margin.value == pytest.approx(0.5)
    assert summary.chosen_nll.value == pytest.approx(2.0)


def test_a_tie_is_no_success() -> None:
    assert summarise([PairScore("a", -1.0, -1.0)]).accuracy.value == 0.0


def test_differences_are_paired() -> None:
    # Both are uncertain on their own, yet the candidate is better by exactly 0.25 everywhere.
    incumbent = [PairScore(str(i), -1.0 - i, -3.0) for i in range(8)]
    candidate = [PairScore(score.prompt_hash, score.chosen_logp + 0.25, -3.0) for score in incumbent]
    found = compare(candidate, incumbent)
    assert (found.margin.value, found.margin.low, found.margin.high) == pytest.approx((0.25, 0.25, 0.25))
    assert found.chosen_nll.value == pytest.approx(-0.25)
    assert found.accuracy.value == pytest.approx(1 / 8)  # only the tie at -3.0 is won


def test_perplexity_of_a_model_that_knows_nothing_is_its_vocabulary(tiny_model: Path, byte_tokenizer: Any) -> None:
    model = load_model(tiny_model)
    with torch.no_grad():
        model.model.norm.weight.zero_()  # all logits 0: every token equally likely
    assert perplexity(model, byte_tokenizer, ["one text", "and another"]) == pytest.approx(
        len(byte_tokenizer), rel=1e-5
    )


@torch.no_grad()
def test_perplexity_counts_tokens_not_texts(tiny_model: Path, byte_tokenizer: Any) -> None:
    model = load_model(tiny_model)
    texts = ["a short one", "and one that is a good deal longer than the first"]
    total = count = 0.0
    for text in texts:
        ids = byte_tokenizer(text)["input_ids"]
        total += -mean_logp(model, ids[:1], ids[1:]) * (len(ids) - 1)
        count += len(ids) - 1
    assert perplexity(model, byte_tokenizer, texts) == pytest.approx(math.exp(total / count), rel=1e-5)


def test_the_fixed_texts_are_there() -> None:
    texts = perplexity_texts()
    assert len(texts) == 40
    assert len(set(texts)) == 40
    assert min(len(text.split()) for text in texts) >= 35
