"""Notices an engine that runs but does nothing any more: hung, which no look at its process shows.

Its own counts of what it did are a sign of life, and where they stand still, a token that it generates. So one that is
slow under long work is left alone. It is looked at only while it serves: not while it starts, loads weights or is lent.
"""

import asyncio
import time
from dataclasses import dataclass, field

from gateway.agent.duty import ReplicaDuty
from gateway.contracts.ids import WEIGHTS_NAME
from gateway.errors import UpstreamError
from gateway.storage.replicas import requests_in_flight

LOOK_SECONDS = 5.0
"""Between two looks, and how long one waits for the counts."""
LEAST_LOOKS = 4
"""Before an engine is taken to have hung."""

Process = tuple[int, float]
"""Id and birth of an engine's process."""


@dataclass
class Pulse(ReplicaDuty):
    """Counts for how long the engine that serves showed no sign of life."""

    hung_seconds: float
    silent_seconds: float = field(init=False, default=0.0)
    _looked_at: float = field(init=False, default=0.0)
    _process: Process | None = field(init=False, default=None)
    _work: str = field(init=False, default="")

    @property
    def look_seconds(self) -> float:
        """The pause between two looks."""
        return min(LOOK_SECONDS, self.hung_seconds / LEAST_LOOKS)

    @property
    def stopped(self) -> bool:
        """Whether the engine was silent for so long that it is to be started again."""
        silent_for_long = self.silent_seconds >= self.hung_seconds
        return silent_for_long and self._process is not None and self._process == self._serving()

    async def feel(self) -> None:
        """Take one look."""
        process = self._serving()
        if process is None or process != self._process:
            self._process, self._work, self.silent_seconds, self._looked_at = process, "", 0.0, time.monotonic()
        lives = process is not None and await self._shows_life()
        now = time.monotonic()
        if process is None or lives:
            self.silent_seconds = 0.0
        else:  # no more than a look takes: time in which this agent itself was held up does not count
            self.silent_seconds += min(now - self._looked_at, 2 * self.look_seconds + self._token_seconds)
        self._looked_at = now

    @property
    def _token_seconds(self) -> float:
        """How long a token may take: where many wait it is in turn late, and to ask anew would be to lose its turn."""
        return self.hung_seconds / 2

    def _serving(self) -> Process | None:
        if not self.host.alive or self.host.record.phase != "serving":
            return None
        return self.host.record.pid, self.host.record.born_at

    async def _shows_life(self) -> bool:
        control = self.host.control
        try:
            async with asyncio.timeout(self.look_seconds):
                work = await control.work_done()
            moved, self._work = work != self._work, work
            if moved or not work or not (self.silent_seconds or await self._is_asked()):
                return True
            async with asyncio.timeout(self._token_seconds):
                await control.probe(WEIGHTS_NAME)
        except (UpstreamError, TimeoutError):
            return False
        return True

    async def _is_asked(self) -> bool:
        async with self.database.read() as session:
            return (await requests_in_flight(session, time.time()))[self.host.url] > 0
