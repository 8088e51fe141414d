"""Which tokens of a batch are scored, and which position's hidden state predicts each of them. Integers only."""

from typing import NamedTuple

import torch
from torch import Tensor

from alignment.step.batch import Lengths, StepBatch
from alignment.step.results import SideLogps

PROMPT, CHOSEN, REJECTED = 0, 1, 2


class Targets(NamedTuple):
    """N scored tokens of P pairs, each (N,) int64 on the device of the batch."""

    ids: Tensor
    """The tokens themselves."""
    sources: Tensor
    """Place in the flat batch whose hidden state predicts the token."""
    positions: Tensor
    """The same place counted from the beginning of [prompt | completion]."""
    pairs: Tensor
    """Number of the pair, from 0."""
    parts: Tensor
    """PROMPT, CHOSEN or REJECTED."""

    def side(self, values: Tensor, part: int, pairs: int) -> SideLogps:
        """Sum values (N,) of one part by pair."""
        taken = self.parts == part
        return summed_by(self.pairs[taken], values[taken], pairs)

    @property
    def with_prompt(self) -> bool:
        """Whether tokens of prompts are among them."""
        return bool((self.parts == PROMPT).any())

    def only_completions(self) -> "Completions":
        """Those that are not of prompts."""
        rows = (self.parts != PROMPT).nonzero().squeeze(1)
        return Completions(rows, self.pairs[rows])


class Completions(NamedTuple):
    """M of the N targets."""

    rows: Tensor
    """(M,) their places among the targets."""
    pairs: Tensor
    """(M,) the pair of each."""


def summed_by(owners: Tensor, values: Tensor, pairs: int) -> SideLogps:
    """Sum values (N,) by the pair that each belongs to, given by owners (N,)."""
    zeros = values.new_zeros(pairs)
    return SideLogps(zeros.index_add(0, owners, values), zeros.index_add(0, owners, torch.ones_like(values)))


def targets_of(batch: StepBatch, prompt: bool) -> Targets:
    """What is scored of both completions of every pair and, if `prompt`, the tokens of the prompt but its first."""
    rows, start = [], 0
    for number, lengths in enumerate(batch["lengths"]):
        rows.append(_targets_of_pair(number, lengths, start, prompt))
        start += lengths.total
    places, sources, positions, pairs, parts = torch.cat(rows, dim=1).to(batch["input_ids"].device)
    return Targets(batch["input_ids"][places], sources, positions, pairs, parts)


def _targets_of_pair(number: int, lengths: Lengths, start: int, prompt: bool) -> Tensor:
    """(5, n): place of the token, place of its source, position of its source, pair, part."""
    first = 1 if prompt else lengths.prompt
    whole = lengths.prompt + lengths.chosen
    positions = torch.cat([torch.arange(first, whole), lengths.prompt + torch.arange(lengths.rejected)]) - 1
    places = start + torch.cat([torch.arange(first, whole), whole + torch.arange(lengths.rejected)])
    sources = places - 1
    if lengths.rejected:
        sources[whole - first] = start + lengths.prompt - 1  # the prompt's last token predicts this answer too
    counts = torch.tensor([lengths.prompt - first, lengths.chosen, lengths.rejected])
    parts = torch.repeat_interleave(torch.tensor([PROMPT, CHOSEN, REJECTED]), counts)
    scored = torch.ones_like(places, dtype=torch.bool)
    scored[lengths.prompt - first :][: lengths.chosen_unscored] = False
    scored[whole - first :][: lengths.rejected_unscored] = False
    return torch.stack([places, sources, positions, torch.full_like(places, number), parts])[:, scored]
