"""Where Alignway's microseconds go, from three sides.

- CPU of each thread: the operating system's word, from a window that nobody was looking at.
- Python functions: py-spy reads who holds the interpreter, without stopping the worker. Work without the interpreter
  (the kernel's polls and reads, SQLite's commits) is not seen.
- Native functions: py-spy stops the worker to unwind, a few times a second, which slows it down.

Where py-spy may not attach, cProfile runs inside the worker: it makes small functions look dear.
"""

import asyncio
import os
import pstats
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gateway import load as loads
from benchmarks.gateway.goals import OURS
from benchmarks.gateway.load import Answer, Load
from benchmarks.gateway.measure import Meter, Window
from benchmarks.gateway.place import Started
from benchmarks.gateway.processes import CpuTime, threads_cpu
from benchmarks.gateway.run import Bench
from benchmarks.gateway.stacks import Stacks, native_tables, python_tables, thread_table

PY_SPY = "py-spy==0.4.1"
PYTHON_LOOK = ("--nonblocking", "--gil", "--rate", "200")
NATIVE_RATE = 20
NATIVE_LOOK = ("--native", "--rate", str(NATIVE_RATE))
CONNECTIONS, STREAMS = 64, 100
HOOK = Path(__file__).parent / "profiled"
"""A `sitecustomize` that runs a worker under cProfile."""

Make = Callable[[float], Awaitable[list[Answer]]]
"""A load of so many seconds."""


@dataclass(frozen=True)
class Kind:
    """What is profiled: whole answers, or streams."""

    unit: str
    make: Make
    units: Callable[[Window], int]

    def per_second(self, window: Window) -> float:
        """How much was done."""
        return self.units(window) / window.seconds


def profile(bench: Bench, seconds: float, say: Callable[[str], None]) -> Path:
    """Profile one worker under whole answers, then under streams; the page with the tables."""
    folder = bench.place.folder / "profile" / time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    folder.mkdir(parents=True)
    spy = Spy(_py_spy(bench.place.folder), folder)

    async def work(load: Load, started: Started) -> list[str]:
        kinds = _kinds(load, bench.plan.stream_seconds)
        return [await _profile_kind(spy, kind, Meter(started), seconds) for kind in kinds]

    try:
        parts, _ = bench.with_gateway(OURS, work)
    except PermissionError as error:
        say(f"py-spy may not attach ({error}); falling back to cProfile")
        parts = [_under_cprofile(bench, seconds)]
    path = folder / "profile.md"
    path.write_text("\n".join(["# Where the CPU of a worker goes", *parts]) + "\n")
    say(path.read_text())
    return path


def _kinds(load: Load, stream_seconds: float) -> list[Kind]:
    def whole(seconds: float) -> Awaitable[list[Answer]]:
        return loads.closed_loop(load, CONNECTIONS, seconds)

    def streamed(seconds: float) -> Awaitable[list[Answer]]:
        return loads.streams(load, STREAMS, max(1, round(seconds / stream_seconds)), stream_seconds)

    def chunks(window: Window) -> int:
        return sum(answer.chunks for answer in window.answers)

    return [Kind("request", whole, lambda window: len(window.answers)), Kind("chunk", streamed, chunks)]


async def _profile_kind(spy: "Spy", kind: Kind, meter: Meter, seconds: float) -> str:
    await kind.make(min(3.0, seconds))
    worker = meter.workers()[0]
    before = threads_cpu(worker)
    calm = await meter.window(kind.make(seconds))
    threads = {tid: cpu - before.get(tid, CpuTime(0, 0)) for tid, cpu in threads_cpu(worker).items()}
    us_each = calm.us_per(calm.workers, kind.units(calm))
    python, watched = await spy.look(PYTHON_LOOK, kind, meter, seconds, f"{kind.unit}.txt")
    native, slowed = await spy.look(NATIVE_LOOK, kind, meter, seconds, f"{kind.unit}-native.txt")
    native = native.busy(slowed.workers.total / slowed.seconds * seconds * NATIVE_RATE)
    await spy.flamegraph(kind, worker, seconds, f"{kind.unit}.svg")
    done, used = kind.per_second(calm), calm.workers
    parts = [
        f"\n## {kind.unit}s: {us_each:.1f} us of worker CPU each\n\n{100 * used.system / used.total:.0f} % of it in "
        f"the kernel; {done:.0f} a second, {100 * used.total / calm.seconds:.0f} % of the core.",
        thread_table(threads, python.thread_names(), kind.units(calm), kind.unit),
        python_tables(python, us_each, kind.unit, kind.per_second(watched) / done),
        native_tables(native, us_each, kind.unit, kind.per_second(slowed) / done),
    ]
    return "\n".join(parts)


@dataclass(frozen=True)
class Spy:
    """py-spy, and where its records go."""

    program: str
    folder: Path

    async def look(
        self, options: Sequence[str], kind: Kind, meter: Meter, seconds: float, name: str
    ) -> tuple[Stacks, Window]:
        """Stacks of the worker under load, and what it did meanwhile. Raises `PermissionError`."""
        pid, file = meter.workers()[0], self.folder / name
        options = [*options, "--threads", "--function", "--format", "raw"]
        window = await meter.window(self._record(options, pid, seconds, file, kind.make))
        return Stacks.read(file.read_text(errors="replace")), window

    async def flamegraph(self, kind: Kind, pid: int, seconds: float, name: str) -> None:
        """A picture to click through."""
        await self._record(PYTHON_LOOK, pid, seconds, self.folder / name, kind.make)

    async def _record(self, options: Sequence[str], pid: int, seconds: float, file: Path, make: Make) -> list[Answer]:
        command = [self.program, "record", "--pid", str(pid), "--duration", str(max(1, round(seconds))), *options]
        process = await asyncio.create_subprocess_exec(
            *command, "--output", str(file), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        answers, (_, said) = await asyncio.gather(make(seconds + 1), process.communicate())
        if process.returncode != 0 or not file.is_file():
            raise PermissionError(said.decode(errors="replace").strip()[-300:])
        return answers


def _py_spy(folder: Path) -> str:
    """py-spy in an environment of its own, installed if need be."""
    home = folder / "py-spy"
    program = home / "venv/bin/py-spy"
    if not program.is_file():
        subprocess.run([sys.executable, "-m", "venv", str(home / "venv")], check=True)
        subprocess.run([str(home / "venv/bin/python"), "-m", "pip", "install", "--quiet", PY_SPY], check=True)
    return str(program)


def _under_cprofile(bench: Bench, seconds: float) -> str:
    """The table of cProfile, from a worker that is warm when it begins."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "worker.pstats"
        os.environ |= {"PYTHONPATH": str(HOOK), "BENCHMARK_PROFILE": str(found)}

        async def work(load: Load, started: Started) -> int:
            await loads.closed_loop(load, CONNECTIONS, min(3.0, seconds))
            os.kill(Meter(started).workers()[0], signal.SIGUSR1)  # from here on
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
