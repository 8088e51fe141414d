"""Swaps under load: two gateway workers, streams without pause, one promotion after another.

    python -m benchmarks.swap --swaps 100 --streams 32 --minutes 40
    python -m benchmarks.swap --engine lmdeploy --swaps 100 --minutes 40

Every answer is checked: it ended, names one release throughout, and every marker in its text is that release's. The
engine is the scripted one, which writes the marker of whatever weights it holds at that very moment, so this proves
the gateway's fence, not an engine's speed. Runs add up: the target is 1,000 swaps over all recorded runs.
"""

import argparse
import asyncio
import contextlib
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.progress import track

from benchmarks.record import record, runs
from benchmarks.swap import lmdeploy
from benchmarks.swap.heard import Heard, figures
from tests.stack import Stack, running, stack_settings

PAUSE_SECONDS = 0.2


async def listen(stack: Stack, heard: Heard, markers: dict[str, str], lane: int) -> None:
    """Ask without pause until cancelled."""
    number = 0
    while True:
        number += 1
        sent = time.monotonic()
        try:
            await listen_once(stack, heard, markers, f"[words:30] lane {lane} question {number}", sent)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # counted, and shown with the figures
            heard.failures.append(f"{type(error).__name__}: {error}"[:200])


async def listen_once(stack: Stack, heard: Heard, markers: dict[str, str], prompt: str, sent: float) -> None:
    """One streamed answer, checked word for word."""
    text, fingerprints, finish, first = "", set(), None, None
    stream = await stack.client.chat.completions.create(
        model="assistant", messages=[{"role": "user", "content": prompt}], stream=True
    )
    async for chunk in stream:
        first = first or time.monotonic() - sent
        fingerprints.add(chunk.system_fingerprint)
        if chunk.choices:
            text += chunk.choices[0].delta.content or ""
            finish = chunk.choices[0].finish_reason or finish
    heard.answers += 1
    heard.first_chunk_seconds.append((sent, first or 0.0))
    if finish is None:
        heard.failures.append("no finish_reason")
    written_by = {word for word in text.split() if word.isupper()}
    if len(fingerprints) != 1 or written_by != {markers[str(next(iter(fingerprints)))]}:
        heard.mixed += 1


async def measure(swaps: int, streams: int, minutes: float, database_url: str | None) -> dict[str, Any]:
    """Promote two releases in turn, under load."""
    with tempfile.TemporaryDirectory() as folder:
        async with running(stack_settings(Path(folder), database_url, server={"workers": 2})) as stack:
            releases = [await stack.make_release(marker) for marker in ("ONE", "TWO")]
            _, alias = await stack.call("GET", "/admin/v1/aliases/assistant")
            markers = {alias["serving_release"]: "BASE", releases[0].id: "ONE", releases[1].id: "TWO"}
            heard, windows = Heard(), list[tuple[float, float]]()
            lanes = [asyncio.create_task(listen(stack, heard, markers, lane)) for lane in range(streams)]
            deadline = time.monotonic() + minutes * 60
            for number in track(range(swaps), description="swaps"):
                if time.monotonic() > deadline:
                    break
                await asyncio.sleep(PAUSE_SECONDS)
                began = time.monotonic()
                rollout = await stack.promote(releases[number % 2].id)
                if (await stack.ended(rollout["id"]))["state"] != "promoted":
                    heard.failures.append(f"rollout {number} was not promoted")
                windows.append((began, time.monotonic()))
            for lane in lanes:
                lane.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*lanes)
            return figures(heard, windows, streams)


ENGINES = {"scripted": ("swap", 1000, measure), "lmdeploy": ("swap-lmdeploy", 100, lmdeploy.measure)}
"""Name of the record, swaps that all recorded runs together are to reach, and what measures."""


def main() -> None:
    """Run, record, and say how far the sum of runs is."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.swap", description=__doc__)
    parser.add_argument("--engine", choices=tuple(ENGINES), default="scripted")
    parser.add_argument("--swaps", type=int, default=100)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--minutes", type=float, default=40.0)
    parser.add_argument("--database-url", help="PostgreSQL; default: SQLite in a temporary folder")
    options = parser.parse_args()
    name, target, run = ENGINES[options.engine]
    found = asyncio.run(run(options.swaps, options.streams, options.minutes, options.database_url))
    path = record(name, found)
    everything = [one for one in runs(name) if one.get("engine", "scripted") == options.engine]
    total, failed = sum(run["swaps"] for run in everything), sum(run["failed"] + run["mixed"] for run in everything)
    print(f"{found}\n{path}\nso far: {total} of {target} swaps, {failed} failed or mixed")


if __name__ == "__main__":
    main()
