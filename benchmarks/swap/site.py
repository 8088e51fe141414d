"""What a proof of swaps needs of an engine: a running Alignway, releases to go through, and who says what."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.rollout.plan import plan
from gateway.rollout.snapshot import snapshot_of
from tests.stack import Stack

ALIAS = "assistant"
ENDED = ("promoted", "rolled_back", "stopped")
POLL_SECONDS = 0.1
Swap = Literal["merged", "adapter"]


@dataclass(frozen=True)
class Site:
    """One alias under load. Each engine has a module that opens one: `opened(options)` yields it."""

    stack: Stack
    base_id: str
    releases: Sequence[str]
    """Ids of what is promoted, the base apart."""
    says: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Markers that a release may write. An answer holds exactly one of them; none where the release has none."""
    markers: frozenset[str] = frozenset()
    """All words that are a marker of any release."""
    prompts: Sequence[str] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    """What else a request carries, such as `max_tokens`."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What is recorded beside the figures."""
    modes: Sequence[Swap] = ("merged", "adapter")
    """The ways in which its engine holds a release."""

    def is_right(self, prompt: str, fingerprints: set[str], text: str) -> bool:
        """Whether an answer names one release, and holds the markers of that release alone."""
        found = {word for word in text.split() if word in self.markers}
        if len(fingerprints) != 1 or not fingerprints <= self.says.keys():
            return False
        said = self.says[next(iter(fingerprints))]
        return found <= said and len(found) == min(1, len(said))

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        """An operator's call; one that finds the database busy is made again, as its 503 asks for."""
        while True:
            status, answer = await self.stack.call(method, f"/admin/v1{path}", body)
            if status != 503:
                return status, answer
            await asyncio.sleep(1.0)

    async def serving(self) -> str:
        """The release that the alias serves."""
        _, alias = await self.call("GET", f"/aliases/{ALIAS}")
        return str(alias["serving_release"])

    async def ended(self, rollout_id: str, seconds: float) -> dict[str, Any]:
        """The rollout once it has ended. Raises `TimeoutError`."""
        async with asyncio.timeout(seconds):
            while True:
                _, rollout = await self.call("GET", f"/rollouts/{rollout_id}")
                if rollout["state"] in ENDED:
                    return rollout
                await asyncio.sleep(POLL_SECONDS)

    async def settled(self, seconds: float) -> None:
        """Wait until `is_settled`. Raises `TimeoutError`."""
        async with asyncio.timeout(seconds):
            while not await self.is_settled():
                await asyncio.sleep(POLL_SECONDS)

    async def is_settled(self) -> bool:
        """Whether every replica holds what it should, and nothing is under way or planned."""
        async with self.stack.database.read() as session:
            seen = await snapshot_of(session, ALIAS, time.time())
        return seen.rollout is None and not plan(seen) and all(
            replica.ready and replica.swap_state is None and replica.adapters == replica.desired_adapters
            for replica in seen.replicas
        )  # fmt: skip
