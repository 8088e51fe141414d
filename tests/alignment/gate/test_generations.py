"""Answers to pinned prompts: cut at the end token, greedy, the same in a batch as alone."""

from pathlib import Path
from typing import Any

import pytest
import torch

from alignment.gate.answers import Answer
from alignment.gate.comparison import Sides
from alignment.gate.generations import answer_of, generation_metrics, pinned_prompts, write_answers
from alignment.gate.languages import chinese_share
from alignment.models import load_model

PROMPTS = [[0, 40], [0, 50, 51, 52, 53, 54], [0, *range(60, 75)]]


@torch.no_grad()
def test_a_batch_writes_what_each_prompt_gets_alone_one_most_likely_token_after_the_other(
    tiny_model: Path, byte_tokenizer: Any
) -> None:
    model, told = load_model(tiny_model), []
    written = write_answers(model, byte_tokenizer, PROMPTS, frozenset({1}), 8, told.append)
    for prompt, answer in zip(PROMPTS, written, strict=True):
        ids = list(prompt)
        while len(ids) < len(prompt) + 8:
            token = int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
            if token == 1:
                break
            ids.append(token)
        assert list(answer.tokens) == ids[len(prompt) :]
        assert answer.ended == (len(ids) < len(prompt) + 8)
    assert sum(told) == 3


def test_an_end_token_ends_an_answer_and_a_penalty_in_the_models_settings_is_ignored(
    tiny_model: Path, byte_tokenizer: Any
) -> None:
    model = load_model(tiny_model)
    plain = write_answers(model, byte_tokenizer, PROMPTS, frozenset({1}), 8)
    third = plain[0].tokens[2]
    stopped = write_answers(model, byte_tokenizer, PROMPTS, frozenset({1, third}), 8)
    assert stopped[0].ended
    assert stopped[0].tokens == plain[0].tokens[: plain[0].tokens.index(third)]
    model.generation_config.repetition_penalty = 50.0
    assert write_answers(model, byte_tokenizer, PROMPTS, frozenset({1}), 8) == plain


@pytest.mark.parametrize(
    ("written", "tokens", "ended"),
    [([5, 6, 1, 1, 1], (5, 6), True), ([5, 6, 7], (5, 6, 7), False), ([1, 5], (), True), ([3, 9, 9], (3,), True)],
)
def test_what_follows_the_end_token_is_padding(
    byte_tokenizer: Any, written: list[int], tokens: tuple[int, ...], ended: bool
) -> None:
    answer = answer_of(written, frozenset({1, 9}), byte_tokenizer)
    assert (answer.tokens, answer.ended) == (tokens, ended)
    assert answer.text == byte_tokenizer.decode(tokens)


def test_figures_of_two_models_and_their_difference() -> None:
    base = [Answer("", (), True), Answer("so so so so so so so", (4,) * 7, False)]
    candidate = [Answer("Yes.", (2, 3), True), Answer("No.", (5, 6, 7, 8), True)]
    found = generation_metrics(["first", "second"], Sides(candidate, base))
    means = {name: value if isinstance(value, float) else value.value for name, value in found.items()}
    assert means["generation_empty_share_base"] == 0.5
    assert means["generation_empty_share_difference"] == -0.5
    assert means["generation_ended_share"] == 1.0
    assert means["generation_mean_tokens"] == 3.0
    assert means["generation_mean_tokens_difference"] == -0.5
    assert means["generation_repetition_base"] == pytest.approx(3 / 4 / 2)
    assert means["generation_looping_share_base"] == 0.5
    assert (means["generation_distinct_share"], means["generation_distinct_share_base"]) == (1.0, 1.0)


def test_the_pinned_prompts_are_there() -> None:
    english, both = pinned_prompts(["en"]), pinned_prompts(["en", "zh"])
    assert (len(english), len(both), len(set(both))) == (20, 40, 40)
    assert both[:20] == english
    assert chinese_share(english) == 0.0
    assert min(chinese_share([prompt]) for prompt in both[20:]) > 0.4
