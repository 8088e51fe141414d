"""What a training run may be asked for: one set of options for the API, the command line and the aligner."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

RunState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
TriggerKind = Literal["manual", "schedule", "new_pairs"]

MINIMUM_PAIRS_BY_HAND = 20
"""A run that a person asks for starts from this many eligible pairs."""


class TrainingOptions(BaseModel):
    """Hyper-parameters of one run; `auto` is chosen from the dataset and printed with its reason."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, use_attribute_docstrings=True)

    method: Literal["orpo"] = "orpo"
    """The published ORPO loss (Hong et al. 2024)."""
    lambda_: float = Field(default=0.1, ge=0, alias="lambda")
    """Weight of the odds-ratio penalty; at 0 this is plain fine-tuning on the chosen side."""
    nll: Literal["chosen", "prompt_and_chosen"] = "chosen"
    """Which tokens the likelihood term covers. `chosen` leaves users' prompts unlearnt."""
    epochs: PositiveFloat | Literal["auto"] = "auto"
    """Passes over the training part."""
    max_steps: PositiveInt | None = None
    """Stop after this many optimiser steps, whatever `epochs` says."""
    pairs_per_step: PositiveInt = 4
    """Pairs in one optimiser step."""
    learning_rate: PositiveFloat | Literal["auto"] = "auto"
    """Peak learning rate, reached after a short warm-up."""
    max_length_tokens: PositiveInt = 1024
    """Longest prompt plus completion. Longer pairs lose whole oldest turns, or are dropped and counted."""
    rank: PositiveInt = 16
    """Width of the LoRA adapter on every linear layer."""
    alpha: PositiveInt = 32
    """Numerator of the adapter's scaling, `alpha / rank`."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout before the adapter. 0 keeps the merged weights exactly the function that was trained."""
    seed: int = 0
    """Seeds data order, adapter initialisation and dropout."""
    device: Literal["auto", "cpu", "cuda", "npu"] = "auto"
    """Where to train; `auto` takes an accelerator if there is one."""
