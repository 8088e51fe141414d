"""Text as the step's row where nothing is learnt: what is given, and what is scored."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """Token ids that are given, and those whose likelihood is asked for."""

    prompt: list[int]
    completion: list[int]
    weight: float = 1.0
    desirable: bool = True
    unscored: int = 0
