"""What the engine of one replica holds at the moment, as its agent knows it; and how long to wait after trouble."""

import time
from dataclasses import dataclass

from gateway.storage.replicas import ReplicaReport

FORGET_SECONDS = 60.0


@dataclass
class Held:
    """The agent's side of a `Replica` row, kept in memory and written when it differs."""

    phase: str = "starting"
    url: str | None = None
    weights_id: str | None = None
    adapters: tuple[str, ...] = ()
    max_adapter_rank: int = 0
    in_place: bool = True
    restarts: int = 0
    detail: str = ""
    remark: str = ""
    """Why the engine holds other weights than were asked for; shown until an exchange succeeds."""

    def report(self) -> ReplicaReport:
        """The columns to write."""
        return ReplicaReport(
            phase=self.phase,
            url=self.url,
            weights_release_id=self.weights_id,
            adapters=self.adapters,
            max_adapter_rank=self.max_adapter_rank,
            in_place=self.in_place,
            restarts=self.restarts,
            detail=self.detail,
        )


class Backoff:
    """Pauses after trouble, each twice as long as the one before; a quiet minute makes them short again."""

    def __init__(self, first_seconds: float, limit_seconds: float) -> None:
        self._first_seconds = first_seconds
        self._limit_seconds = limit_seconds
        self._pause_seconds = 0.0
        self._until = float("-inf")

    def due(self) -> bool:
        """Whether the pause is over."""
        return time.monotonic() >= self._until

    def trouble(self) -> None:
        """Something went wrong: pause."""
        now = time.monotonic()
        quiet = now - self._until > FORGET_SECONDS
        longer = max(self._pause_seconds * 2, self._first_seconds)
        self._pause_seconds = self._first_seconds if quiet else min(longer, self._limit_seconds)
        self._until = now + self._pause_seconds
