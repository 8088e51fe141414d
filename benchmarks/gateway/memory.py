"""Memory over many requests: the resident size of each of Alignway's workers after 10, 50 and 100 percent of them."""

import asyncio
from typing import Any

from benchmarks.gateway import load as loads
from benchmarks.gateway.load import Load
from benchmarks.gateway.measure import Meter
from benchmarks.gateway.processes import rss_mb

MARKS = (0.1, 0.5, 1.0)
CONNECTIONS = 64
STREAM_EVERY = 10
SETTLE_SECONDS = 2.0
LIMIT_MB = 100.0
FLAT_SHARE = 0.05
"""Growth over the second half that still counts as flat."""


async def measure_memory(load: Load, meter: Meter, requests: int) -> dict[str, Any]:
    """Ask so often, a tenth of it streamed, and look at the workers at each mark."""
    sizes: dict[str, list[float]] = {}
    asked = 0
    for mark in MARKS:
        until = int(requests * mark)
        await loads.counted(load, CONNECTIONS, until - asked, STREAM_EVERY)
        asked = until
        await asyncio.sleep(SETTLE_SECONDS)  # what waits to be recorded is not memory that stays
        sizes[str(asked)] = [round(rss_mb([pid]), 1) for pid in meter.workers()]
    return {"requests": requests, "answers": load.answers, "wrong": dict(load.wrong), "worker_rss_mb": sizes}


def judge(figures: dict[str, Any]) -> list[str]:
    """Met or missed: size and growth."""
    half, end = list(figures["worker_rss_mb"].values())[-2:]
    growth = max(last / first - 1 for first, last in zip(half, end, strict=True))
    size = max(end)
    return [
        f"memory of the largest worker: {size:.1f} MB, limit {LIMIT_MB:g}: {'met' if size < LIMIT_MB else 'MISSED'}",
        f"growth over the second half: {100 * growth:.1f} %, limit {100 * FLAT_SHARE:g}: "
        f"{'met' if growth <= FLAT_SHARE else 'MISSED'}",
        f"wrong or failed: {sum(figures['wrong'].values())} of {figures['requests']}",
    ]
