"""Where Alignway's microseconds go: py-spy looks at the worker under load, Python and native frames alike.

Shares of samples are turned into microseconds with the CPU time of a window that nobody was looking at. Where py-spy
may not attach, cProfile runs inside the worker: it sees no native frames and makes small functions look dear.
"""

import asyncio
import os
import pstats
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks.gateway import load as loads
from benchmarks.gateway.goals import OURS
from benchmarks.gateway.load import Answer, Load
from benchmarks.gateway.measure import Meter, Window
from benchmarks.gateway.place import Started
from benchmarks.gateway.run import Bench
from benchmarks.gateway.stacks import Stacks, page

PY_SPY = "py-spy==0.4.1"
SAMPLES_PER_SECOND = 400
CONNECTIONS, STREAMS = 64, 100
HOOK = Path(__file__).parent / "profiled"
"""A `sitecustomize` that runs a worker under cProfile."""


def profile(bench: Bench, seconds: float, say: Callable[[str], None]) -> Path:
    """Profile one worker under whole answers, then under streams; the page with the tables."""
    folder = bench.place.folder / "profile" / time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    folder.mkdir(parents=True)
    py_spy = _py_spy(bench.place.folder)

    async def work(load: Load, started: Started) -> list[str]:
        meter, parts = Meter(started), []
        for kind, units, make in _loads(load, seconds, bench.plan.stream_seconds):
            await make(min(3.0, seconds))
            calm = await meter.window(make(seconds))
            stacks = await _sample(py_spy, meter.workers()[0], seconds, folder / f"{kind}.txt", make)
            parts.append(page(f"{kind}s", calm.us_per(calm.workers, units(calm)), kind, stacks))
            await _flamegraph(py_spy, meter.workers()[0], seconds / 2, folder / f"{kind}.svg", make)
        return parts

    try:
        parts, _ = bench.with_gateway(OURS, work)
    except PermissionError as error:
        say(f"py-spy may not attach ({error}); falling back to cProfile")
        parts = [_under_cprofile(bench, seconds)]
    path = folder / "profile.md"
    path.write_text("\n".join(["# Where the CPU of a worker goes", *parts]))
    say(path.read_text())
    return path


Make = Callable[[float], Awaitable[list[Answer]]]


def _loads(load: Load, seconds: float, stream_seconds: float) -> list[tuple[str, Callable[[Window], int], Make]]:
    def whole(for_seconds: float) -> Awaitable[list[Answer]]:
        return loads.closed_loop(load, CONNECTIONS, for_seconds)

    def streamed(for_seconds: float) -> Awaitable[list[Answer]]:
        each = max(1, round(for_seconds / stream_seconds))
        return loads.streams(load, STREAMS, each, stream_seconds)

    def chunks(window: Window) -> int:
        return sum(answer.chunks for answer in window.answers)

    return [("request", lambda window: len(window.answers), whole), ("chunk", chunks, streamed)]


async def _sample(py_spy: str, pid: int, seconds: float, file: Path, make: Make) -> Stacks:
    """Collapsed stacks of the worker under load. Raises `PermissionError`."""
    await _record(py_spy, pid, seconds, file, make, "--format", "raw", "--function")
    return Stacks.read(file.read_text())


async def _flamegraph(py_spy: str, pid: int, seconds: float, file: Path, make: Make) -> None:
    await _record(py_spy, pid, seconds, file, make, "--format", "flamegraph")


async def _record(py_spy: str, pid: int, seconds: float, file: Path, make: Make, *options: str) -> None:
    command = [py_spy, "record", "--pid", str(pid), "--native", "--nonblocking", "--rate", str(SAMPLES_PER_SECOND)]
    command += ["--duration", str(max(1, round(seconds))), "--output", str(file), *options]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, (_, said) = await asyncio.gather(make(seconds + 1), process.communicate())
    if process.returncode != 0 or not file.is_file():
        raise PermissionError(said.decode(errors="replace").strip()[-300:])


def _py_spy(folder: Path) -> str:
    """py-spy in an environment of its own, installed if need be."""
    home = folder / "py-spy"
    program = home / "venv/bin/py-spy"
    if not program.is_file():
        subprocess.run([sys.executable, "-m", "venv", str(home / "venv")], check=True)
        subprocess.run([str(home / "venv/bin/python"), "-m", "pip", "install", "--quiet", PY_SPY], check=True)
    return str(program)


def _under_cprofile(bench: Bench, seconds: float) -> str:
    """The table of cProfile, from a worker that runs under it from its start to its end."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "worker.pstats"
        os.environ |= {"PYTHONPATH": str(HOOK), "BENCHMARK_PROFILE": str(found)}

        async def work(load: Load, _: Started) -> int:
            return len(await loads.closed_loop(load, CONNECTIONS, seconds))

        answers, _ = bench.with_gateway(OURS, work)
        return _cprofile_table(pstats.Stats(str(found)), answers)


def _cprofile_table(stats: Any, answers: int) -> str:
    lines = ["## cProfile, whole answers", "", "| us/request | calls/request | function |", "|--:|--:|---|"]
    entries = sorted(stats.stats.items(), key=lambda entry: -entry[1][2])
    for (file, line, name), (_, calls, own, *_rest) in entries[:40]:
        where = f"{Path(file).name}:{line}" if line else ""
        lines.append(f"| {1e6 * own / answers:.1f} | {calls / answers:.2f} | `{name}` {where} |")
    return "\n".join(lines)
