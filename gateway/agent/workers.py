"""Which gateway workers are dead, judged by one agent: nobody of them holds up a fence for ever.

A worker is dead once its heartbeat has stood still for a whole lease on this agent's own clock, while the agent itself
could write to the database throughout. Clocks of different hosts are never compared; and while nobody can write, as
when a long transaction holds the database, nobody dies of silence: afterwards everybody has a whole lease to speak up.
"""

from collections.abc import Mapping

LEASE_SECONDS = 6.0
GAP_SECONDS = 3.0
"""An agent whose own writes were further apart than this was held up itself, and begins to count anew."""


class WorkerWatch:
    """What one agent has seen of the heartbeats of all gateway workers."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[float, float]] = {}
        """Per worker: its last heartbeat, and when that one was first seen."""
        self._looked_at = float("-inf")

    def look(self, beats: Mapping[str, float], now: float) -> None:
        """Take in the heartbeats as read in a transaction that wrote at `now`, on this process's monotonic clock."""
        held_up = now - self._looked_at > GAP_SECONDS
        before = {} if held_up else self._since
        self._since = {
            worker: before[worker] if worker in before and before[worker][0] == beat else (beat, now)
            for worker, beat in beats.items()
        }
        self._looked_at = now

    def dead(self) -> dict[str, float]:
        """The workers that are dead as of the last look, each with its last heartbeat."""
        return {
            worker: beat for worker, (beat, since) in self._since.items() if self._looked_at - since >= LEASE_SECONDS
        }
