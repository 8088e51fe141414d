"""Run a merged model and base plus adapter on the same prompts, and compare what they say."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from alignment.adapter.agreement import MergeCheck, tolerance_of
from alignment.models import load_model, load_tokenizer

_PROMPTS = (
    "The ferry leaves the harbour at six, and the last passenger",
    "Explain in two sentences why bread rises.",
    "def area(width, height):\n    return",
    "Wie komme ich am schnellsten zum Bahnhof?",
    "17 + 25 = 42, 8 * 9 = 72, 144 / 12 =",
)


class Expected(NamedTuple):
    """What a merged model should say: the logits of base plus adapter, and those of the base alone."""

    adapted: Tensor
    """(T, V) float32 for T tokens of all prompts, one after the other, and V entries of the vocabulary."""
    base: Tensor
    dtype: str


def expect(adapted: Any, tokenizer: Any) -> Expected:
    """Run a peft model with its adapter and without; the model should be in evaluation mode."""
    with_adapter = _logits(adapted, tokenizer)
    with adapted.disable_adapter():
        return Expected(with_adapter, _logits(adapted, tokenizer), _name(adapted.dtype))


def compare(expected: Expected, merged_folder: Path) -> MergeCheck:
    """Load the merged model anew from its folder and hold it against what is expected."""
    model = load_model(merged_folder)
    merged = _logits(model, load_tokenizer(merged_folder))
    differences = (merged - expected.adapted).abs()
    largest = expected.adapted.abs().amax(dim=1, keepdim=True)  # (T, 1)
    return MergeCheck(
        dtype=_name(model.dtype),
        positions=len(merged),
        max_absolute_difference=float(differences.max()),
        max_relative_difference=float((differences / largest).max()),
        tolerance=tolerance_of(expected.dtype),
        greedy_agreement_share=float((merged.argmax(1) == expected.adapted.argmax(1)).float().mean()),
        adapter_effect=float((expected.adapted - expected.base).abs().max()),
    )


@torch.no_grad()
def _logits(model: Any, tokenizer: Any) -> Tensor:
    rows = [torch.tensor([tokenizer(prompt)["input_ids"]], device=model.device) for prompt in _PROMPTS]
    return torch.cat([model(input_ids=row, use_cache=False).logits[0].float().cpu() for row in rows])


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
