"""A walk of promotions and rollbacks through releases, merged and as adapters in turn, and what it did to clients."""

import asyncio
import random
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from benchmarks.record import quantiles
from benchmarks.swap.site import ALIAS, Site, Swap
from benchmarks.swap.streams import Answer

LONGEST_PAUSE_SECONDS = 1.0
"""Before a swap: sometimes what a rollback needs is loaded by then, sometimes not."""
SETTLED_SECONDS = 300.0
ENDED_SECONDS = 600.0
LONGEST_ANSWER_SECONDS = 120.0


@dataclass(frozen=True)
class Swapped:
    """One swap: what it was, to which release, and when it was under way (monotonic seconds)."""

    kind: str
    target: str
    began: float
    ended: float
    failure: str | None = None


@dataclass
class Walk:
    """Goes through the releases of a site; `swaps` and `changes` grow."""

    site: Site
    chance: random.Random

    def __post_init__(self) -> None:
        self.swaps: list[Swapped] = []
        self.changes: list[Swapped] = []
        """The exchanges between the two ways of holding a release; they are swaps too, but not counted as such."""

    async def go(self, number: int, deadline: float, advance: Callable[[], None], stop: asyncio.Event) -> None:
        """So many swaps, or until the deadline or a stop; three or four in one mode, then as many in the other."""
        began = time.monotonic()
        try:
            for mode, move in self._steps():
                if len(self.swaps) >= number or time.monotonic() > deadline or stop.is_set():
                    return
                began = time.monotonic()
                if move == "change":
                    await self._change(mode)
                    continue
                await asyncio.sleep(self.chance.uniform(0.05, LONGEST_PAUSE_SECONDS))
                self.swaps.append(await self._swap(mode, move))
                advance()
        except TimeoutError:
            failure = f"{mode}, {move} did not come to an end"
            self.swaps.append(Swapped("without an end", "", began, time.monotonic(), failure))

    def _steps(self) -> Iterator[tuple[Swap, str]]:
        modes = self.site.modes
        for mode in cycle(self.chance.sample(modes, len(modes))):
            if len(modes) > 1:
                yield mode, "change"
            yield from ((mode, move) for move in self._moves())

    def _moves(self) -> list[str]:
        """Promote two, take the second back; now and then all the way back to the base first."""
        return [*(["base"] if self.chance.random() < 1 / 3 else []), "promote", "promote", "back"]

    async def _change(self, mode: Swap) -> None:
        began = time.monotonic()
        await self.site.stack.change_swap(mode)
        await self.site.settled(SETTLED_SECONDS)
        self.changes.append(Swapped(f"to {mode}", await self.site.serving(), began, time.monotonic()))

    async def _swap(self, mode: Swap, move: str) -> Swapped:
        serving = await self.site.serving()
        if move == "base" and serving == self.site.base_id:
            move = "promote"
        at_hand = await self._at_hand()
        began = time.monotonic()
        status, rollout = await self._ask_for(move, serving)
        if status != 202:
            return Swapped(f"{mode}, {move}", "", began, time.monotonic(), f"refused: {rollout}")
        ended = await self.site.ended(rollout["id"], ENDED_SECONDS)
        target = str(rollout["candidate"])
        kind = "promote" if move == "promote" else f"rollback, {'loaded' if target in at_hand else 'not loaded'}"
        failure = None if ended["state"] == "promoted" else f"{ended['state']}: {ended.get('detail')}"
        return Swapped(f"{mode}, {kind}", target, began, time.monotonic(), failure)

    async def _ask_for(self, move: str, serving: str) -> tuple[int, dict[str, Any]]:
        path, body = f"/aliases/{ALIAS}/rollback", {"reason": "proof"}
        if move == "promote":
            path = f"/aliases/{ALIAS}/promote"
            others = [release for release in self.site.releases if release != serving]
            body |= {"release": self.chance.choice(others), "expected_current": serving}
        elif move == "base":
            body |= {"release": self.site.base_id}
        return await self.site.call("POST", path, body)

    async def _at_hand(self) -> set[str]:
        """Releases that every replica could answer with now."""
        _, replicas = await self.site.call("GET", "/replicas")
        held = [{*replica["adapters"], replica["weights_release"]} for replica in replicas["data"]]
        return set.intersection(*held)


def figures(walk: Walk, heard: list[Answer]) -> dict[str, Any]:
    """What one run came to. A newcomer is a request sent while a swap was under way; all times are in seconds."""
    answers = sorted(heard, key=lambda answer: answer.sent)
    wrong = [answer for answer in answers if answer.failure is None and not answer.is_right]
    failures = [answer.failure for answer in answers if answer.failure]
    refused = [f"{swap.kind}: {swap.failure}" for swap in walk.swaps if swap.failure]
    everything = [*walk.swaps, *walk.changes]
    newcomers = {id(answer) for swap in everything for answer in _sent_during(answers, swap)}
    return {
        "swaps": len(walk.swaps),
        "mode_changes": len(walk.changes),
        "answers": len(answers),
        "failed": len(failures) + len(refused),
        "mixed": len(wrong),
        "failures": [*failures, *refused][:5],
        "wrong_answers": [{"named": sorted(one.fingerprints), "text": one.text[:200]} for one in wrong[:5]],
        "kinds": {
            kind: _of_kind([swap for swap in everything if swap.kind == kind], answers)
            for kind in sorted({swap.kind for swap in everything})
        },
        "sent_between_swaps": _felt([answer for answer in answers if id(answer) not in newcomers]),
    }


def _of_kind(swaps: list[Swapped], answers: list[Answer]) -> dict[str, Any]:
    newcomers = [answer for swap in swaps for answer in _sent_during(answers, swap)]
    open_streams = [answer for swap in swaps for answer in _overlapping(answers, swap)]
    first = [seconds for swap in swaps if (seconds := _first_answer(answers, swap)) is not None]
    return {
        "swaps": len(swaps),
        "seconds": rounded([swap.ended - swap.began for swap in swaps]),
        "first_answer_of_the_target_seconds": rounded(first),
        "newcomers": len(newcomers),
        **_felt(newcomers),
        "open_streams_stall_seconds": rounded([answer.stall_seconds for answer in open_streams]),
    }


def _felt(answers: list[Answer]) -> dict[str, Any]:
    waits = [answer.first - answer.sent for answer in answers if answer.first is not None]
    stalls = [answer.stall_seconds for answer in answers]
    return {"first_chunk_seconds": rounded(waits), "stall_seconds": rounded(stalls)}


def _sent_during(answers: list[Answer], swap: Swapped) -> list[Answer]:
    low = bisect_left(answers, swap.began, key=_sent)
    return answers[low : bisect_left(answers, swap.ended, key=_sent)]


def _overlapping(answers: list[Answer], swap: Swapped) -> list[Answer]:
    low = bisect_left(answers, swap.began - LONGEST_ANSWER_SECONDS, key=_sent)
    high = bisect_left(answers, swap.ended, key=_sent)
    return [answer for answer in answers[low:high] if answer.ended >= swap.began]


def _first_answer(answers: list[Answer], swap: Swapped) -> float | None:
    """From the call to the first chunk that the target wrote for a request sent after it."""
    mine = (a.first for a in _sent_during(answers, swap) if a.first is not None and swap.target in a.fingerprints)
    return min((first - swap.began for first in mine), default=None)


def _sent(answer: Answer) -> float:
    return answer.sent


def rounded(values: list[float]) -> dict[str, float]:
    """Median, 99th percentile and maximum, to the millisecond."""
    return {name: round(value, 3) for name, value in quantiles(values).items()}
