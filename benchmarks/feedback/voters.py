"""Clients that vote without pause, in a process of their own: `python -m benchmarks.feedback.voters`, JSON in and out.

Every second vote compares two choices, which makes a pair; every other one is a thumb. Each names an end user. What
comes in the first seconds is not counted.
"""

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass, field

import uvloop

from benchmarks.gateway.load import Connection, Endpoint, post
from benchmarks.record import quantiles

RATERS = 5000


@dataclass
class Asked:
    """What the clients are to do."""

    port: int
    key: str
    clients: int
    seconds: float
    warm_up_seconds: float
    completions: list[str]


@dataclass
class Seen:
    """What became of it."""

    acknowledged: int = 0
    seconds: list[float] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)


def vote_of(number: int, completion_id: str) -> dict[str, object]:
    """The vote on a completion."""
    rater = {"id": f"user-{number % RATERS}"}
    if number % 2:
        target = {"completion_id": completion_id, "index": 0}
        return {"type": "rating", "target": target, "name": "thumbs", "value": number % 4 == 1, "rater": rater}
    chosen, rejected = ({"completion_id": completion_id, "index": index} for index in (0, 1))
    return {"type": "preference", "chosen": chosen, "rejected": [rejected], "rater": rater}


async def run(asked: Asked) -> tuple[Seen, float]:
    """Vote until the time is up or every completion has its vote; what was seen, and how long it was measured."""
    seen, numbers = Seen(), iter(enumerate(asked.completions))
    endpoint = Endpoint("127.0.0.1", asked.port, "assistant", {"authorization": f"Bearer {asked.key}"})
    begin = time.perf_counter() + asked.warm_up_seconds
    end = begin + asked.seconds

    async def client() -> None:
        _, connection = await asyncio.get_running_loop().create_connection(Connection, endpoint.host, endpoint.port)
        for number, completion_id in numbers:
            request = post(endpoint, "/v1/feedback", vote_of(number, completion_id))
            sent = time.perf_counter()
            if sent >= end:
                break
            status = await connection.send(request)
            if status != 201:
                reason = f"{status} {bytes(connection.body[:100])!r}"
                seen.failures[reason] = seen.failures.get(reason, 0) + 1
            elif begin <= connection.ended_at <= end:
                seen.acknowledged += 1
                seen.seconds.append(connection.ended_at - sent)
        connection.close()

    await asyncio.gather(*(client() for _ in range(asked.clients)))
    return seen, min(end, time.perf_counter()) - begin


def main() -> None:
    """Read what to do, do it, write what was seen."""
    asked = Asked(**json.loads(sys.stdin.read()))
    seen, measured = uvloop.run(run(asked))
    told = asdict(seen) | {"seconds": quantiles(seen.seconds), "measured_seconds": measured}
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main()
