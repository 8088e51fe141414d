"""Scores and KL against single rows of full logits; summaries against sums done by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from alignment.gate.comparison import Sides
from alignment.gate.holdout import (
    Divergence,
    PairScore,
    holdout_metrics,
    kl_to_base,
    length_matched,
    score_beside_base,
    score_pairs,
)
from alignment.models import load_model
from alignment.pairs.tokens import TokenPair

PairMaker = Callable[[int], TokenPair]


def logps(model: Any, prompt: list[int], completion: list[int]) -> torch.Tensor:
    """(n, V): the whole distribution at every completion token."""
    return model(input_ids=torch.tensor([prompt + completion])).logits[0, -len(completion) - 1 : -1].log_softmax(-1)


def mean_logp(model: Any, prompt: list[int], completion: list[int]) -> float:
    return float(logps(model, prompt, completion).gather(1, torch.tensor(completion)[:, None]).mean())


@torch.no_grad()
def test_every_pair_is_scored_in_its_place_whatever_the_batches(tiny_model: Path, token_pair: PairMaker) -> None:
    model, told = load_model(tiny_model), []
    pairs = [token_pair(number) for number in (5, 0, 3, 1, 4, 2)]
    for pair, score in zip(pairs, score_pairs(model, pairs, 1, told.append), strict=True):
        assert score.prompt_hash == pair.prompt_hash
        assert score.chosen_logp == pytest.approx(mean_logp(model, pair.prompt, pair.chosen), abs=1e-5)
        assert score.rejected_logp == pytest.approx(mean_logp(model, pair.prompt, pair.rejected), abs=1e-5)
    assert sum(told) == 6


@torch.no_grad()
def test_candidate_base_and_kl_come_out_of_one_pass_as_from_full_logits(
    adapted_model: Any, token_pair: PairMaker
) -> None:
    pairs = [token_pair(number) for number in (2, 0, 4, 1, 3)]
    found = score_beside_base(adapted_model, pairs, pad_id=1)
    assert found.own == score_pairs(adapted_model, pairs, pad_id=1)
    for pair, own, base, kl in zip(pairs, found.own, found.base, found.divergence, strict=True):
        sides = (pair.chosen, pair.rejected)
        ours = [logps(adapted_model, pair.prompt, side) for side in sides]
        assert own.chosen_logp == pytest.approx(mean_logp(adapted_model, pair.prompt, pair.chosen), abs=1e-5)
        with adapted_model.disable_adapter():
            theirs = [logps(adapted_model, pair.prompt, side) for side in sides]
            assert base.chosen_logp == pytest.approx(mean_logp(adapted_model, pair.prompt, pair.chosen), abs=1e-5)
            assert base.rejected_logp == pytest.approx(mean_logp(adapted_model, pair.prompt, pair.rejected), abs=1e-5)
        by_hand = sum(float((p.exp() * (p - q)).sum()) for p, q in zip(ours, theirs, strict=True))
        assert by_hand > 0.01
        assert kl.nats == pytest.approx(by_hand, rel=1e-3)
        assert kl.tokens == len(pair.chosen) + len(pair.rejected)


def test_summary_worked_out_by_hand(token_pair: PairMaker) -> None:
    pairs = [token_pair(number) for number in range(3)]
    scores = [PairScore("a", -1.0, -2.0), PairScore("b", -2.0, -1.5), PairScore("c", -3.0, -4.0)]
    found = holdout_metrics(pairs, Sides(scores))
    assert set(found) == {"holdout_accuracy", "holdout_margin", "holdout_chosen_nll"}
    assert found["holdout_accuracy"].value == pytest.approx(2 / 3)
    assert found["holdout_margin"].value == pytest.approx((1 - 0.5 + 1) / 3)
    assert found["holdout_chosen_nll"].value == pytest.approx(2.0)


def test_a_tie_is_no_success(token_pair: PairMaker) -> None:
    assert holdout_metrics([token_pair(0)], Sides([PairScore("a", -1.0, -1.0)]))["holdout_accuracy"].value == 0.0


def test_answers_to_one_prompt_are_drawn_together(token_pair: PairMaker) -> None:
    same = [token_pair(3 * number) for number in range(6)]  # all about ph_0
    found = holdout_metrics(same, Sides([PairScore("ph_0", -1.0, -2.0 + index % 2 * 3) for index in range(6)]))
    accuracy = found["holdout_accuracy"]
    assert (accuracy.value, accuracy.low, accuracy.high) == (0.5, 0.5, 0.5)


def sized(number: int, chosen: int, rejected: int) -> TokenPair:
    return TokenPair(f"p{number}", f"ph_{number}", 1.0, [0], [7] * chosen, [8] * rejected)


@pytest.mark.parametrize(
    ("chosen", "rejected", "is_matched"), [(10, 10, True), (10, 8, True), (8, 10, True), (10, 7, False), (4, 5, True)]
)
def test_one_length_means_a_fifth_apart_at_most(chosen: int, rejected: int, is_matched: bool) -> None:
    assert length_matched([sized(0, chosen, rejected)]) == ([0] if is_matched else [])


def test_accuracy_on_pairs_of_one_length_is_over_those_alone() -> None:
    pairs = [sized(number, 10, 10) for number in range(10)] + [sized(number, 30, 10) for number in range(10, 20)]
    # Right on 4 of the 10 of one length, and wherever the chosen one is three times as long.
    scores = [PairScore(pair.prompt_hash, -1.0, -2.0 if i < 4 or i >= 10 else 0.0) for i, pair in enumerate(pairs)]
    base = [PairScore(pair.prompt_hash, -1.0, -2.0 if i < 3 else 0.0) for i, pair in enumerate(pairs)]
    found = holdout_metrics(pairs, Sides(scores, base))
    assert found["holdout_accuracy"].value == pytest.approx(0.7)
    assert found["holdout_matched_accuracy"].value == pytest.approx(0.4)
    assert found["holdout_matched_accuracy_base"].value == pytest.approx(0.3)
    assert found["holdout_matched_accuracy_difference"].value == pytest.approx(0.1)


def test_nine_pairs_of_one_length_are_too_few() -> None:
    pairs = [sized(number, 10, 10) for number in range(9)]
    found = holdout_metrics(pairs, Sides([PairScore(pair.prompt_hash, -1.0, -2.0) for pair in pairs]))
    assert "holdout_matched_accuracy" not in found


def test_kl_is_a_mean_over_tokens_not_over_pairs() -> None:
    found = kl_to_base([sized(0, 1, 1), sized(1, 9, 9)], [Divergence(4.0, 2), Divergence(3.0, 18)])
    assert found.value == pytest.approx(7 / 20)
