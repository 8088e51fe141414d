"""What a forward pass of the step returns: sums of log-probabilities and how many tokens are in each sum."""

from typing import NamedTuple

from torch import Tensor


class SideLogps(NamedTuple):
    """One figure per pair, in nats, summed over tokens."""

    sums: Tensor
    """(P,) float32, or float64 for a float64 model."""
    counts: Tensor
    """(P,) of the same type: the tokens in each sum; 0 where the pair has no such tokens."""

    @property
    def means(self) -> Tensor:
        """(P,) nats per token; 0 where there is no token."""
        return self.sums / self.counts.clamp(min=1)


class StepLogps(NamedTuple):
    """Log-probabilities of P pairs under one model."""

    chosen: SideLogps
    """The tokens of the chosen completion, its end token included."""
    rejected: SideLogps
    prompt: SideLogps | None = None
    """The tokens of the prompt but its first; only when asked for."""
    divergence: SideLogps | None = None
    """KL(policy || reference), exact over the vocabulary, summed over both completions; only when asked for."""
    desirable: Tensor | None = None
    """(P,) bool: False for a single answer with a thumb down."""
    reference: "StepLogps | None" = None
    """The same pairs under the model without its adapter; only when asked for. Carries no gradient."""
