"""How near merged weights come to base plus adapter, and how near is near enough. Light: loads no torch."""

from pydantic import BaseModel, ConfigDict

_TOLERANCES = {"float32": 5e-4, "float16": 1e-2, "bfloat16": 5e-2}
"""In float32 rounding alone came to 1.3e-4 where training had driven attention to its limits, and to 1e-6 elsewhere."""
_DROWNED_SHARE = 0.5


class MergeCheck(BaseModel):
    """The merged model, loaded anew from its folder, beside base plus adapter on a few fixed prompts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dtype: str
    """The precision of the merged weights, in which both were run."""
    positions: int
    """Tokens of the prompts; the logits of the whole vocabulary are compared at each."""
    max_absolute_difference: float
    """The largest difference of any logit."""
    max_relative_difference: float
    """The largest difference as a share of the largest logit at its position."""
    tolerance: float
    """What `max_relative_difference` may be at most in this precision."""
    greedy_agreement_share: float
    """Share of the positions at which both would write the same token."""
    adapter_effect: float
    """The largest difference that the adapter makes to any logit of the base."""

    @property
    def passed(self) -> bool:
        """Whether the merged model is the adapted one up to rounding. Not a number is no agreement."""
        return self.max_relative_difference <= self.tolerance

    @property
    def drowned(self) -> bool:
        """Whether rounding moves the logits half as far as the adapter, or farther: too little of it is left."""
        return 0 < self.adapter_effect * _DROWNED_SHARE <= self.max_absolute_difference


def tolerance_of(dtype: str) -> float:
    """The largest relative difference that rounding explains; a precision not listed is judged like bfloat16."""
    return _TOLERANCES.get(dtype, _TOLERANCES["bfloat16"])
