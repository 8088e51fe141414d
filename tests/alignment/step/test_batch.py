"""Pairs lie end to end; every token is scored from the place that predicts it."""

import torch

from alignment.pairs.tokens import TokenAnswer, TokenPair
from alignment.step.batch import Lengths, collate, tokens_of
from alignment.step.targets import CHOSEN, PROMPT, REJECTED, targets_of

FIRST = TokenPair("a", "ph_a", 0.5, prompt=[5, 6], chosen=[7, 1], rejected=[3])
SECOND = TokenPair("b", "ph_b", 1.5, prompt=[8], chosen=[1], rejected=[9, 2])


def thumb(prompt: list[int], completion: list[int]) -> TokenAnswer:
    return TokenAnswer("t", "ph_t", 1.0, prompt, completion, desirable=True)


def test_a_batch_of_two_pairs_laid_out_by_hand() -> None:
    batch = collate([FIRST, SECOND])
    assert batch["input_ids"].tolist() == [5, 6, 7, 1, 3, 8, 1, 9, 2]
    assert batch["lengths"] == [Lengths(2, 2, 1), Lengths(1, 1, 2)]
    assert batch["weights"].tolist() == [0.5, 1.5]
    assert tokens_of(FIRST) == 5


def test_a_row_with_one_completion_has_an_empty_rejected_side() -> None:
    batch = collate([thumb([5, 6], [7, 1])])
    assert batch["input_ids"].tolist() == [5, 6, 7, 1]
    assert batch["lengths"] == [Lengths(2, 2, 0)]


def test_the_rejected_answer_is_predicted_from_the_prompt_not_from_the_chosen_answer() -> None:
    targets = targets_of(collate([FIRST, SECOND]), prompt=False)
    assert targets.ids.tolist() == [7, 1, 3, 1, 9, 2]
    assert targets.sources.tolist() == [1, 2, 1, 5, 5, 7]
    assert targets.positions.tolist() == [1, 2, 1, 0, 0, 1]
    assert targets.pairs.tolist() == [0, 0, 0, 1, 1, 1]
    assert targets.parts.tolist() == [CHOSEN, CHOSEN, REJECTED, CHOSEN, REJECTED, REJECTED]


def test_the_first_token_of_a_prompt_is_predicted_by_nothing() -> None:
    targets = targets_of(collate([FIRST, SECOND]), prompt=True)
    assert targets.ids.tolist() == [6, 7, 1, 3, 1, 9, 2]
    assert targets.sources.tolist() == [0, 1, 2, 1, 5, 5, 7]
    assert targets.side(torch.ones(7), PROMPT, pairs=2).counts.tolist() == [1, 0]


def test_sums_and_means_go_to_their_pairs_and_an_empty_side_is_zero() -> None:
    targets = targets_of(collate([FIRST, SECOND, thumb([4], [7])]), prompt=False)
    rejected = targets.side(torch.tensor([9.0, 9, -1, 9, -2, -4, 9]), REJECTED, pairs=3)
    assert rejected.sums.tolist() == [-1, -6, 0]
    assert rejected.counts.tolist() == [1, 2, 0]
    assert rejected.means.tolist() == [-1, -3, 0]


def test_a_thought_is_seen_and_not_scored() -> None:
    thinking = TokenPair("c", "ph_c", 1.0, [5, 6], [20, 21, 7, 1], [30, 3], chosen_unscored=2, rejected_unscored=1)
    targets = targets_of(collate([thinking]), prompt=True)
    assert targets.ids.tolist() == [6, 7, 1, 3]
    assert targets.sources.tolist() == [0, 3, 4, 6]
    assert targets.positions.tolist() == [0, 3, 4, 2]
    assert targets.parts.tolist() == [PROMPT, CHOSEN, CHOSEN, REJECTED]
    answer = TokenAnswer("d", "ph_d", 1.0, [5], [20, 21, 7, 1], desirable=True, unscored=3)
    assert targets_of(collate([answer]), prompt=False).ids.tolist() == [1]
