"""What a holdout of some size can show. Pure; normal approximations."""

import math

Z_95 = 1.959964
Z_POWER_80 = 0.841621


def half_width(pairs: int, accuracy: float = 0.65) -> float:
    """Half of the 95 % interval of an accuracy measured on so many independent pairs, as a share."""
    return Z_95 * math.sqrt(accuracy * (1 - accuracy) / pairs)


def detectable(pairs: int, changed: float = 0.2) -> float:
    """The gain in accuracy that shows in four of five runs, where `changed` of the pairs are judged differently.

    Of McNemar's test: the difference of two shares of `changed` pairs, at 5 % two-sided.
    """
    return (Z_95 + Z_POWER_80) * math.sqrt(changed / pairs)
