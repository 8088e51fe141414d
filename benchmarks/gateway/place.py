"""Where a run happens: the folder of the peers, the cores, the upstream."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.gateway.load import Endpoint
from benchmarks.gateway.mock import MODEL
from benchmarks.gateway.processes import Cores, free_port, pinned

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Place:
    """Folder and cores."""

    folder: Path
    cores: Cores

    def log(self, name: str) -> Path:
        """Where a process writes what it has to say."""
        return self.folder / "logs" / f"{name}.log"


@dataclass(frozen=True)
class Upstream:
    """What the gateways stand in front of."""

    url: str
    model: str
    chunks: int | None
    """Text chunks of its streams; None if it is not the mock."""
    process: subprocess.Popen[bytes] | None = None


@dataclass
class Started:
    """A gateway that was started; it may not be ready yet."""

    endpoint: Endpoint
    process: subprocess.Popen[bytes] | None
    """The root of its processes; None if somebody else runs it."""
    worker_command: str = ""
    """Part of the command line of the processes that serve, if there are others."""
    database_pid: int | None = None
    """Root of a database server it uses."""
    facts: dict[str, object] = field(default_factory=dict)
    """What else belongs into its row."""


@contextlib.contextmanager
def mock_upstream(place: Place, chunks: int, pause_ms: float) -> Iterator[Upstream]:
    """The mock, on the core of the load."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.gateway.mock", "--port", str(port)]
    command += ["--chunks", str(chunks), "--pause-ms", str(pause_ms)]
    with pinned(command, place.cores.load, place.log("mock"), os.environ, ROOT) as process:
        yield Upstream(f"http://127.0.0.1:{port}", MODEL, chunks, process)
