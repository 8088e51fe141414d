"""kill -9 at random moments of promotions under load, of gateway worker, agent, aligner and engine in turn.

    python -m benchmarks.promotion_kills --engine scripted --kills 200 --minutes 40
    python -m benchmarks.promotion_kills --engine vllm --kills 20 --minutes 40

After every kill all must come to rest with one release that serves, and no answer may be lost but those that were in
the process that died. Runs add up: the target is 50 kills of each process on the scripted engine, 5 on the real vLLM.
"""

import argparse
import asyncio
import json
import random
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from benchmarks.promotion_kills.killer import Killer
from benchmarks.promotion_kills.losses import VICTIMS, Kill, explained
from benchmarks.record import record, runs
from benchmarks.swap import scripted, vllm
from benchmarks.swap.moves import Swap, rounded
from benchmarks.swap.site import Site
from benchmarks.swap.streams import Answer, listening

NAME = "promotion-kills"
TARGET_OF_EACH = {"scripted": 50, "vllm": 5}
SWAPS: tuple[Swap, ...] = ("merged", "adapter")
ROUNDS_IN_A_MODE = 3
"""Each round kills every process once; a change between merged weights and adapters takes an exchange."""


def site_of(engine: str) -> AbstractAsyncContextManager[Site]:
    """A running Alignway with an aligner, over the engine asked for."""
    opened = vllm.opened if engine == "vllm" else scripted.opened
    return opened(aligner={"enabled": True})


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Kill until there were so many kills, the time is up, somebody says stop, or something does not heal."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    chance = random.Random(options.seed)
    async with site_of(options.engine) as site:
        killer = Killer(site, chance)
        deadline = time.monotonic() + options.minutes * 60
        async with listening(site, options.streams) as heard:
            await _kill_again_and_again(killer, options.kills, deadline, stop)
    facts = {"engine": options.engine, "streams": options.streams, "seed": options.seed, **site.facts}
    return facts | figures(killer, heard)


async def _kill_again_and_again(killer: Killer, kills: int, deadline: float, stop: asyncio.Event) -> None:
    turn = killer.chance.randrange(len(SWAPS))
    while True:
        swap = SWAPS[turn % len(SWAPS)]
        await killer.prepare(swap)
        for victim in killer.chance.sample(VICTIMS, len(VICTIMS)) * ROUNDS_IN_A_MODE:
            if len(killer.kills) >= kills or time.monotonic() > deadline or stop.is_set():
                return
            outcome = await killer.kill(victim, swap)
            print(f"kill {len(killer.kills)}: {outcome.row()}", flush=True)
            if outcome.problem is not None:
                return
        turn += 1


def figures(killer: Killer, heard: Sequence[Answer]) -> dict[str, Any]:
    """What one run came to."""
    failed = [answer for answer in heard if answer.failure]
    lost = [answer for answer in failed if not explained(answer, killer.kills)]
    wrong = [answer for answer in heard if answer.failure is None and not answer.is_right]
    return {
        "kills": len(killer.kills),
        "of_each": {victim: _of(victim, killer, failed) for victim in VICTIMS},
        "not_one_serving": sum(outcome.problem is not None for outcome in killer.outcomes),
        "answers": len(heard),
        "died_with_the_killed_process": len(failed) - len(lost),
        "lost": len(lost),
        "mixed": len(wrong),
        "undisturbed_promotion_seconds": {swap: round(s, 2) for swap, s in killer.promotion_seconds.items()},
        "lost_answers": [_shown(answer, killer.kills) for answer in lost[:10]],
        "outcomes": [outcome.row() for outcome in killer.outcomes],
    }


def _of(victim: str, killer: Killer, failed: Sequence[Answer]) -> dict[str, Any]:
    mine = [outcome for outcome in killer.outcomes if outcome.victim == victim]
    kills = [kill for kill in killer.kills if kill.victim == victim]
    return {
        "kills": len(mine),
        "while_under_way": sum(outcome.under_way for outcome in mine),
        "promoted": sum(outcome.state == "promoted" for outcome in mine),
        "died_with_it": sum(explained(answer, kills) for answer in failed),
        "healed_seconds": rounded([outcome.healed_seconds for outcome in mine]),
    }


def _shown(answer: Answer, kills: Sequence[Kill]) -> dict[str, Any]:
    before = [kill for kill in kills if kill.at <= answer.ended]
    last = max(before, key=lambda kill: kill.at) if before else None
    return {
        "failure": answer.failure,
        "had_begun": answer.first is not None,
        "after_the_kill_of": last and last.victim,
        "sent_after_seconds": last and round(answer.sent - last.at, 3),
        "ended_after_seconds": last and round(answer.ended - last.at, 3),
    }


def so_far(engine: str) -> dict[str, Any]:
    """What all recorded runs over an engine come to."""
    mine = [run for run in runs(NAME) if run["engine"] == engine]
    total: dict[str, Any] = {victim: sum(run["of_each"][victim]["kills"] for run in mine) for victim in VICTIMS}
    return total | {name: sum(run[name] for run in mine) for name in ("answers", "lost", "mixed", "not_one_serving")}


def main() -> None:
    """Run, record, and say how far the sum of runs is; 1 if anything was lost, mixed or did not heal."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.promotion_kills", description=__doc__)
    parser.add_argument("--engine", choices=tuple(TARGET_OF_EACH), default="scripted")
    parser.add_argument("--kills", type=int, default=40, help="of all processes together")
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=40.0, help="begin no kill after so many minutes")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the moments; default: the time")
    options = parser.parse_args()
    found = asyncio.run(measure(options))
    path = record(NAME, found)
    print(f"{json.dumps({name: value for name, value in found.items() if name != 'outcomes'}, indent=1)}\n{path}")
    print(f"so far, {options.engine}: {so_far(options.engine)}, of {TARGET_OF_EACH[options.engine]} kills of each")
    sys.exit(bool(found["lost"] or found["mixed"] or found["not_one_serving"] or not found["kills"]))


if __name__ == "__main__":
    main()
