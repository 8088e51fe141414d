"""Measures a gateway that is running: a closed loop, an open loop, streams. The operating system says what it cost."""

import asyncio
import gc
import os
import time
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.gateway import load as loads
from benchmarks.gateway.load import Answer, Load
from benchmarks.gateway.place import Started
from benchmarks.gateway.plan import PROBE_STREAMS, PROBES, Plan, bearable_rate, bearable_streams
from benchmarks.gateway.processes import CpuTime, cpu_time, rss_mb, tree, with_command
from benchmarks.record import quantiles


class NotReady(Exception):
    """A gateway did not answer a first request in time, or ended."""


@dataclass(frozen=True)
class Window:
    """What happened while one piece of load ran."""

    answers: list[Answer]
    seconds: float
    all: CpuTime
    """Of the gateway's whole tree."""
    workers: CpuTime
    database: CpuTime

    def us_per(self, cpu: CpuTime, units: int) -> float:
        """Microseconds of CPU for each unit."""
        return round(cpu.total / max(1, units) * 1e6, 2)


@dataclass
class Row:
    """The figures of one gateway; a list has one figure for each window."""

    name: str
    rounds: int = 1
    load_1_minute: list[float] = field(default_factory=list)
    cpu_us_per_request: list[float] = field(default_factory=list)
    worker_cpu_us_per_request: list[float] = field(default_factory=list)
    database_cpu_us_per_request: list[float] = field(default_factory=list)
    system_share: list[float] = field(default_factory=list)
    """How much of the CPU was the kernel's."""
    requests_per_second: list[float] = field(default_factory=list)
    core_busy: list[float] = field(default_factory=list)
    rate: float = 0.0
    latency_ms: dict[str, list[float]] = field(default_factory=dict)
    streams: int = 0
    cpu_us_per_chunk: list[float] = field(default_factory=list)
    worker_cpu_us_per_chunk: list[float] = field(default_factory=list)
    first_chunk_ms: dict[str, list[float]] = field(default_factory=dict)
    rss_mb: float = 0.0
    worker_rss_mb: list[float] = field(default_factory=list)
    processes: int = 0
    answers: int = 0
    wrong: dict[str, int] = field(default_factory=dict)
    without_usage: int = 0
    limit_headers: bool = False
    facts: dict[str, Any] = field(default_factory=dict)

    def with_round(self, later: "Row") -> "Row":
        """The row of this round and a later one: windows stand side by side, counts add up, the worst load counts."""
        found = Row(self.name)
        for name, mine in vars(self).items():
            other = getattr(later, name)
            if isinstance(mine, list) or name in ("rounds", "answers", "without_usage"):
                setattr(found, name, mine + other)
            elif name in ("rss_mb", "processes"):
                setattr(found, name, max(mine, other))
            elif name in ("rate", "streams"):
                setattr(found, name, min(mine, other))
        for name in ("latency_ms", "first_chunk_ms"):
            mine, other = getattr(self, name), getattr(later, name)
            setattr(found, name, {key: mine.get(key, []) + other.get(key, []) for key in mine | other})
        found.wrong = dict(Counter(self.wrong) + Counter(later.wrong))
        added = {key: self.facts[key] + later.facts[key] for key in ("asked", "recorded") if key in self.facts}
        found.facts, found.limit_headers = later.facts | added, later.limit_headers
        return found


class Meter:
    """Takes windows of one gateway's processes."""

    def __init__(self, started: Started) -> None:
        self._started = started

    def pids(self) -> list[int]:
        """The gateway's whole tree."""
        return tree(self._started.process.pid) if self._started.process is not None else []

    def workers(self) -> list[int]:
        """The processes that serve; all of them where none are told apart."""
        pids = self.pids()
        return with_command(pids, self._started.worker_command) if self._started.worker_command else pids

    async def window(self, load: Awaitable[list[Answer]]) -> Window:
        """Run a piece of load and take what it cost."""
        gc.collect()
        before, began = self._now(), time.perf_counter()
        answers = await load
        seconds, after = time.perf_counter() - began, self._now()
        everything, workers, database = (now - then for now, then in zip(after, before, strict=True))
        return Window(answers, seconds, everything, workers, database)

    def _now(self) -> tuple[CpuTime, CpuTime, CpuTime]:
        database = tree(self._started.database_pid) if self._started.database_pid is not None else []
        return cpu_time(self.pids()), cpu_time(self.workers()), cpu_time(database)


async def wait_until_ready(load: Load, started: Started, seconds: float) -> None:
    """Ask until an answer is right. Raises `NotReady`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if started.process is not None and started.process.poll() is not None:
            raise NotReady(f"it ended with {started.process.returncode}")
        try:
            connection = await load.connect()
        except OSError:
            await asyncio.sleep(0.1)
            continue
        answer = await load.ask(connection)
        connection.close()
        if answer is not None:
            load.wrong.clear()
            return
        await asyncio.sleep(0.2)
    raise NotReady(f"no right answer in {seconds:g} s; the last ones: {dict(load.wrong.most_common(2))}")


async def measure(name: str, load: Load, meter: Meter, plan: Plan) -> Row:
    """All parts, one after the other."""
    row = Row(name, load_1_minute=[round(os.getloadavg()[0], 2)])
    await loads.closed_loop(load, plan.connections, plan.warm_seconds)
    await _measure_requests(row, load, meter, plan)
    await _measure_latency(row, load, meter, plan)
    await _measure_streams(row, load, meter, plan)
    row.rss_mb = round(rss_mb(meter.pids()), 1)
    row.worker_rss_mb = [round(rss_mb([pid]), 1) for pid in meter.workers()]
    row.processes = len(meter.pids())
    row.answers, row.wrong, row.without_usage = load.answers, dict(load.wrong), load.without_usage
    row.limit_headers = load.has_limit_headers
    return row


async def _measure_requests(row: Row, load: Load, meter: Meter, plan: Plan) -> None:
    for _ in range(plan.windows):
        window = await meter.window(loads.closed_loop(load, plan.connections, plan.closed_seconds))
        units = len(window.answers)
        row.cpu_us_per_request.append(window.us_per(window.all, units))
        row.worker_cpu_us_per_request.append(window.us_per(window.workers, units))
        row.database_cpu_us_per_request.append(window.us_per(window.database, units))
        row.system_share.append(round(window.all.system / max(window.all.total, 1e-9), 3))
        row.requests_per_second.append(round(units / window.seconds, 1))
        row.core_busy.append(round(window.all.total / window.seconds, 3))


async def _measure_latency(row: Row, load: Load, meter: Meter, plan: Plan) -> None:
    row.rate = round(bearable_rate(plan, min(row.requests_per_second)), 1)
    for _ in range(plan.windows):
        window = await meter.window(loads.open_loop(load, row.rate, plan.open_seconds))
        _add_quantiles(row.latency_ms, [answer.seconds for answer in window.answers])


async def _measure_streams(row: Row, load: Load, meter: Meter, plan: Plan) -> None:
    row.streams = min(PROBE_STREAMS, plan.streams)
    for number in range(PROBES):
        probe = await meter.window(loads.streams(load, row.streams, 1, 0.2))
        if number:  # the first one warms this path
            row.streams = bearable_streams(plan, probe.us_per(probe.all, _chunks(probe)))
    for _ in range(plan.windows):
        window = await meter.window(loads.streams(load, row.streams, plan.streams_each, plan.stream_seconds))
        row.cpu_us_per_chunk.append(window.us_per(window.all, _chunks(window)))
        row.worker_cpu_us_per_chunk.append(window.us_per(window.workers, _chunks(window)))
        _add_quantiles(row.first_chunk_ms, [answer.first_chunk_seconds for answer in window.answers])


def _chunks(window: Window) -> int:
    return sum(answer.chunks for answer in window.answers)


def _add_quantiles(found: dict[str, list[float]], seconds: list[float]) -> None:
    for name, value in quantiles(seconds).items():
        found.setdefault(name, []).append(round(value * 1e3, 3))
