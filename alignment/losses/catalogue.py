"""Every loss that can be trained with: ours, which importing this file registers, and those that others register."""

from alignment.losses import orpo, pairwise, single  # noqa: F401  # imported so that they register themselves
from alignment.losses.registry import Loss, registered


def find_loss(name: str) -> Loss:
    """The loss of that name. Raises `ValueError`, with the names there are."""
    return registered(name)
