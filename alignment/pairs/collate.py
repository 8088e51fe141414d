"""Pad token pairs into one batch: the chosen rows first, then the rejected rows, in the same order of pairs."""

from collections.abc import Sequence
from typing import TypedDict

import torch
from torch import Tensor

from alignment.pairs.render import TokenPair


class PairBatch(TypedDict):
    """B pairs as 2B rows of T tokens, padded on the right."""

    input_ids: Tensor
    """(2B, T) int64."""
    attention_mask: Tensor
    """(2B, T) int64: 1 on tokens, 0 on padding."""
    completion_mask: Tensor
    """(2B, T) bool: true on the tokens of the completion, its end token included."""
    weights: Tensor
    """(B,) float32."""


class PairCollator:
    """Makes batches; `pad_id` may be any token, since padding is neither attended to nor learnt."""

    def __init__(self, pad_id: int) -> None:
        self._pad_id = pad_id

    def __call__(self, pairs: Sequence[TokenPair]) -> PairBatch:
        rows = [(pair.prompt, pair.chosen) for pair in pairs] + [(pair.prompt, pair.rejected) for pair in pairs]
        width = max(len(prompt) + len(completion) for prompt, completion in rows)
        input_ids = torch.full((len(rows), width), self._pad_id)
        attention_mask = torch.zeros(len(rows), width, dtype=torch.long)
        completion_mask = torch.zeros(len(rows), width, dtype=torch.bool)
        for index, (prompt, completion) in enumerate(rows):
            length = len(prompt) + len(completion)
            input_ids[index, :length] = torch.tensor(prompt + completion)
            attention_mask[index, :length] = 1
            completion_mask[index, len(prompt) : length] = True
        return PairBatch(
            input_ids=input_ids,
            attention_mask=attention_mask,
            completion_mask=completion_mask,
            weights=torch.tensor([pair.weight for pair in pairs], dtype=torch.float32),
        )


def to_device(batch: PairBatch, device: torch.device) -> PairBatch:
    """The batch where the model is."""
    return PairBatch(
        input_ids=batch["input_ids"].to(device),
        attention_mask=batch["attention_mask"].to(device),
        completion_mask=batch["completion_mask"].to(device),
        weights=batch["weights"].to(device),
    )
