"""Pairs and single answers as token ids: what a step of training is made of."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TokenPair:
    """One pair as token ids."""

    id: str
    prompt_hash: str
    weight: float
    prompt: list[int]
    chosen: list[int]
    """Completion ids, the end token last."""
    rejected: list[int]
    turns_dropped: int = 0
    """Oldest turns left out so that the pair fits."""
    chosen_unscored: int = 0
    """So many of its first tokens are the thought before the answer: seen, but in no loss."""
    rejected_unscored: int = 0


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """One answer as token ids, with its thumb."""

    id: str
    prompt_hash: str
    weight: float
    prompt: list[int]
    completion: list[int]
    """The end token last."""
    desirable: bool
    turns_dropped: int = 0
    unscored: int = 0
    """So many of its first tokens are the thought before the answer: seen, but in no loss."""
