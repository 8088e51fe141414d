"""kill -9 of the aligner at a random moment of a run, twice: each run ends in exactly one release."""

import asyncio
import os
import random
import signal
import sys
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select

from gateway.contracts.seal import verify_seal
from gateway.storage.database import Database
from gateway.storage.feedback_tables import Run
from gateway.storage.tables import ReleaseRow
from gateway.supervisor import ChildSpec, Supervisor
from tests.alignment.test_cycle import aligned_releases, current, database, eventually, fill, queue

__all__ = ["database"]  # a fixture

KILLS = 2
LEASE_SECONDS = 2.0
ALIGNER = """
import asyncio, sys
from pathlib import Path
from alignment.worker import Worker
from gateway.storage.database import Database
worker = Worker(Database(sys.argv[1]), Path(sys.argv[2]), poll_seconds=0.1, lease_seconds=float(sys.argv[3]))
asyncio.run(worker.serve())
"""


async def is_in(database: Database, run: Run, *states: str) -> bool:
    return (await current(database, run)).state in states


@pytest.mark.timeout(600)
async def test_each_killed_run_ends_in_exactly_one_sealed_release(
    database: Database,
    store: Path,
    tiny_model: Path,
) -> None:
    chance = random.Random(5)
    command = [sys.executable, "-c", ALIGNER, database.url, str(store), str(LEASE_SECONDS)]
    supervisor = Supervisor()
    supervisor.start(ChildSpec("aligner", command, log_file=store / "aligner.log", stop_seconds=5))
    run = await fill(database, tiny_model, 30, {"max_steps": 8})
    try:
        for number in range(KILLS):
            if number:
                run = await queue(database, {"max_steps": 8})
            await eventually(partial(is_in, database, run, "running"))
            await asyncio.sleep(chance.uniform(0.0, 6.0))
            if (pid := supervisor.pid("aligner")) is not None:
                os.kill(pid, signal.SIGKILL)
            await eventually(partial(is_in, database, run, "succeeded", "failed"))
            assert (await current(database, run)).state == "succeeded", (await current(database, run)).error
            assert len(await aligned_releases(database)) == number + 1
    finally:
        await supervisor.stop()
    async with database.read() as session:
        releases = (await session.scalars(select(ReleaseRow).where(ReleaseRow.kind == "aligned"))).all()
    for release in releases:
        verify_seal(store / release.location, release.id)
    assert len({release.name for release in releases}) == KILLS
    kept = {path.name for path in (store / "releases" / "assistant").iterdir()}
    assert kept == {release.id for release in releases}
