"""No measurement ever makes the logits of all positions, whatever the vocabulary: 160 MB a text with this model."""

from typing import Any

import pytest
import torch

from alignment.gate.generations import write_answers
from alignment.gate.holdout import score_beside_base
from alignment.gate.perplexity import perplexity
from alignment.pairs.tokens import TokenPair
from alignment.step.pair_step import PairStep

MOST_BYTES = 64 << 20
"""What a block of logits may take."""


@pytest.fixture(scope="module")
def step(wide_model: Any) -> PairStep:
    return PairStep(wide_model, pad_id=1)


def test_the_watch_sees_full_logits(wide_model: Any, largest: Any) -> None:
    with largest, torch.no_grad():
        wide_model(input_ids=torch.full((1, 400), 7))
    assert largest.size_bytes == 400 * 100_000 * 4


def test_pairs_and_kl_are_measured_block_by_block(wide_model: Any, step: PairStep, largest: Any) -> None:
    pairs = [TokenPair(f"p{i}", f"ph_{i}", 1.0, [0] * 10, [5 + i] * 400, [9] * 400) for i in range(2)]
    with largest:
        found = score_beside_base(wide_model, pairs, pad_id=1, step=step)
    assert [divergence.tokens for divergence in found.divergence] == [800, 800]
    assert MOST_BYTES / 4 < largest.size_bytes <= MOST_BYTES


def test_perplexity_is_measured_block_by_block(
    wide_model: Any, step: PairStep, byte_tokenizer: Any, largest: Any
) -> None:
    with largest:
        perplexity(wide_model, byte_tokenizer, ["word " * 80] * 2, step=step)
    assert MOST_BYTES / 2 < largest.size_bytes <= MOST_BYTES


def test_writing_needs_the_logits_of_the_last_position_alone(
    wide_model: Any, byte_tokenizer: Any, largest: Any
) -> None:
    with largest:
        write_answers(wide_model, byte_tokenizer, [[7] * 400, [8] * 300], frozenset({1}), 2)
    assert largest.size_bytes < MOST_BYTES / 2  # of both prompts whole they would take 320 MB
