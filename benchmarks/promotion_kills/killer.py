"""Kills one process at a moment of a promotion that chance picks, and looks at what became of the alias."""

import asyncio
import contextlib
import json
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.promotion_kills.losses import Kill, Victim
from benchmarks.swap.moves import Swap
from benchmarks.swap.site import ALIAS, ENDED, Site
from benchmarks.swap.streams import Answer, ask
from gateway.agent.process import born
from gateway.storage.tables import Alias

CHILDREN = {"gateway": "gateway-1", "agent": "engine-agent", "aligner": "aligner"}
HEALED_SECONDS = 900.0
PROBES = 8
"""Asked at the end of each kill, on new connections: all must name the one release that serves."""
PAUSE_SECONDS = 0.5


@dataclass(frozen=True)
class Outcome:
    """One kill and what it came to."""

    victim: Victim
    swap: Swap
    after_seconds: float
    """From the acceptance of the promotion to the kill."""
    under_way: bool
    """Whether the rollout was still open at the kill."""
    state: str
    """How the rollout ended: `promoted`, or `rolled_back` or `stopped` for the incumbent."""
    healed_seconds: float
    """From the kill until everything was as it should be."""
    problem: str | None
    """What speaks against exactly one release serving; None: nothing."""

    def row(self) -> dict[str, Any]:
        """For the record."""
        return asdict(self) | {
            "after_seconds": round(self.after_seconds, 3),
            "healed_seconds": round(self.healed_seconds, 2),
        }


@dataclass
class Killer:
    """Promotes one release after another, and kills."""

    site: Site
    chance: random.Random
    promotion_seconds: dict[str, float] = field(default_factory=dict)
    """How long a promotion takes that nobody disturbs, for each way of holding releases."""
    kills: list[Kill] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)

    async def prepare(self, swap: Swap) -> None:
        """Hold releases this way from now on, and measure an undisturbed promotion."""
        await self.site.stack.change_swap(swap)
        await self.site.settled(HEALED_SECONDS)
        began = time.monotonic()
        rollout = await self._promote()
        await self._ended(rollout)
        self.promotion_seconds[swap] = time.monotonic() - began
        await self.site.settled(HEALED_SECONDS)

    async def kill(self, victim: Victim, swap: Swap) -> Outcome:
        """Promote another release, kill the victim while that is under way, wait until all is well, and look."""
        await asyncio.sleep(PAUSE_SECONDS)
        incumbent = await self._serving()
        rollout = await self._promote()
        accepted = time.monotonic()
        await asyncio.sleep(self.chance.uniform(0.0, self.promotion_seconds[swap]))
        under_way = (await self._rollout(rollout["id"]))["state"] not in ENDED
        pid, kill = await self._kill(victim)
        self.kills.append(kill)
        after_seconds = kill.at - accepted
        if not under_way:  # the machine is quicker than it was: kill earlier
            self.promotion_seconds[swap] = min(self.promotion_seconds[swap], after_seconds)
        state, problem = await self._come_to_rest(rollout, victim, pid)
        healed_seconds = time.monotonic() - kill.at
        if problem is None:
            problem = await self._problem(rollout["candidate"] if state == "promoted" else incumbent)
        self.outcomes.append(Outcome(victim, swap, after_seconds, under_way, state, healed_seconds, problem))
        return self.outcomes[-1]

    async def _come_to_rest(self, rollout: dict[str, Any], victim: Victim, killed: int) -> tuple[str, str | None]:
        """How the rollout ended, once nothing is to be done any more; and what is wrong if that takes too long."""
        state = "?"
        try:
            async with asyncio.timeout(HEALED_SECONDS):
                state = str((await self._ended(rollout))["state"])
                while self._pid(victim) in (None, killed):
                    await asyncio.sleep(0.1)
                await self.site.settled(HEALED_SECONDS)
        except TimeoutError:
            return state, f"not healed within {HEALED_SECONDS:g} s\n{self.site.stack.logs(1500)}"
        return state, None

    async def _problem(self, wanted: str) -> str | None:
        """What speaks against `wanted` being the one release that serves."""
        serving = await self._serving()
        if serving != wanted:
            return f"the alias serves {serving}, not {wanted}"
        answers = await asyncio.gather(*(ask(self.site, prompt) for prompt in self.site.prompts[:PROBES]))
        named = {fingerprint for answer in answers for fingerprint in answer.fingerprints}
        if named != {wanted} or not all(answer.is_right for answer in answers):
            return f"asked who serves, {sorted(named)} answered: {[_said(answer) for answer in answers]}"
        return None

    async def _kill(self, victim: Victim) -> tuple[int, Kill]:
        """SIGKILL, as soon as the victim is there: it may be starting again after the last time."""
        while True:
            pid = self._pid(victim)
            if pid is not None and (born_at := born(pid)) is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    at = time.monotonic()
                    while not _is_gone(pid, born_at):
                        await asyncio.sleep(0.005)
                    return pid, Kill(victim, at, time.monotonic())
            await asyncio.sleep(0.02)

    def _pid(self, victim: Victim) -> int | None:
        if victim != "engine":
            return self.site.stack.supervisor.pid(CHILDREN[victim])
        try:
            record = self.site.stack.settings.data_dir / "engines" / f"{ALIAS}-1.json"
            return int(json.loads(record.read_text())["pid"])
        except (OSError, ValueError):
            return None

    async def _promote(self) -> dict[str, Any]:
        """Ask until the answer is there; asked twice under one key, it is one promotion."""
        serving = await self._serving()
        target = self.chance.choice([release for release in self.site.releases if release != serving])
        key = f"proof-{time.time_ns()}"

        async def once() -> dict[str, Any] | None:
            status, answer = await self.site.stack.call(
                "POST",
                f"/admin/v1/aliases/{ALIAS}/promote",
                {"release": target, "reason": "proof"},
                **{"idempotency-key": key},
            )
            return answer if status == 202 else None

        return await _until_answered(once)

    async def _serving(self) -> str:
        async with self.site.stack.database.read() as session:
            return (await session.get_one(Alias, ALIAS)).serving_release_id

    async def _ended(self, rollout: dict[str, Any]) -> dict[str, Any]:
        while (found := await self._rollout(rollout["id"]))["state"] not in ENDED:
            await asyncio.sleep(0.1)
        return found

    async def _rollout(self, rollout_id: str) -> dict[str, Any]:
        async def once() -> dict[str, Any] | None:
            status, answer = await self.site.stack.call("GET", f"/admin/v1/rollouts/{rollout_id}")
            return answer if status == 200 else None

        return await _until_answered(once)


async def _until_answered(once: Callable[[], Awaitable[dict[str, Any] | None]]) -> dict[str, Any]:
    """Again, as an operator would, while the worker asked is dead or the database busy. Raises `TimeoutError`."""
    async with asyncio.timeout(HEALED_SECONDS):
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                if (answer := await once()) is not None:
                    return answer
            await asyncio.sleep(0.1)


def _is_gone(pid: int, born_at: float) -> bool:
    """Whether a killed process holds nothing any more: on a busy machine, its threads do for a moment longer."""
    try:
        return born(pid) != born_at and len(list(Path(f"/proc/{pid}/task").iterdir())) <= 1
    except FileNotFoundError:
        return True


def _said(answer: Answer) -> str:
    return answer.failure or answer.text[:60]
