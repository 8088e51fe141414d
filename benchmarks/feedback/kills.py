"""Votes while the gateway is killed with SIGKILL again and again: none that was acknowledged is lost, none is doubled.

Clients vote and send each vote again until it is acknowledged, as any client may; every fourth vote carries an
`Idempotency-Key`. The whole gateway, supervisor and workers, is killed at a moment that chance picks, and started anew.
In the end the database must hold each acknowledged vote exactly once, with one revision and the pair that it makes, and
nothing that nobody sent. Runs add up: the target is 100 kills over all recorded runs.
"""

import asyncio
import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from rich.console import Console
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from benchmarks.feedback.site import Site, fill, make_site
from benchmarks.gateway.processes import tree
from benchmarks.record import record, runs
from gateway.storage.database import Database
from gateway.storage.feedback_tables import Feedback, FeedbackRevision, PairRow

NAME = "feedback-kills"
TARGET_KILLS = 100
CLIENTS = 16
VOTES_AT_MOST = 50_000
"""In one run; a run that has had them all goes on killing, but nobody votes."""
LONGEST_LIFE_SECONDS = 2.0
"""From the first acknowledged vote to the kill, at most."""
RETRY_SECONDS = 0.05
console = Console(stderr=True)


@dataclass
class Seen:
    """What the clients and the killer saw."""

    acknowledged: dict[str, str] = field(default_factory=dict)
    """Completion: id of its vote."""
    sent: set[str] = field(default_factory=set)
    retries: int = 0
    with_key: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    kills: int = 0


async def vote_until(
    site: Site,
    session: aiohttp.ClientSession,
    seen: Seen,
    completions: Iterator[tuple[int, str]],
    stop: asyncio.Event,
) -> None:
    """Vote without pause; a vote once begun is sent until it is acknowledged."""
    for number, completion_id in completions:
        if stop.is_set():
            return
        seen.sent.add(completion_id)
        await _vote(site, session, seen, number, completion_id)


async def _vote(site: Site, session: aiohttp.ClientSession, seen: Seen, number: int, completion_id: str) -> None:
    chosen, rejected = ({"completion_id": completion_id, "index": index} for index in (0, 1))
    body = {"type": "preference", "chosen": chosen, "rejected": [rejected], "rater": {"id": f"user-{number % 50}"}}
    headers = {"authorization": f"Bearer {site.key}"}
    if number % 4 == 0:
        headers["idempotency-key"] = f"vote-{number}"
        seen.with_key += 1
    while True:
        try:
            async with session.post(
                f"http://127.0.0.1:{site.port}/v1/feedback", json=body, headers=headers
            ) as response:
                answer = await response.json()
                if response.status in (200, 201):
                    seen.acknowledged[completion_id] = answer["id"]
                    return
                if response.status not in (409, 429, 503):
                    seen.refused[f"{response.status} {answer}"[:200]] += 1
                    return
        except (aiohttp.ClientError, OSError, json.JSONDecodeError, TimeoutError):
            pass
        seen.retries += 1
        await asyncio.sleep(RETRY_SECONDS)


async def kill_again_and_again(site: Site, seen: Seen, kills: int, deadline: float, chance: random.Random) -> None:
    """Start the gateway, let it take votes in for a moment, kill all of it; so often, or until the deadline."""
    while seen.kills < kills and time.monotonic() < deadline:
        before, began = len(seen.acknowledged), time.monotonic()
        process = site.start()
        while len(seen.acknowledged) == before and time.monotonic() < min(deadline, began + 120):
            if process.poll() is not None:
                raise SystemExit((site.folder / "gateway.log").read_text(errors="replace")[-2000:])
            await asyncio.sleep(0.02)
        await asyncio.sleep(chance.uniform(0.0, LONGEST_LIFE_SECONDS))
        _kill(process)
        seen.kills += 1
        console.print(f"kill {seen.kills} of {kills}: {len(seen.acknowledged)} votes, {seen.retries} retries")


def _kill(process: subprocess.Popen[bytes]) -> None:
    for pid in tree(process.pid):
        os.kill(pid, signal.SIGKILL)
    process.wait()


async def _run(site: Site, kills: int, minutes: float, seed: int, completions: list[str]) -> Seen:
    seen, stop, numbers = Seen(), asyncio.Event(), iter(enumerate(completions))
    deadline = time.monotonic() + minutes * 60
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as session:
        clients = [asyncio.create_task(vote_until(site, session, seen, numbers, stop)) for _ in range(CLIENTS)]
        await kill_again_and_again(site, seen, kills, deadline, random.Random(seed))
        stop.set()
        last = site.start()  # so that whoever still waits for an answer gets one
        try:
            await asyncio.wait_for(asyncio.gather(*clients), 120)
        finally:
            last.terminate()
            await asyncio.to_thread(last.wait, 30)
    return seen


async def count(url: str, seen: Seen) -> dict[str, int]:
    """What the database holds against what was acknowledged."""
    database = Database(url)
    async with database.read() as session:
        rows = (await session.execute(select(Feedback.id, Feedback.body))).all()
        revisions = await _by_vote(session, FeedbackRevision)
        pairs = await _by_vote(session, PairRow)
    await database.close()
    stored: dict[str, list[str]] = {}
    for id_, body in rows:
        stored.setdefault(body["chosen"]["completion_id"], []).append(id_)
    return {
        "stored": len(rows),
        "lost": sum(id_ not in stored.get(completion, ()) for completion, id_ in seen.acknowledged.items()),
        "doubled": sum(len(ids) > 1 for ids in stored.values()),
        "not_sent": len(stored.keys() - seen.sent),
        "without_their_one_pair": sum(pairs.get(id_) != 1 or revisions.get(id_) != 1 for id_, _ in rows),
    }


async def _by_vote(session: AsyncSession, table: type[FeedbackRevision] | type[PairRow]) -> dict[str, int]:
    statement = select(table.feedback_id, func.count()).group_by(table.feedback_id)
    return {row[0]: row[1] for row in await session.execute(statement)}


def measure(database: str, kills: int, minutes: float, seed: int) -> dict[str, Any]:
    """Kill so often on one kind of database, two workers each time."""
    with make_site(database, workers=2) as site:
        completions = fill(site.database_url, VOTES_AT_MOST)
        began = time.monotonic()
        seen = asyncio.run(_run(site, kills, minutes, seed, completions))
        found = asyncio.run(count(site.database_url, seen))
    return {
        "database": database,
        "kills": seen.kills,
        "seconds": round(time.monotonic() - began),
        "acknowledged": len(seen.acknowledged),
        "with_idempotency_key": seen.with_key,
        "retries": seen.retries,
        "refused": dict(seen.refused),
        "seed": seed,
        **found,
    }


def run(databases: list[str], kills: int, minutes: float, seed: int, as_json: bool) -> int:
    """Kill, record, and say how far the sum of all runs is; 1 if a vote was lost, doubled or refused."""
    share = minutes / len(databases)
    figures = [measure(database, -(-kills // len(databases)), share, seed) for database in databases]
    path = record(NAME, {"runs": figures})
    everything = [one for run_ in runs(NAME) for one in run_["runs"]]
    total = {name: sum(one[name] for one in everything) for name in ("kills", "acknowledged", "lost", "doubled")}
    if as_json:
        print(json.dumps({"runs": figures, "recorded": str(path), "so_far": total, "target_kills": TARGET_KILLS}))
    else:
        for one in figures:
            print(f"{one['database']}: {one}")
        print(f"{path}\nso far: {total}, of {TARGET_KILLS} kills")
    return int(any(one["lost"] or one["doubled"] or one["not_sent"] or one["refused"] for one in figures))
