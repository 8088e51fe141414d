"""Perplexity against full logits, and our own texts."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from alignment.gate.languages import chinese_share
from alignment.gate.perplexity import perplexity, perplexity_texts
from alignment.models import load_model


def test_perplexity_of_a_model_that_knows_nothing_is_its_vocabulary(tiny_model: Path, byte_tokenizer: Any) -> None:
    model = load_model(tiny_model)
    with torch.no_grad():
        model.model.norm.weight.zero_()  # all logits 0: every token equally likely
    assert perplexity(model, byte_tokenizer, ["one text", "and another"]) == pytest.approx(
        len(byte_tokenizer), rel=1e-5
    )


@torch.no_grad()
def test_perplexity_counts_tokens_not_texts(tiny_model: Path, byte_tokenizer: Any) -> None:
    model, told = load_model(tiny_model), []
    texts = ["a short one", "and one that is a good deal longer than the first", "x", "", "four", "more than a batch"]
    total = count = 0.0
    for ids in (byte_tokenizer(text)["input_ids"] for text in texts):
        if len(ids) > 1:
            logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
            total += float(torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="sum"))
            count += len(ids) - 1
    assert perplexity(model, byte_tokenizer, texts, told.append) == pytest.approx(math.exp(total / count), rel=1e-5)
    assert sum(told) == 4  # the two texts of one token or none have nothing to predict


def test_the_fixed_texts_are_there() -> None:
    texts = perplexity_texts()
    assert len(texts) == 40
    assert len(set(texts)) == 40
    assert min(len(text.split()) for text in texts) >= 35


def test_the_chinese_texts_are_chinese() -> None:
    texts = perplexity_texts("zh")
    assert len(texts) == len(set(texts)) == 26
    assert min(chinese_share([text]) for text in texts) > 0.8
    assert min(len(text) for text in texts) >= 60
