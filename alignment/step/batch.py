"""Pairs as one flat run of token ids: [prompt | chosen | rejected] end to end, without padding. Knows no model.

Every rung of the step starts from this one layout, so a batch need not know which rung will score it. A row with one
completion only (a thumb, a demonstration) is a pair whose rejected side is empty.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict, runtime_checkable

import torch
from torch import Tensor


class Pair(Protocol):
    """A prompt with two completions, as token ids."""

    @property
    def prompt(self) -> Sequence[int]: ...
    @property
    def chosen(self) -> Sequence[int]: ...
    @property
    def rejected(self) -> Sequence[int]: ...
    @property
    def weight(self) -> float: ...
    @property
    def chosen_unscored(self) -> int: ...
    @property
    def rejected_unscored(self) -> int: ...


@runtime_checkable
class Single(Protocol):
    """A prompt with one completion, as token ids."""

    @property
    def prompt(self) -> Sequence[int]: ...
    @property
    def completion(self) -> Sequence[int]: ...
    @property
    def desirable(self) -> bool: ...
    @property
    def weight(self) -> float: ...
    @property
    def unscored(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of the three parts of one pair; the prompt has at least one, the rejected side may have none."""

    prompt: int
    chosen: int
    rejected: int
    chosen_unscored: int = 0
    """So many of the first tokens of the side are seen by those after them, but not scored: a thought."""
    rejected_unscored: int = 0

    @property
    def total(self) -> int:
        """All three."""
        return self.prompt + self.chosen + self.rejected


class StepBatch(TypedDict):
    """P pairs, T tokens in all."""

    input_ids: Tensor
    """(T,) int64: prompt, chosen, rejected of the first pair, then of the second, and so on."""
    lengths: list[Lengths]
    """P entries; their sum is T."""
    weights: Tensor
    """(P,) float32."""
    desirable: Tensor
    """(P,) bool: False for a single answer with a thumb down."""


def collate(rows: Sequence[Pair | Single]) -> StepBatch:
    """Lay the rows end to end, in their order."""
    parts = [_parts(row) for row in rows]
    return StepBatch(
        input_ids=torch.tensor([token for row in parts for part in row for token in part], dtype=torch.long),
        lengths=[_lengths(row) for row in rows],
        weights=torch.tensor([row.weight for row in rows], dtype=torch.float32),
        desirable=torch.tensor([not isinstance(row, Single) or row.desirable for row in rows]),
    )


def to_device(batch: StepBatch, device: torch.device) -> StepBatch:
    """The batch where the model is."""
    return StepBatch(
        input_ids=batch["input_ids"].to(device),
        lengths=batch["lengths"],
        weights=batch["weights"].to(device),
        desirable=batch["desirable"].to(device),
    )


def tokens_of(row: Pair | Single) -> int:
    """Tokens that a row takes in a batch."""
    return sum(len(part) for part in _parts(row))


def _parts(row: Pair | Single) -> tuple[Sequence[int], Sequence[int], Sequence[int]]:
    if isinstance(row, Single):
        return row.prompt, row.completion, ()
    return row.prompt, row.chosen, row.rejected


def _lengths(row: Pair | Single) -> Lengths:
    prompt, chosen, rejected = (len(part) for part in _parts(row))
    if isinstance(row, Single):
        return Lengths(prompt, chosen, rejected, row.unscored)
    return Lengths(prompt, chosen, rejected, row.chosen_unscored, row.rejected_unscored)
