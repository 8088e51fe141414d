"""One padded row per pair, [prompt | chosen | rejected], with a mask that says which token sees which.

It runs on the model's own attention, so it understands whatever that understands of a mask given from outside. Without
the mask transformers would take the second run of positions for the beginning of another text, and the rejected
completion would silently lose its prompt.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from alignment.step.batch import Lengths, StepBatch
from alignment.step.targets import Targets
from alignment.step.visibility import places_of, sees


def rows_hidden(body: Any, batch: StepBatch, targets: Targets, pad_id: int) -> Tensor:
    """Hidden states (N, H) that predict the targets; the model attends by `eager` or `sdpa`."""
    sizes = [lengths.total for lengths in batch["lengths"]]
    device = batch["input_ids"].device
    positions = places_of(batch["lengths"]).positions.to(device)
    ids = pad_sequence(list(torch.split(batch["input_ids"], sizes)), batch_first=True, padding_value=pad_id)
    hidden: Tensor = body(
        input_ids=ids,
        attention_mask=_masks(body, batch["lengths"], device),
        position_ids=pad_sequence(list(torch.split(positions, sizes)), batch_first=True),
        use_cache=False,
    ).last_hidden_state
    totals = torch.tensor(sizes, device=device)
    starts = totals.cumsum(0) - totals
    return hidden[targets.pairs, targets.sources - starts[targets.pairs]]


def row_mask(batch: Sequence[Lengths], window: int | None) -> Tensor:
    """(P, W, W) bool, row by column: which token sees which in rows as wide as the longest pair.

    Padding stands at the end and sees itself alone, so that no softmax is empty; nobody sees it.
    """
    seen = torch.eye(max(lengths.total for lengths in batch), dtype=torch.bool).repeat(len(batch), 1, 1)
    for row, lengths in zip(seen, batch, strict=True):
        index = torch.arange(lengths.total)
        row[: lengths.total, : lengths.total] = sees(places_of([lengths]), index[:, None], index[None, :], window)
    return seen


def _masks(body: Any, batch: Sequence[Lengths], device: torch.device) -> Tensor | dict[str, Tensor]:
    """The mask (P, 1, W, W); one for each kind of layer where there are several."""
    config = body.config
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())

    def made(window: int | None) -> Tensor:
        seen = row_mask(batch, window)[:, None].to(device)
        if config._attn_implementation != "eager":
            return seen
        # Eager attention adds the mask to its scores.
        return torch.zeros(seen.shape, dtype=body.dtype, device=device).masked_fill(~seen, torch.finfo(body.dtype).min)

    if len(kinds) > 1:
        return {kind: made(window if kind == "sliding_attention" else None) for kind in kinds}
    return made(None if kinds == {"full_attention"} else window)
