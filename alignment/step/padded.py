"""The lowest rungs: every completion a row of its own after a copy of its prompt, padded on the right."""

from typing import Any

import torch
from torch import Tensor

from alignment.step.batch import StepBatch
from alignment.step.targets import CHOSEN, REJECTED, Targets
from alignment.step.vocabulary import at_least_float32


def padded_rows(batch: StepBatch, side: int, pad_id: int) -> tuple[Tensor, Tensor]:
    """Token ids (P, W) of [prompt | completion] for one side of every pair, and the attention mask (P, W)."""
    rows, start = [], 0
    for lengths in batch["lengths"]:
        ids, completed = batch["input_ids"][start : start + lengths.total], lengths.prompt + lengths.chosen
        rows.append(ids[:completed] if side == CHOSEN else torch.cat([ids[: lengths.prompt], ids[completed:]]))
        start += lengths.total
    sizes = torch.tensor([len(row) for row in rows], device=batch["input_ids"].device)
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad_id)
    return ids, (torch.arange(ids.shape[1], device=ids.device) < sizes[:, None]).long()


def padded_hidden(body: Any, batch: StepBatch, targets: Targets, pad_id: int) -> Tensor:
    """Hidden states (N, H) that predict the targets; the two sides run apart, each without the other's padding."""

    def run(side: int) -> Tensor:
        ids, mask = padded_rows(batch, side, pad_id)
        hidden: Tensor = body(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        return hidden

    return _by_side(run, targets)


def padded_logits(causal: Any, batch: StepBatch, targets: Targets, pad_id: int) -> Tensor:
    """Logits (N, V) that predict the targets, through the model's own head: for heads that are no matrix product."""

    def run(side: int) -> Tensor:
        ids, mask = padded_rows(batch, side, pad_id)
        logits: Tensor = causal(input_ids=ids, attention_mask=mask, use_cache=False).logits
        return logits

    return at_least_float32(_by_side(run, targets))


def _by_side(run: Any, targets: Targets) -> Tensor:
    """Gather what `run(side)` -> (P, W, X) says at the targets: (N, X)."""
    is_rejected = targets.parts == REJECTED
    chosen: Tensor = run(CHOSEN)[targets.pairs[~is_rejected], targets.positions[~is_rejected]]
    if not bool(is_rejected.any()):
        return chosen
    rejected = run(REJECTED)[targets.pairs[is_rejected], targets.positions[is_rejected]]
    places = torch.cat([(~is_rejected).nonzero(), is_rejected.nonzero()]).squeeze(1)
    return torch.cat([chosen, rejected])[places.argsort()]
