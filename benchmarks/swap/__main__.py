"""Swaps under load: two gateway workers, streams without pause, promotions and rollbacks, merged and as adapters mixed.

    python -m benchmarks.swap --swaps 100 --streams 32 --minutes 40
    python -m benchmarks.swap --engine vllm --swaps 50 --minutes 20
    python -m benchmarks.swap --engine lmdeploy --swaps 100 --minutes 40

Every answer is checked: it ended, names one release throughout, and its text holds that release's marker and no other.
Each run walks through the releases by chance and is recorded; runs add up, for each engine by itself.
"""

import argparse
import asyncio
import json
import random
import signal
import sys
import time
from contextlib import AbstractAsyncContextManager
from typing import Any

from rich.progress import Progress

from benchmarks.record import record, runs
from benchmarks.swap import lmdeploy, scripted, vllm
from benchmarks.swap.moves import Walk, figures
from benchmarks.swap.site import Site
from benchmarks.swap.streams import listening

NAME = "swap"
TARGET_SWAPS = {"scripted": 1000, "vllm": 200, "lmdeploy": 100}


def site_of(options: argparse.Namespace) -> AbstractAsyncContextManager[Site]:
    """A running Alignway over the engine asked for."""
    if options.engine == "vllm":
        return vllm.opened()
    if options.engine == "lmdeploy":
        return lmdeploy.opened(options.streams, options.database_url)
    return scripted.opened(options.database_url)


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Walk through the releases under load until enough swaps were made, the time is up, or somebody says stop."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with site_of(options) as site:
        walk = Walk(site, random.Random(options.seed))
        deadline = time.monotonic() + options.minutes * 60
        with Progress() as progress:
            task = progress.add_task("swaps", total=options.swaps)
            async with listening(site, options.streams) as heard:
                await walk.go(options.swaps, deadline, lambda: progress.advance(task), stop)
        facts = {"engine": options.engine, "streams": options.streams, "seed": options.seed, **site.facts}
        return facts | figures(walk, heard)


def recorded(engine: str) -> dict[str, int]:
    """What all recorded runs over an engine come to."""
    mine = [run for run in runs(NAME) if run.get("engine", "scripted") == engine]
    return {name: sum(run[name] for run in mine) for name in ("swaps", "answers", "failed", "mixed")}


def main() -> None:
    """Run, record, and say how far the sum of runs is; 1 if anything failed or mixed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.swap", description=__doc__)
    parser.add_argument("--engine", choices=tuple(TARGET_SWAPS), default="scripted")
    parser.add_argument("--swaps", type=int, default=100)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--minutes", type=float, default=40.0, help="begin no swap after so many minutes")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the walk; default: the time")
    parser.add_argument("--database-url", help="PostgreSQL, not for vllm; default: SQLite")
    options = parser.parse_args()
    found = asyncio.run(measure(options))
    path = record(NAME, found)
    total = recorded(options.engine)
    print(f"{json.dumps(found, indent=1)}\n{path}")
    print(f"so far, {options.engine}: {total}, of {TARGET_SWAPS[options.engine]} swaps")
    sys.exit(bool(found["failed"] or found["mixed"] or not found["swaps"]))


if __name__ == "__main__":
    main()
