"""Candidate, incumbent and base on the same items: a mean for each, and the differences item by item. Pure."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from alignment.gate.bootstrap import mean_interval
from alignment.gate.items import Who
from gateway.contracts.release import Interval

T = TypeVar("T", covariant=True)
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Sides(Generic[T]):
    """The same thing of each model that is compared."""

    candidate: T
    base: T | None = None
    """None if the candidate is the base itself, so that there is nothing to compare."""
    incumbent: T | None = None
    """None if nothing but the base serves yet."""

    @property
    def rival(self) -> T | None:
        """The incumbent's; the base's where there is no incumbent."""
        return self.base if self.incumbent is None else self.incumbent

    def map(self, change: Callable[[T], R]) -> "Sides[R]":
        """Each changed alike."""
        base, incumbent = (None if side is None else change(side) for side in (self.base, self.incumbent))
        return Sides(change(self.candidate), base, incumbent)

    def known(self) -> dict[Who, T]:
        """Each that there is, by whose it is."""
        found: dict[Who, T] = {"candidate": self.candidate}
        if self.incumbent is not None:
            found["incumbent"] = self.incumbent
        return found if self.base is None else found | {"base": self.base}

    def named(self, name: str) -> Iterator[tuple[str, T]]:
        """`name` for the candidate, `name_incumbent` and `name_base` for those it is compared with."""
        yield name, self.candidate
        if self.base is not None and self.rival is not None:
            yield f"{name}_incumbent", self.rival
            yield f"{name}_base", self.base

    def differences(self, name: str) -> Iterator[tuple[str, T, T]]:
        """What to subtract from what: `name_difference` from the rival, `name_difference_base` where that differs."""
        if self.rival is not None:
            yield f"{name}_difference", self.candidate, self.rival
        if self.base is not None and self.incumbent is not None:
            yield f"{name}_difference_base", self.candidate, self.base


def compared(name: str, sides: Sides[Sequence[float]], clusters: Sequence[str]) -> dict[str, Interval]:
    """The means of one figure under each model and the means of the paired differences, with 95 % intervals.

    sides     one value per item, in the same order for each model.
    clusters  the prompt of each item.
    """
    found = {key: mean_interval(values, clusters) for key, values in sides.named(name)}
    for key, ours, theirs in sides.differences(name):
        found[key] = mean_interval([mine - other for mine, other in zip(ours, theirs, strict=True)], clusters)
    return found


class SignTest(NamedTuple):
    """Two models on the same items, each right or wrong: the exact form of McNemar's test."""

    won: int
    """Items that only the candidate got right."""
    lost: int
    """Items that only the other one got right."""
    p_value: float
    """How often a fair coin falls at least as unevenly, on either side; 1 where none differs."""


def sign_test(candidate: Sequence[float], other: Sequence[float]) -> SignTest:
    """Of the items on which the two differ, how surprising is it that so many fell to one side?"""
    won = sum(mine > theirs for mine, theirs in zip(candidate, other, strict=True))
    lost = sum(mine < theirs for mine, theirs in zip(candidate, other, strict=True))
    differing = won + lost
    tail = sum(math.comb(differing, count) for count in range(min(won, lost) + 1))
    # Whole numbers to the end: 0.5 to a power of thousands is 0 in floating point.
    return SignTest(won, lost, min(1.0, 2 * tail / (1 << differing)))
