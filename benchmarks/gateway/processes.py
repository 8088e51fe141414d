"""Processes: pinned to cores, ended in the end, and what the operating system says they used."""

import collections
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGESIZE")
STOP_SECONDS = 20.0


@dataclass(frozen=True)
class Cores:
    """Which core does what."""

    load: int = 0
    """The load, the mock upstream, and a database server."""
    gateway: int = 1
    """The gateway with all its processes."""

    def check(self) -> None:
        """Raises `SystemExit` if this machine does not have them."""
        missing = {self.load, self.gateway} - os.sched_getaffinity(0)
        if missing or self.load == self.gateway:
            have = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
            raise SystemExit(
                f"The load and the gateway need a core each; here are {have}. Choose with --cores LOAD,GW."
            )


@dataclass(frozen=True)
class CpuTime:
    """CPU seconds of some processes and of their children that have ended."""

    user: float
    system: float

    @property
    def total(self) -> float:
        """Both together."""
        return self.user + self.system

    def __sub__(self, earlier: "CpuTime") -> "CpuTime":
        return CpuTime(self.user - earlier.user, self.system - earlier.system)


def tree(root: int) -> list[int]:
    """A process and all its descendants."""
    children: dict[int, list[int]] = collections.defaultdict(list)
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (fields := _stat(int(folder.name))):
            children[int(fields[1])].append(int(folder.name))
    found, todo = [], [root]
    while todo:
        found.append(todo.pop())
        todo += children[found[-1]]
    return found


def with_command(pids: Sequence[int], part: str) -> list[int]:
    """Those of the processes whose command line holds this."""
    return [pid for pid in pids if part.encode() in _read(pid, "cmdline").replace(b"\0", b" ")]


def cpu_time(pids: Sequence[int]) -> CpuTime:
    """User and system time, of children that were reaped too."""
    user = system = 0
    for pid in pids:
        if fields := _stat(pid):
            own_user, own_system, children_user, children_system = (int(field) for field in fields[11:15])
            user, system = user + own_user + children_user, system + own_system + children_system
    return CpuTime(user / TICKS_PER_SECOND, system / TICKS_PER_SECOND)


def threads_cpu(pid: int) -> dict[int, CpuTime]:
    """User and system time of each thread, by its id."""
    found = {}
    for folder in Path(f"/proc/{pid}/task").iterdir():
        if fields := _read(pid, f"task/{folder.name}/stat").rpartition(b")")[2].split():
            found[int(folder.name)] = CpuTime(int(fields[11]) / TICKS_PER_SECOND, int(fields[12]) / TICKS_PER_SECOND)
    return found


def rss_mb(pids: Sequence[int]) -> float:
    """Resident memory; pages that processes share are counted for each."""
    pages = sum(int(fields[1]) for pid in pids if (fields := _read(pid, "statm").split()))
    return pages * PAGE_BYTES / 2**20


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def pinned(
    command: Sequence[str], core: int, log: Path, environment: Mapping[str, str], folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process on one core, as all its descendants are; they are ended with the block."""
    log.parent.mkdir(parents=True, exist_ok=True)
    before = os.sched_getaffinity(0)
    with log.open("ab") as output:
        os.sched_setaffinity(0, {core})  # a child has its parent's cores from its first instruction on
        try:
            process = subprocess.Popen(
                command, cwd=folder, env=dict(environment), stdout=output, stderr=output, start_new_session=True
            )
        finally:
            os.sched_setaffinity(0, before)
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    family = tree(process.pid)
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    deadline = time.monotonic() + 5
    while (left := [pid for pid in family[1:] if _stat(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _stat(pid: int) -> list[bytes]:
    """The fields after the command's name, which may hold blanks; empty if the process is gone."""
    return _read(pid, "stat").rpartition(b")")[2].split()


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
