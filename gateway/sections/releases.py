"""Settings of what releases take up on disk."""

from pydantic import NonNegativeInt, PositiveInt

from gateway.sections.section import Section


class ReleaseSettings(Section):
    """How many releases keep their weights, and how much room is left on the disk."""

    keep: PositiveInt = 5
    """The weights of so many newest releases of an alias are kept. What serves, what it can go back to, a canary, what
    an engine holds and what is pinned is kept beside them."""
    min_free_disk_mib: NonNegativeInt = 512
    """Nothing is trained or promoted that would leave less than this free where the store lies."""
