"""The fast rung: pairs end to end without padding, each prompt once for both of its completions.

Attention goes in segments, through transformers' attention interface: the chosen completion after its prompt, then the
rejected one after the same prompt, not seeing the chosen one. Nothing attends from one pair to another.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from alignment.step.attention import refuse_unknown
from alignment.step.batch import Lengths, StepBatch
from alignment.step.targets import Targets
from alignment.step.visibility import places_of

SEGMENTS = "alignway_segments"


def flat_hidden(body: Any, batch: StepBatch, targets: Targets) -> Tensor:
    """Hidden states (N, H) that predict the targets; the model attends by `SEGMENTS`."""
    hidden: Tensor = body(
        input_ids=batch["input_ids"][None],
        position_ids=places_of(batch["lengths"]).positions.to(batch["input_ids"].device)[None],
        use_cache=False,
        segments=batch["lengths"],
    ).last_hidden_state[0]
    return hidden[targets.sources]


def segment_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    segments: Sequence[Lengths],
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """query (1, H, T, D), key and value (1, G, T, D) with G dividing H -> (1, T, H, D). Raises `NotUnderstood`."""
    refuse_unknown(others, "softcap")
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (side.repeat_interleave(groups, dim=1) for side in (key, value))
    heard, start = [], 0
    for lengths in segments:
        whole, end = start + lengths.prompt + lengths.chosen, start + lengths.total
        sides: list[tuple[slice, slice | None]] = [(slice(start, whole), None)]
        if lengths.rejected:
            sides.append((slice(whole, end), slice(start, start + lengths.prompt)))
        for own, before in sides:
            keys, values = (_joined(side, before, own) for side in (key, value))
            asked = query[:, :, own]
            mask = _mask(asked.shape[2], keys.shape[2], sliding_window, query.device)
            heard.append(
                scaled_dot_product_attention(
                    asked, keys, values, mask, dropout_p=dropout, is_causal=mask is None, scale=scaling
                )
            )
        start = end
    return torch.cat(heard, dim=2).transpose(1, 2), None


def _joined(side: Tensor, before: slice | None, own: slice) -> Tensor:
    return side[:, :, own] if before is None else torch.cat([side[:, :, before], side[:, :, own]], dim=2)


def _mask(asking: int, heard: int, window: int | None, device: torch.device) -> Tensor | None:
    """(asking, heard) bool: the last of those heard are the asking ones themselves; None: plainly causal."""
    if asking == heard and (window is None or heard <= window):
        return None
    distance = torch.arange(heard - asking, heard, device=device)[:, None] - torch.arange(heard, device=device)
    seen = distance >= 0
    return seen if window is None else seen & (distance < window)


AttentionInterface.register(SEGMENTS, segment_attention)
