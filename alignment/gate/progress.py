"""How long measurements tell that they get on."""

from collections.abc import Callable

OnProgress = Callable[[int], None]
"""Told how many more are done."""


def untold(_: int) -> None:
    """For those who do not ask."""
