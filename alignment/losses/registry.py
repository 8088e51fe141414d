"""The losses by name, ours and yours: a loss is one function from log-probabilities to a figure per row.

    from alignment.losses.registry import Losses, register_loss

    @register_loss("hinge", "pairs", "A margin between the two sides.")
    def hinge(logps, *, margin: float = 1.0):
        return Losses((margin - logps.chosen.means + logps.rejected.means).clamp(min=0))

Its keyword-only arguments are its parameters: `TrainingOptions(method="hinge", parameters={"margin": 0.5})`. A package
that names the module as entry point `hinge` of the group `alignway.losses` is found by the command line as well.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from gateway.contracts.methods import METHODS, Method, RowKind, find_method


class Losses(NamedTuple):
    """What a loss says of P rows."""

    per_row: Tensor
    """(P,) to minimise, in nats, before the rows' weights. Its mean over all rows of a step is the step's loss."""
    metrics: Mapping[str, Tensor] = {}
    """Figures worth a curve, (P,) each; the mean over all rows of a step is shown."""


LossFunction = Callable[..., Losses]


@dataclass(frozen=True, slots=True)
class Loss:
    """A registered loss, and what it must be given."""

    method: Method
    function: LossFunction
    needs_reference: bool = False
    """`logps.reference`: the same rows under the base, the adapter switched off."""
    needs_divergence: bool = False
    """`logps.divergence`: exact KL to the base at every token of the completions."""
    needs_baseline: bool = False
    """The argument `baseline`: mean log-ratio of mismatched answers in the step (KTO's z0)."""
    prompt_when: Mapping[str, str] = field(default_factory=dict)
    """Parameter values with which the prompt's tokens are scored too."""

    def needs_prompt(self, parameters: Mapping[str, float | str]) -> bool:
        """Whether `logps.prompt` is wanted with these parameters."""
        return any(parameters.get(name) == value for name, value in self.prompt_when.items())


_LOSSES: dict[str, Loss] = {}


def register_loss(
    name: str,
    rows: RowKind,
    summary: str = "",
    *,
    reference: bool = False,
    divergence: bool = False,
    baseline: bool = False,
    prompt_when: Mapping[str, str] | None = None,
) -> Callable[[LossFunction], LossFunction]:
    """Make a function a method of training; see the head of this file. Raises `ValueError` if the name is taken."""

    def register(function: LossFunction) -> LossFunction:
        if name in _LOSSES:
            raise ValueError(f"a loss named {name} is registered already; choose another name")
        method = METHODS.get(name) or Method(name, rows, summary, _parameters(function))
        METHODS.setdefault(name, method)
        _LOSSES[name] = Loss(method, function, reference, divergence, baseline, prompt_when or {})
        return function

    return register


def registered(name: str) -> Loss:
    """The loss of that name. Raises `ValueError`, with the names there are."""
    find_method(name)
    return _LOSSES[name]


def _parameters(function: LossFunction) -> dict[str, float | str]:
    given = inspect.signature(function).parameters.values()
    return {one.name: one.default for one in given if one.kind is one.KEYWORD_ONLY and one.name != "baseline"}
