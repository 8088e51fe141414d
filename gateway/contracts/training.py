"""What a training run may be asked for: one set of options for the API, the command line and the aligner."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from gateway.contracts.methods import PARAMETERS, Method, find_method, why_not

RunState = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]
TriggerKind = Literal["manual", "schedule", "new_pairs", "erasure"]

MINIMUM_PAIRS_BY_HAND = 20
"""A run that a person asks for starts from this many eligible pairs."""


class TrainingOptions(BaseModel):
    """Hyper-parameters of one run; `auto` is chosen from the dataset and the model, and printed with its reason."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, use_attribute_docstrings=True)

    method: str = "orpo"
    """orpo, orpo-kl, dpo, ipo, simpo, kto or sft, or one that a package registers (docs/training.md)."""
    lambda_: float | None = Field(default=None, ge=0, alias="lambda")
    """orpo: weight of the odds-ratio penalty, 0.1 by default; at 0 this is plain fine-tuning on the chosen side."""
    nll: Literal["chosen", "prompt_and_chosen"] | None = None
    """orpo: which tokens the likelihood term covers. `chosen`, the default, leaves users' prompts unlearnt."""
    beta: PositiveFloat | None = None
    """dpo, orpo-kl, ipo, kto (0.1 by default) and simpo (2.0): how strongly the answers' difference counts."""
    kl_coef: float | None = Field(default=None, ge=0)
    """orpo-kl: weight of the per-token KL to the base, 1.0 by default. `orpo_alpha` is an alias."""
    rpo_alpha: float | None = Field(default=None, ge=0)
    """dpo: weight of an added likelihood term on the chosen side, 0 by default; above 0 this is RPO."""
    gamma: float | None = Field(default=None, ge=0)
    """simpo: the margin wanted between the two sides, 1.0 by default."""
    desirable_weight: PositiveFloat | None = None
    """kto: weight of answers with a thumb up, 1.0 by default."""
    undesirable_weight: PositiveFloat | None = None
    """kto: weight of answers with a thumb down, 1.0 by default."""
    parameters: dict[str, float | str] = {}
    """Parameters of a method that a package registered, by name."""
    epochs: PositiveFloat | Literal["auto"] = "auto"
    """Passes over the training part."""
    max_steps: PositiveInt | None = None
    """Stop after this many optimiser steps, whatever `epochs` says."""
    pairs_per_step: PositiveInt = 4
    """Pairs in one optimiser step, over all workers."""
    tokens_per_batch: PositiveInt | Literal["auto"] = "auto"
    """Tokens scored at once; a step with more is done in parts, with the same result. `auto` goes by free memory."""
    learning_rate: PositiveFloat | Literal["auto"] = "auto"
    """Peak learning rate, reached after a short warm-up."""
    learning_rate_multiplier: PositiveFloat = 1.0
    """Multiplies the learning rate, whether it was given or chosen."""
    max_length_tokens: PositiveInt = 1024
    """Longest prompt plus completion. Longer pairs lose whole oldest turns, or are dropped and counted."""
    rank: PositiveInt = 16
    """Width of the LoRA adapter."""
    alpha: PositiveInt = 32
    """Numerator of the adapter's scaling, `alpha / rank`."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout before the adapter. 0 keeps the merged weights exactly the function that was trained."""
    targets: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    """Names of the layers that get an adapter, such as q_proj and v_proj."""
    rslora: bool = False
    """Scale the adapter by `alpha / sqrt(rank)` (Kalajdzievski 2023): for large ranks."""
    dora: bool = False
    """Train direction and magnitude apart (Liu et al. 2024): slower, sometimes better at small ranks."""
    quantize: Literal["nf4"] | None = None
    """`nf4` holds the base's weights in 4 bits while training (QLoRA; a GPU and bitsandbytes)."""
    neftune_alpha: PositiveFloat | None = None
    """Noise on the embeddings while training (NEFTune, Jain et al. 2023); 5 is usual."""
    gradient_checkpointing: bool = False
    """Keep less in memory and compute the forward pass of each layer twice."""
    early_stop: PositiveInt | None = None
    """Stop after this many evaluations on held-out pairs without a better loss, and keep the best adapter."""
    evaluate_every: PositiveInt | None = None
    """Evaluate on held-out pairs after every so many steps."""
    seed: int = 0
    """Seeds data order, adapter initialisation and dropout."""
    device: Literal["auto", "cpu", "cuda", "npu"] = "auto"
    """Where to train; `auto` takes an accelerator if there is one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the base's weights; `auto` is float32 on a processor and bfloat16 on an accelerator."""

    @model_validator(mode="before")
    @classmethod
    def _of_the_method(cls, given: Any) -> Any:
        """Fill in the method's own parameters; refuse those of another method, and say what was probably meant."""
        if not isinstance(given, dict):
            return given
        method = find_method(str(given.get("method", "orpo")))
        options = {_name(name): value for name, value in given.items() if value is not None}
        for name in (*PARAMETERS, "orpo_alpha"):
            if name in options and _known_as(name, method) not in method.parameters:
                raise ValueError(why_not(method, name))
        if "orpo_alpha" in options:
            options["kl_coef"] = options.pop("orpo_alpha")
        own = {name: default for name, default in method.parameters.items() if name in PARAMETERS}
        other = {name: default for name, default in method.parameters.items() if name not in PARAMETERS}
        for name in options.get("parameters", {}):
            if name not in other:
                raise ValueError(why_not(method, name))
        return own | options | {"parameters": other | options.get("parameters", {})}

    @property
    def loss_parameters(self) -> dict[str, float | str]:
        """What the method's loss is called with."""
        own = {name: getattr(self, name) for name in PARAMETERS if getattr(self, name) is not None}
        return own | self.parameters


def _name(name: str) -> str:
    return "lambda_" if name == "lambda" else name


def _known_as(name: str, method: Method) -> str:
    return "kl_coef" if name == "orpo_alpha" and method.name == "orpo-kl" else name
