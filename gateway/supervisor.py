"""Keeps child processes running: one that dies is started again with back-off; all leave in good order at the end.

Each child gets what it needs to know as a line on its standard input, which then stays open as its lifeline.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 15.0
STEADY_SECONDS = 30.0
"""A child that ran this long did not fail at its start: the back-off begins anew."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ChildSpec:
    """How to start a child."""

    name: str
    command: Sequence[str]
    first_line: bytes = b""
    """Written to its standard input, which is then kept open."""
    environment: Mapping[str, str] = field(default_factory=dict)
    pass_fds: Sequence[int] = ()
    log_file: Path | None = None
    """Where its output goes; default: where ours goes."""
    stop_seconds: float = 30.0
    """After SIGTERM it has this long, then it is killed."""
    stop_order: int = 0
    """Children of the same order are told to leave together, lower ones first."""


class Supervisor:
    """Runs children until told to stop."""

    def __init__(self) -> None:
        self._keepers: list[tuple[ChildSpec, asyncio.Task[None]]] = []
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self.restarts: dict[str, int] = {}

    def start(self, spec: ChildSpec) -> None:
        """Start a child and keep it running."""
        self._keepers.append((spec, asyncio.create_task(self._keep(spec), name=f"keep {spec.name}")))

    def pid(self, name: str) -> int | None:
        """The process id of a child that is running."""
        process = self._processes.get(name)
        return process.pid if process is not None and process.returncode is None else None

    async def stop(self) -> None:
        """End the children: those of the lowest `stop_order` together, then the next; each is given its time."""
        for order in sorted({spec.stop_order for spec, _ in self._keepers}):
            leaving = [(spec, keeper) for spec, keeper in self._keepers if spec.stop_order == order]
            await asyncio.gather(*(self._stop_keeping(spec, keeper) for spec, keeper in leaving))
        self._keepers.clear()

    async def _stop_keeping(self, spec: ChildSpec, keeper: asyncio.Task[None]) -> None:
        keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await keeper
        await self._end(spec)

    async def _keep(self, spec: ChildSpec) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            began = time.monotonic()
            code: int | str
            try:
                code = await self._run_once(spec)
            except OSError as error:  # no memory or no process to be had: that may pass
                code = str(error)
            if time.monotonic() - began >= STEADY_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            self.restarts[spec.name] = self.restarts.get(spec.name, 0) + 1
            log.warning("child_ended", child=spec.name, exit_code=code, restart_in_seconds=pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _run_once(self, spec: ChildSpec) -> int:
        output = _open_log(spec.log_file)
        try:
            process = await asyncio.create_subprocess_exec(
                *spec.command,
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                env={**os.environ, **spec.environment},
                pass_fds=tuple(spec.pass_fds),
                # Ctrl-C reaches the whole foreground group; only we may tell the children to leave.
                start_new_session=True,
            )
        finally:
            if output is not None:
                os.close(output)
        self._processes[spec.name] = process
        log.info("child_started", child=spec.name, pid=process.pid)
        if process.stdin is not None and spec.first_line:
            process.stdin.write(spec.first_line + b"\n")
            with contextlib.suppress(ConnectionError):
                await process.stdin.drain()
        return await process.wait()

    async def _end(self, spec: ChildSpec) -> None:
        process = self._processes.pop(spec.name, None)
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(spec.stop_seconds):
                await process.wait()
        except TimeoutError:
            log.warning("child_killed", child=spec.name, after_seconds=spec.stop_seconds)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def python_module(module: str, *arguments: str) -> list[str]:
    """The command that runs a module with this Python."""
    return [sys.executable, "-m", module, *arguments]


def _open_log(path: Path | None) -> int | None:
    if path is None:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
