"""Votes sent the moment an answer is there, to either of two workers: every one must find its completion.

Which process holds a connection is asked of the operating system, so half of the votes go to the worker that did not
write the answer, by design and not by luck.
"""

import asyncio
import itertools
import time
from collections import Counter
from typing import Any

import msgspec
import psutil

from benchmarks.gateway.load import Connection, Load, post
from benchmarks.gateway.place import Started
from benchmarks.record import quantiles

LANES = 16
CONNECTIONS_TRIED = 400
FEEDBACK_PATH = "/v1/feedback"


async def measure_votes(load: Load, started: Started, tries: int) -> dict[str, Any]:
    """Answer, vote at once, look at what the vote was answered; so often."""
    numbers = itertools.count()
    said: Counter[str] = Counter()
    seconds: list[float] = []
    lanes = await _lanes(load, started)

    async def lane(pair: tuple[Connection, Connection]) -> None:
        while (number := next(numbers)) < tries:
            # Four kinds of tries in turn: either worker answers, and the same or the other one gets the vote.
            answering, voting = pair[number % 2], pair[(number // 2) % 2]
            which = "same worker" if answering is voting else "other worker"
            said[f"{which}: {await _one(load, answering, voting, number % 10 == 0, seconds)}"] += 1

    await asyncio.gather(*(lane(pair) for pair in lanes))
    for connection in itertools.chain.from_iterable(lanes):
        connection.close()
    not_found = sum(count for what, count in said.items() if "404" in what)
    return {
        "tries": tries,
        "votes": dict(said),
        "false_not_found": not_found,
        "wrong_answers": dict(load.wrong),
        "vote_seconds": quantiles(seconds),
    }


def judge(figures: dict[str, Any]) -> list[str]:
    """Met or missed."""
    recorded = sum(count for what, count in figures["votes"].items() if what.endswith(": recorded"))
    verdict = "met" if recorded == figures["tries"] else "MISSED"
    return [f"votes that found their completion: {recorded} of {figures['tries']} ({figures['votes']}): {verdict}"]


async def _one(load: Load, answering: Connection, voting: Connection, stream: bool, seconds: list[float]) -> str:
    answer = await load.ask(answering, stream)
    if answer is None:
        return "no answer to vote on"
    vote = {
        "type": "correction",
        "target": {"completion_id": _completion_id(bytes(answering.body)), "index": 0},
        "message": {"role": "assistant", "content": f"A better answer, number {load.answers}."},
    }
    began = time.perf_counter()
    try:
        status = await voting.send(post(load.endpoint, FEEDBACK_PATH, vote))
    except OSError as error:
        return f"failed: {error}"
    seconds.append(time.perf_counter() - began)
    return "recorded" if status in (200, 201) else f"{status} {bytes(voting.body[:120])!r}"


def _completion_id(body: bytes) -> str:
    """The id of an answer, whole or streamed."""
    first = body.partition(b"\n\n")[0].removeprefix(b"data:") if body.startswith(b"data:") else body
    return str(msgspec.json.decode(first)["id"])


async def _lanes(load: Load, started: Started) -> list[tuple[Connection, Connection]]:
    """Pairs of connections, one to each worker. Raises `SystemExit` if one worker gets none."""
    by_worker: dict[int, list[Connection]] = {}
    for _ in range(CONNECTIONS_TRIED // LANES):
        opened = [await load.connect() for _ in range(LANES)]
        await asyncio.gather(*(load.ask(connection) for connection in opened))  # a worker has accepted it by then
        holders = _holders(started, load.endpoint.port)
        for connection in opened:
            by_worker.setdefault(holders[connection.client_port()], []).append(connection)
        if len(by_worker) == 2 and min(map(len, by_worker.values())) >= LANES:
            break
    if len(by_worker) != 2:
        raise SystemExit(f"two workers should share the connections, but {len(by_worker)} had them all")
    one, two = by_worker.values()
    for connection in one[LANES:] + two[LANES:]:
        connection.close()
    return list(zip(one, two, strict=False))[:LANES]


def _holders(started: Started, port: int) -> dict[int, int]:
    """The process at the other end of each connection, by the client's port."""
    own = psutil.Process().pid
    return {
        found.raddr.port: found.pid
        for found in psutil.net_connections("tcp")
        if found.raddr and found.laddr.port == port and found.pid not in (None, own)
    }
