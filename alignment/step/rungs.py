"""The rungs of the ladder: how each scores a batch, which of them a machine offers, and which models stay on the last.

From the fastest to the one that is always right. Decisions here are pure; the trial is in `ladder`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from alignment.step.attention import masked_attention, own_attention
from alignment.step.batch import StepBatch
from alignment.step.flat import SEGMENTS, flat_hidden
from alignment.step.flex import FLEX, flex_hidden
from alignment.step.padded import padded_hidden
from alignment.step.rows import rows_hidden
from alignment.step.targets import Targets
from alignment.step.varlen import varlen_hidden

PADDED = "padded"
_FLASH = "flash_attention_2"
_LAYERS = {"full_attention", "sliding_attention"}
"""Kinds of layer that the rungs above the last know."""


@dataclass(frozen=True)
class Rung:
    """One way to come by the hidden states that predict a batch's targets."""

    name: str
    hidden: Callable[[Any, StepBatch, Targets, int], Tensor]
    """(body, batch, targets, padding token) -> (N, H)."""
    attention: Callable[[Any], str]
    """The attention that the model of a config must have meanwhile."""
    layout: str
    """`flat`: one run of all tokens; `sequences`: one run with prompts copied; `rows`: padded rows."""
    means: str
    """In words."""


RUNGS = {
    rung.name: rung
    for rung in (
        Rung("flex", lambda body, batch, targets, _: flex_hidden(body, batch, targets), lambda _: FLEX, "flat",
             "pairs end to end, each prompt once, in fused attention"),
        Rung("segments", lambda body, batch, targets, _: flat_hidden(body, batch, targets), lambda _: SEGMENTS, "flat",
             "pairs end to end, each prompt once"),
        Rung("rows", rows_hidden, masked_attention, "rows", "a padded row per pair, each prompt once"),
        Rung("varlen", lambda body, batch, targets, _: varlen_hidden(body, batch, targets), lambda _: _FLASH,
             "sequences", "completions end to end, each after a copy of its prompt"),
        Rung(PADDED, padded_hidden, own_attention, "rows", "pairs padded"),
    )
}  # fmt: skip
"""By name, in the order in which they are tried."""


def offered(device_type: str, dtype: torch.dtype, config: Any, has_flash_attention: bool) -> list[str]:
    """The rungs worth a trial on such a device, in order; the padded one is left out, since it needs none.

    Flex attention is slow where it is not compiled and knows no dropout; flash attention wants half precision.
    """
    is_cuda = device_type == "cuda"
    is_half = dtype in (torch.bfloat16, torch.float16)
    possible = {
        "flex": is_cuda and not getattr(config, "attention_dropout", 0.0),
        "segments": True,
        "rows": True,
        "varlen": is_cuda and is_half and has_flash_attention,
    }
    return [name for name, is_possible in possible.items() if is_possible]


def why_only_padded(causal: Any) -> str | None:
    """What keeps this model from the faster rungs whatever a trial says; None if nothing does.

    A router's auxiliary loss is part of no loss here; who asks for its logits is scored as transformers would score.
    """
    config = causal.config.get_text_config()
    layers = set(getattr(config, "layer_types", None) or ()) - _LAYERS
    if getattr(causal, "_is_stateful", False):
        return "it has state space or linear attention layers, whose state would carry one answer into the next"
    if getattr(config, "output_router_logits", False):
        return "output_router_logits is set, and experts are balanced over whole rows: leave it unset for faster steps"
    if layers or getattr(config, "attention_chunk_size", None):
        kinds = ", ".join(sorted(layers)).replace("_", " ") or "chunked attention"
        return f"it has layers of a kind that is only known padded ({kinds})"
    if type(causal).__module__.startswith("transformers_modules."):
        return "its code came with its files, and what its attention does is not known"
    return None
