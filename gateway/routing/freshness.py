"""Is the routing table still this worker's to dispatch by? Once its lease may have lapsed, it looks before it sends.

An agent takes a worker that did not beat for a while for dead and exchanges weights without asking it. A worker that
was paused or stalled that long must not send by the table it held before. Knows nothing of the database.
"""

import asyncio
import time
from collections.abc import Callable

FRESH_SECONDS = 4.0
"""A table confirmed this long ago is dispatched by; well below the 6 s after which agents take a worker for dead."""
PATIENCE_SECONDS = 2.0
"""A dispatch waits this long for a look at the database; then the database counts as away."""


class Freshness:
    """When the table was last confirmed, by a monotonic clock: it goes on while the process is stopped."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._good_until = float("inf")  # a table that nobody keeps in step is taken as it is
        self._attempt_began = float("-inf")
        self._attempted = asyncio.Event()

    def is_fresh(self) -> bool:
        """Whether the table may be dispatched by right now; if not, `wait` first."""
        return self._clock() < self._good_until

    def confirm(self, at: float) -> None:
        """The table was read, and the worker's heartbeat written, no earlier than `at`."""
        self._good_until = at + FRESH_SECONDS

    def attempted(self, began: float) -> None:
        """An attempt to confirm, begun at `began`, is over, whatever came of it."""
        self._attempt_began = began
        self._attempted.set()
        self._attempted = asyncio.Event()

    async def wait(self) -> None:
        """Return at once if the table is fresh, else after one attempt to confirm it.

        If that fails, the database is away, and inference goes on by the table last known.
        """
        while (asked := self._clock()) >= self._good_until:
            await self._attempt_since(asked)
            now = self._clock()
            # Stopped while waiting here: whatever ended in between says nothing of now, so ask again.
            if now >= self._good_until and now - asked < 2 * PATIENCE_SECONDS:
                self._good_until = asked + FRESH_SECONDS

    async def _attempt_since(self, asked: float) -> None:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while self._attempt_began < asked:
                    await self._attempted.wait()
        except TimeoutError:
            return
