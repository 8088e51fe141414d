"""What a vote weighs in a data set: its trust, times what age and newer releases leave of it. Pure."""

from gateway.contracts.pair import Basis

EXEMPT: frozenset[Basis] = frozenset({"correction", "import"})
"""Text that a person wrote or chose to bring in does not grow stale."""


def recency(age_days: float, *, half_life_days: float, floor: float) -> float:
    """0.5 to the power of the age in half-lives, never below `floor`; 1 for what is yet to come."""
    return float(max(floor, 0.5 ** (max(0.0, age_days) / half_life_days)))


def off_policy(releases_behind: int, *, factor: float, floor: float) -> float:
    """`factor` for each release between the one that wrote the older side and the one before the serving one."""
    return float(max(floor, factor ** max(0, releases_behind - 1)))
