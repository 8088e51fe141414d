"""What each training method is called and which parameters it takes. Light: the losses are in `alignment/losses`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Literal

RowKind = Literal["pairs", "answers", "demonstrations"]
ENTRY_POINTS = "alignway.losses"


@dataclass(frozen=True, slots=True)
class Method:
    """One way of training."""

    name: str
    rows: RowKind
    """`pairs`: a chosen and a rejected answer; `answers`: one with a thumb; `demonstrations`: a good one."""
    summary: str
    parameters: Mapping[str, float | str] = field(default_factory=dict)
    """Name to default; `lambda` is spelt `lambda_` here, as in Python."""


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "orpo", "pairs", "The published ORPO loss (Hong et al. 2024).", {"lambda_": 0.1, "nll": "chosen"}
        ),
        Method(
            "orpo-kl", "pairs", "DPO plus an exact per-token KL to the base, on the logged answers.",
            {"beta": 0.1, "kl_coef": 1.0},
        ),
        Method(
            "dpo", "pairs", "Direct preference optimisation (Rafailov et al. 2023); with rpo_alpha also RPO.",
            {"beta": 0.1, "rpo_alpha": 0.0},
        ),
        Method("ipo", "pairs", "Identity preference optimisation (Azar et al. 2023).", {"beta": 0.1}),
        Method(
            "simpo", "pairs", "SimPO (Meng et al. 2024): mean log-probabilities with a margin, no reference.",
            {"beta": 2.0, "gamma": 1.0},
        ),
        Method(
            "kto", "answers", "KTO (Ethayarajh et al. 2024): single answers with a thumb up or down.",
            {"beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0},
        ),
        Method("sft", "demonstrations", "Plain fine-tuning on the good answers."),
    )
}  # fmt: skip
PARAMETERS = ("lambda_", "nll", "beta", "kl_coef", "rpo_alpha", "gamma", "desirable_weight", "undesirable_weight")
"""Every parameter of a method above; each is an option of a run."""

_WRONG = {
    ("orpo", "beta"): "with orpo, what TRL and ms-swift call beta is `lambda` here, as in the paper (there is no "
    "reference model to stay near to): give that number as lambda",
    ("orpo", "kl_coef"): "orpo as published has no KL term; the formula with one is method orpo-kl, whose weight is "
    "kl_coef; the weight of orpo's odds-ratio penalty is lambda",
}


def find_method(name: str) -> Method:
    """The method of that name; a package may add some (entry point `alignway.losses`). Raises `ValueError`."""
    if name not in METHODS:
        for point in entry_points(group=ENTRY_POINTS, name=name):
            point.load()
    if name not in METHODS:
        raise ValueError(f"there is no method {name}; choose one of {', '.join(METHODS)}")
    return METHODS[name]


def why_not(method: Method, parameter: str) -> str:
    """Why this method does not take that parameter, and what to do."""
    shown = parameter.rstrip("_")
    taken = ", ".join(name.rstrip("_") for name in method.parameters) or "none"
    known = _WRONG.get((method.name, "kl_coef" if parameter == "orpo_alpha" else parameter))
    return known or f"method {method.name} has no parameter {shown}; it takes: {taken}"
