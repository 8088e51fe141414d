"""The flat batch under torch's flex attention: one fused kernel over all pairs, with a mask that skips empty blocks.

Taken first on CUDA devices. Its arithmetic is tested without compilation on a CPU; compiled, on a GPU, it has not been
run yet. A start-up check of the ladder compares it there, and the next rung is taken if it fails.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from transformers import AttentionInterface

from alignment.step.attention import NotUnderstood, refuse_unknown
from alignment.step.batch import Lengths, StepBatch
from alignment.step.targets import Targets
from alignment.step.visibility import places_of, sees

FLEX = "alignway_flex"


class PairMasks:
    """The masks of one batch: one for layers that see all, and one for each length of window; made when asked for."""

    def __init__(self, batch: Sequence[Lengths], device: torch.device) -> None:
        """On `device` like the batch."""
        places = places_of(batch)
        self._longest = int(places.positions.max()) + 1
        self._places = places.to(device)
        self._made: dict[int | None, BlockMask] = {}

    def of(self, window: int | None) -> BlockMask:
        """For a layer that sees at most `window` tokens; None: all."""
        window = window if window is not None and window < self._longest else None
        if window not in self._made:
            self._made[window] = self._make(window)
        return self._made[window]

    def _make(self, window: int | None) -> BlockMask:
        places, device = self._places, self._places.pairs.device

        def is_seen(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return sees(places, query, key, window)

        tokens = len(places.pairs)
        # Compiled, the mask is made block by block; else tokens x tokens of it stand in memory first.
        return create_block_mask(is_seen, None, None, tokens, tokens, device, _compile=device.type == "cuda")


def flex_hidden(body: Any, batch: StepBatch, targets: Targets) -> Tensor:
    """Hidden states (N, H) that predict the targets; the model attends by `FLEX`."""
    device = batch["input_ids"].device
    hidden: Tensor = body(
        input_ids=batch["input_ids"][None],
        position_ids=places_of(batch["lengths"]).positions.to(device)[None],
        use_cache=False,
        masks=PairMasks(batch["lengths"], device),
    ).last_hidden_state[0]
    return hidden[targets.sources]


def pair_flex_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    masks: PairMasks,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """query (1, H, T, D), key and value (1, G, T, D) with G dividing H -> (1, T, H, D). Raises `NotUnderstood`."""
    refuse_unknown(others)
    if dropout:
        raise NotUnderstood("its attention has dropout, which flex attention has not")

    def capped(score: Tensor, _batch: Tensor, _head: Tensor, _query: Tensor, _key: Tensor) -> Tensor:
        return softcap * torch.tanh(score / softcap) if softcap else score

    attend = _compiled() if query.device.type == "cuda" else flex_attention
    heard: Tensor = attend(
        query, key, value,
        score_mod=capped if softcap else None,
        block_mask=masks.of(sliding_window),
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )  # fmt: skip
    return heard.transpose(1, 2).contiguous(), None


@cache
def _compiled() -> Any:
    return torch.compile(flex_attention)


AttentionInterface.register(FLEX, pair_flex_attention)
