"""Sequences for flash-attention, laid out by hand."""

import torch

from alignment.step.batch import Lengths, StepBatch
from alignment.step.varlen import sequences_of


def batch_of(ids: list[int], lengths: list[Lengths]) -> StepBatch:
    return StepBatch(
        input_ids=torch.tensor(ids),
        lengths=lengths,
        weights=torch.ones(len(lengths)),
        desirable=torch.ones(len(lengths), dtype=torch.bool),
    )


def test_each_prompt_is_copied_for_its_second_answer() -> None:
    found = sequences_of(batch_of([5, 6, 7, 1, 3, 8, 1, 9, 2], [Lengths(2, 2, 1), Lengths(1, 1, 2)]))
    assert found.ids.tolist() == [5, 6, 7, 1, 5, 6, 3, 8, 1, 8, 9, 2]
    assert found.positions.tolist() == [0, 1, 2, 3, 0, 1, 2, 0, 1, 0, 1, 2]
    assert found.bounds.tolist() == [0, 4, 7, 9, 12]
    assert found.bounds.dtype == torch.int32  # flash-attention takes nothing else
    assert found.longest == 4
    assert found.first_of.tolist() == [[0, 7], [4, 9]]


def test_a_row_with_one_answer_is_one_sequence() -> None:
    found = sequences_of(batch_of([5, 6, 7, 8, 1, 9], [Lengths(2, 1, 0), Lengths(1, 1, 1)]))
    assert found.ids.tolist() == [5, 6, 7, 8, 1, 8, 9]
    assert found.bounds.tolist() == [0, 3, 5, 7]
    assert found.first_of[0].tolist() == [0, 3]
    assert found.first_of[1, 1].item() == 5
