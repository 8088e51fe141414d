"""One engine process and everything it started: spawn, find again, end. Knows nothing of releases or HTTP.

The engine leads a session of its own, so that it outlives an agent that is killed, and can be found and ended as a
whole by the next one.
"""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil

from gateway.engines.protocol import Launch
from gateway.errors import StartupFailed

TERM_SECONDS = 10.0
KILL_SECONDS = 5.0
POLL_SECONDS = 0.05
OWNER_VARIABLE = "ALIGNWAY_ENGINE_RECORD"
"""Set to the record's path in each engine's environment: finds one that started but was never recorded."""
START_TICKS_FIELD = 19
"""Position of `starttime` in /proc/PID/stat, counted after the process name."""


def born(pid: int) -> float | None:
    """When a process started, on a clock that never moves; None if there is no such process, or only its remains."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return _start_ticks(pid) or process.create_time()
    except psutil.NoSuchProcess:
        return None


def _start_ticks(pid: int) -> float | None:
    # psutil adds the boot time, which moves when the wall clock is set; the raw ticks since boot do not.
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return float(stat.rpartition(")")[2].split()[START_TICKS_FIELD])
    except (OSError, IndexError, ValueError):
        return None


class EngineProcess:
    """The leader of an engine's session."""

    def __init__(self, pid: int, born_at: float, child: "subprocess.Popen[bytes] | None" = None) -> None:
        self.pid = pid
        self.born_at = born_at
        self._child = child

    @classmethod
    def spawn(cls, launch: Launch, log: Path, record: Path) -> "EngineProcess":
        """Start an engine that writes to `log`; raises `StartupFailed`."""
        environment = {**os.environ, **launch.environment, OWNER_VARIABLE: str(record)}
        try:
            with log.open("ab") as output:
                child = subprocess.Popen(
                    launch.command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise StartupFailed(f"{launch.command[0]} cannot be started: {error}") from error
        return cls(child.pid, born(child.pid) or 0.0, child)

    def alive(self) -> bool:
        """Whether the leader runs."""
        if self._child is not None:
            return self._child.poll() is None
        return born(self.pid) == self.born_at

    async def stop(self) -> None:
        """End the whole session: politely, then by force. Returns when nothing of it runs any more."""
        for number, seconds in ((signal.SIGTERM, TERM_SECONDS), (signal.SIGKILL, KILL_SECONDS)):
            if await self._signal(number, seconds):
                break

    async def _signal(self, number: signal.Signals, seconds: float) -> bool:
        for process in self._members():
            _send(process, number)
        deadline = asyncio.get_running_loop().time() + seconds
        while any(True for _ in self._members()):
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(POLL_SECONDS)
        return True

    def _members(self) -> Iterator[psutil.Process]:
        if self._child is not None:
            self._child.poll()  # else our dead child stays in the process table
        leader = born(self.pid)
        if leader is not None and leader != self.born_at:
            return  # the id is somebody else's by now: nothing of ours is left
        yield from (process for process in psutil.process_iter() if _session(process) == self.pid)


def _session(process: psutil.Process) -> int | None:
    try:
        return None if process.status() == psutil.STATUS_ZOMBIE else os.getsid(process.pid)
    except (psutil.Error, OSError):
        return None


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


async def end_strays(record: Path) -> None:
    """End engines of `record` that an agent started but did not live to record."""
    for process in psutil.process_iter():
        try:
            ours = process.environ().get(OWNER_VARIABLE) == str(record)
        except (psutil.Error, OSError):
            continue
        if ours and _session(process) is not None:
            session = os.getsid(process.pid)
            await EngineProcess(session, born(session) or 0.0).stop()


def free_port(preferred: int | None) -> int:
    """A loopback port that nobody listens on: the preferred one if it is free."""
    for port in (preferred, 0):
        if port is None:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise StartupFailed("no port is free on 127.0.0.1")
