"""Completions end to end without padding, each after a copy of its prompt, in flash attention for unequal lengths.

For models whose attention takes neither our own kernels nor a mask. The layout is tested with another attention; with
flash-attention itself, which needs a GPU, it has not been run yet. The ladder's start-up check compares it there.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from alignment.step.batch import StepBatch
from alignment.step.targets import REJECTED, Targets


class Sequences(NamedTuple):
    """S causal sequences, U tokens in all: of each pair [prompt | chosen], then [prompt | rejected] if there is one."""

    ids: Tensor
    """(U,) int64."""
    positions: Tensor
    """(U,) int64: from 0 in each sequence."""
    bounds: Tensor
    """(S + 1,) int32: where each begins, and where the last one ends."""
    longest: int
    first_of: Tensor
    """(2, P) int64: where the chosen and the rejected sequence of each pair begin."""


def sequences_of(batch: StepBatch) -> Sequences:
    """Copy each prompt for its second completion; on the device of the batch."""
    rows: list[Tensor] = []
    firsts: list[tuple[int, int]] = []
    start = end = 0
    for lengths in batch["lengths"]:
        own = batch["input_ids"][start : start + lengths.total]
        prompt, chosen, rejected = torch.split(own, [lengths.prompt, lengths.chosen, lengths.rejected])
        sides = [torch.cat([prompt, side]) for side in ((chosen, rejected) if lengths.rejected else (chosen,))]
        firsts.append((end, end + len(sides[0])))
        rows += sides
        start, end = start + lengths.total, end + sum(len(side) for side in sides)
    device = batch["input_ids"].device
    sizes = torch.tensor([0, *(len(row) for row in rows)])
    return Sequences(
        torch.cat(rows),
        torch.cat([torch.arange(len(row), device=device) for row in rows]),
        sizes.cumsum(0, dtype=torch.int32).to(device),
        int(sizes.max()),
        torch.tensor(firsts, device=device).T,
    )


def varlen_hidden(body: Any, batch: StepBatch, targets: Targets) -> Tensor:
    """Hidden states (N, H) that predict the targets; the model attends by something that heeds `cu_seq_lens`."""
    sequences = sequences_of(batch)
    hidden: Tensor = body(
        input_ids=sequences.ids[None],
        position_ids=sequences.positions[None],
        use_cache=False,
        cu_seq_lens_q=sequences.bounds,
        cu_seq_lens_k=sequences.bounds,
        max_length_q=sequences.longest,
        max_length_k=sequences.longest,
    ).last_hidden_state[0]
    return hidden[sequences.first_of[(targets.parts == REJECTED).long(), targets.pairs] + targets.positions]
